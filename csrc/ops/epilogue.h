// What ops/ asks of an epilogue (kernels/epilogue.h).
#pragma once
#include "kernels/epilogue.h"

namespace pycnn {

inline constexpr Activation kRelu{.kind = Activation::relu};

// Of a call that writes channels from `channel` on, its first number `at` numbers behind that of the whole.
template <class T>
EpilogueOf<T> part_of(const EpilogueOf<T>& e, int64_t channel, int64_t at) {
    return {.bias = e.bias ? e.bias + channel : nullptr,
            .residual = e.residual ? e.residual + at : nullptr,
            .activation = e.activation};
}

// Kernels read again what they have written, so that it must not go past the caches (kernels/finish.h).
inline bool reads_again(const Epilogue& e) { return e.activation.kind > Activation::relu; }

// Whether its gradient is computed from what it gave, else from what it got.
inline bool reads_y(const Activation& a) {
    switch (a.kind) {
        case Activation::hard_swish:
        case Activation::silu:
        case Activation::gelu:
        case Activation::gelu_tanh:
        case Activation::softplus:
        case Activation::erf:
        case Activation::abs:
        case Activation::log:
            return false;
        case Activation::leaky_relu:
            return a.a > 0;
        default:
            return true;
    }
}

// Whether the maximum may come before it, as it does in a pool.
inline bool never_decreases(const Activation& a) {
    switch (a.kind) {
        case Activation::hard_swish:
        case Activation::silu:
        case Activation::gelu:
        case Activation::gelu_tanh:
        case Activation::abs:
        case Activation::sqrt:  // of numbers below 0 they are NaN, which wins
        case Activation::log:
            return false;
        case Activation::leaky_relu:
            return a.a >= 0;
        default:
            return true;
    }
}

}  // namespace pycnn
