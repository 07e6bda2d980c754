// What becomes of a sum before it is stored: y = activation(sum + bias + residual). Data that crosses the table of
// kernels, and the calls of ops/ alike; finish.h and epilogue.cpp apply it.
#pragma once
#include <cstdint>

namespace pycnn {

// NaN stays NaN in all of them. The others write their limits for infinities, where the formula would be Inf * 0.
struct Activation {
    enum Kind : int32_t {
        none,
        relu,          // max(x, 0) by the rule of maximum in simd_maps.h: -0.0 stays -0.0
        relu6,         // min(relu(x), 6)
        leaky_relu,    // x, below zero x * slope
        hard_sigmoid,  // min(max(x + 3, 0), 6) / 6
        hard_swish,    // x * hard_sigmoid(x)
        sigmoid,       // 1 / (1 + exp(-x))
        silu,          // x * sigmoid(x)
        tanh,
        gelu_tanh,  // x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))
    };
    Kind kind = none;
    double slope = 0;
};

// Channels lie beside each other; a call may write some of them, and then bias and residual begin at its first one.
template <class T>
struct EpilogueOf {
    const T* bias = nullptr;      // a number a channel, or null
    const T* residual = nullptr;  // lies as y does, and may be y itself; or null
    Activation activation = {};
};
using Epilogue = EpilogueOf<float>;

// y [rows][C] = activation(x + bias + residual); y may be x or residual.
template <class T>
struct FinishRowsOf {
    T* y;
    const T* x;
    int64_t rows, C;
    EpilogueOf<T> epilogue;
};
using FinishRows = FinishRowsOf<float>;

}  // namespace pycnn
