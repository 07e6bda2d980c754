// What becomes of a sum before it is stored: y = activation(sum + bias + residual). Data that crosses the table of
// kernels, and the calls of ops/ alike; finish.h and epilogue.cpp apply it.
#pragma once
#include <cstdint>

namespace pycnn {

// The table of activations; activations.h holds the function and the gradient of each. Numbers in brackets are a and b.
// NaN stays NaN in all of them. They write their limits for infinities, where the formula would be Inf * 0.
#define PYCNN_ACTIVATIONS(ROW)                                                                                           \
    ROW(relu)         /* max(x, 0) by the rule of maximum in simd_maps.h: -0.0 stays -0.0 */                             \
    ROW(clip)         /* min(max(x, low), high)                                               (low, high) */             \
    ROW(leaky_relu)   /* x, below zero x * slope                                              (slope, not 0) */          \
    ROW(elu)          /* x, below zero alpha (exp(x) - 1)                                     (alpha > 0) */             \
    ROW(hard_sigmoid) /* min(max(slope x + shift, 0), 1)                                      (slope > 0, shift) */      \
    ROW(hard_swish)   /* x * min(max(x + 3, 0), 6) / 6 */                                                                \
    ROW(sigmoid)      /* 1 / (1 + exp(-x)) */                                                                            \
    ROW(silu)         /* x * sigmoid(x) */                                                                               \
    ROW(tanh)                                                                                                            \
    ROW(gelu)      /* x / 2 * (1 + erf(x / sqrt(2))) */                                                                  \
    ROW(gelu_tanh) /* x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))) */                                           \
    ROW(softplus) /* log(1 + exp(beta x)) / beta, and x where beta x > threshold                (beta > 0, threshold) */ \
    ROW(exp)                                                                                                             \
    ROW(erf)                                                                                                             \
    ROW(sqrt)                                                                                                            \
    ROW(abs)                                                                                                             \
    ROW(log)

struct Activation {
    enum Kind : int32_t {
        none,  // x; none and relu come first, for kernels do these two themselves
#define PYCNN_ROW(kind) kind,
        PYCNN_ACTIVATIONS(PYCNN_ROW)
#undef PYCNN_ROW
    };
    Kind kind = none;
    double a = 0, b = 0;
};

template <class T>
struct ActivationGradientOf {  // dx = dy f'(v)
    T* dx;                     // may be dy or v
    const T *dy, *v;           // v: x or y, see activations.h
    int64_t size;
    Activation activation;  // any but none
};
using ActivationGradient = ActivationGradientOf<float>;

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
