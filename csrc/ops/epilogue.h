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

// Whether the maximum may come before it, as it does in a pool.
inline bool never_decreases(const Activation& a) {
    switch (a.kind) {
        case Activation::hard_swish:
        case Activation::silu:
        case Activation::gelu_tanh:
            return false;
        case Activation::leaky_relu:
            return a.slope >= 0;
        default:
            return true;
    }
}

}  // namespace pycnn
