// Activations, and the end of an operator as a pass of its own.
//
//   activate   y = f(x), f one of Activation; y may be x
//   finish     y[r][c] = f(x[r][c] + bias[c] + residual[r][c]), the sums from left to right
//
// NaN stays NaN. -Inf and Inf give the limits: silu, hard_swish and gelu_tanh of -Inf are -0. exp is that of exp.h, so the bits
// are those of every instruction set with FMA. Errors, u = 2^-24: tests/tolerance.py derives them.

#include "exp.h"
#include "finish.h"
#include "kernels.h"
#include "simd_maps.h"
#include "table.h"

namespace pycnn::PYCNN_ISA {
namespace {

// Both leave NaN alone.
PYCNN_INLINE vec at_most(vec x, float high) { return select(greater(x, splat(high)), splat(high), x); }
PYCNN_INLINE vec at_least(vec x, float low) { return select(greater(splat(low), x), splat(low), x); }

PYCNN_INLINE vec hard_sigmoid(vec x) { return at_most(relu(x + splat(3.0f)), 6.0f) * splat(1.0f / 6.0f); }

// With e = exp(-|x|): 1 / (1 + e), or e / (1 + e) below zero, so that neither overflows nor cancels.
PYCNN_INLINE vec sigmoid(vec x) {
    const vec zero = splat(0.0f), one = splat(1.0f);
    const ivec positive = greater(x, zero);
    const vec e = exp_of_negative(select(positive, zero - x, x));
    return select(positive, one, e) / (one + e);
}

// (1 - e) / (1 + e) with e = exp(-2 |x|); it cancels near zero, and there it is the polynomial of Cephes' tanhf.
PYCNN_INLINE vec tanh_of(vec x) {
    const vec zero = splat(0.0f), one = splat(1.0f);
    const ivec positive = greater(x, zero);
    const vec size = select(positive, x, zero - x), e = exp_of_negative(splat(-2.0f) * size);
    const vec far = (one - e) / (one + e), square = x * x;
    vec p = splat(-5.70498872745e-3f);
    p = fma(p, square, splat(2.06390887954e-2f));
    p = fma(p, square, splat(-5.37397155531e-2f));
    p = fma(p, square, splat(1.33314422036e-1f));
    p = fma(p, square, splat(-3.33332819422e-1f));
    const vec near = fma(x * square, p, x);
    return select(greater(splat(0.625f), size), near, select(positive, far, zero - far));
}

// x sigmoid(2 v), which is x / 2 (1 + tanh(v)), with 2 v = x (1.5958 + 0.0714 x^2). Below -11 the sigmoid is 0.
PYCNN_INLINE vec gelu_tanh(vec x) {
    const vec twice = x * fma(x * x, splat(0.0713548162726f), splat(1.59576912161f));
    return at_least(x, -11.0f) * sigmoid(twice);
}

template <Activation::Kind KIND>
PYCNN_INLINE vec apply(vec x, vec slope) {
    switch (KIND) {
        case Activation::none:
            return x;
        case Activation::relu:
            return relu(x);
        case Activation::relu6:
            return at_most(relu(x), 6.0f);
        case Activation::leaky_relu:
            return select(greater(splat(0.0f), x), x * slope, x);
        case Activation::hard_sigmoid:
            return hard_sigmoid(x);
        case Activation::hard_swish:
            return at_least(x, -3.0f) * hard_sigmoid(x);
        case Activation::sigmoid:
            return sigmoid(x);
        case Activation::silu:
            return at_least(x, -104.0f) * sigmoid(x);  // below, the sigmoid is 0
        case Activation::tanh:
            return tanh_of(x);
        case Activation::gelu_tanh:
            return gelu_tanh(x);
    }
    return x;
}

template <Activation::Kind KIND>
PYCNN_INLINE void each(float* y, const float* x, int64_t size, float slope) {
    int64_t i = 0;
    for (; i + VL <= size; i += VL) store(y + i, apply<KIND>(load(x + i), splat(slope)));
    if (i < size) store_first(y + i, apply<KIND>(load_first(x + i, size - i), splat(slope)), size - i);
}

template <bool BIAS, bool RESIDUAL, bool RELU>
PYCNN_INLINE void finish_rows(const FinishRows& s) {
    constexpr int64_t kPart = 2048;  // floats that stay in L1 until they are activated
    float* y = s.y;
    const float *x = s.x, *bias = s.epilogue.bias, *residual = s.epilogue.residual;
    const int64_t rows = s.rows, C = s.C;
    for (int64_t r = 0; r < rows; ++r)
        for (int64_t first = 0; first < C; first += kPart) {
            const int64_t at = r * C + first, size = C - first < kPart ? C - first : kPart;
            const auto some = [&](int64_t c, int64_t lanes) __attribute__((always_inline)) {
                vec v = load_first(x + at + c, lanes);
                if (BIAS) v = v + load_first(bias + first + c, lanes);
                if (RESIDUAL) v = v + load_first(residual + at + c, lanes);
                store_first(y + at + c, relu_if(RELU, v), lanes);
            };
            int64_t c = 0;
            for (; c + VL <= size; c += VL) some(c, VL);
            if (c < size) some(c, size - c);
            finish_late({.y = y + at, .size = size}, s.epilogue);
        }
}

template <bool BIAS, bool RESIDUAL>
PYCNN_INLINE void finish_rows(const FinishRows& s) {
    has_relu(s.epilogue) ? finish_rows<BIAS, RESIDUAL, true>(s) : finish_rows<BIAS, RESIDUAL, false>(s);
}

}  // namespace

void activate(float* y, const float* x, int64_t size, const Activation& a) {
    const float slope = static_cast<float>(a.slope);
    switch (a.kind) {
#define PYCNN_KIND(kind)   \
    case Activation::kind: \
        return each<Activation::kind>(y, x, size, slope);
        PYCNN_KIND(none)
        PYCNN_KIND(relu)
        PYCNN_KIND(relu6)
        PYCNN_KIND(leaky_relu)
        PYCNN_KIND(hard_sigmoid)
        PYCNN_KIND(hard_swish)
        PYCNN_KIND(sigmoid)
        PYCNN_KIND(silu)
        PYCNN_KIND(tanh)
        PYCNN_KIND(gelu_tanh)
#undef PYCNN_KIND
    }
}

void finish(const FinishRows& s) {
    if (s.epilogue.residual)
        s.epilogue.bias ? finish_rows<true, true>(s) : finish_rows<false, true>(s);
    else
        s.epilogue.bias ? finish_rows<true, false>(s) : finish_rows<false, false>(s);
}

}  // namespace pycnn::PYCNN_ISA
