// Activations, and the end of an operator as a pass of its own.
//
//   activate             y = f(x), f one of Activation; y may be x
//   activation_gradient  dx = dy f'(x), with f' from x or from y (activations.h says which); dx may be dy or v
//   finish               y[r][c] = f(x[r][c] + bias[c] + residual[r][c]), the sums from left to right
//
// NaN stays NaN. -Inf and Inf give the limits: silu, hard_swish and gelu of -Inf are -0. exp and its kin are those of exp.h, so
// the bits are those of every instruction set with FMA. Errors, u = 2^-24: tests/tolerance.py derives them.

#include "exp.h"
#include "finish.h"
#include "kernels.h"
#include "simd_maps.h"
#include "table.h"

// Behind the functions that it is made of.
#include "activations.h"

namespace pycnn::PYCNN_ISA {
namespace {

// Whole vectors. Not inlined: what is left over goes through the same code in a vector of its own.
template <Activation::Kind KIND>
void values(float* y, const float* x, int64_t size, const Numbers<vec>& given) {
    const Numbers<vec> n = given;
    for (int64_t i = 0; i < size; i += VL) store(y + i, Function<KIND>::value(load(x + i), n));
}
template <Activation::Kind KIND>
void gradients(float* dx, const float* dy, const float* v, int64_t size, const Numbers<vec>& given) {
    const Numbers<vec> n = given;
    for (int64_t i = 0; i < size; i += VL) store(dx + i, Function<KIND>::gradient(load(dy + i), load(v + i), n));
}

using Values = void(float*, const float*, int64_t, const Numbers<vec>&);
using Gradients = void(float*, const float*, const float*, int64_t, const Numbers<vec>&);
struct Row {
    Values* values;
    Gradients* gradients;
};
PYCNN_INLINE Row row_of(Activation::Kind kind) {
    switch (kind) {
#define PYCNN_ROW(kind)    \
    case Activation::kind: \
        return {values<Activation::kind>, gradients<Activation::kind>};
        PYCNN_ACTIVATIONS(PYCNN_ROW)
#undef PYCNN_ROW
        case Activation::none:
            break;
    }
    return {};
}
PYCNN_INLINE Numbers<vec> numbers_of(const Activation& a) {
    return {splat(static_cast<float>(a.a)), splat(static_cast<float>(a.b))};
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
    const Numbers<vec> n = numbers_of(a);
    const Row row = row_of(a.kind);
    const int64_t whole = size / VL * VL, rest = size - whole;
    row.values(y, x, whole, n);
    if (!rest) return;
    float last[VL];
    store(last, load_first(x + whole, rest));
    row.values(last, last, VL, n);
    store_first(y + whole, load(last), rest);
}

void activation_gradient(const ActivationGradient& s) {
    const Numbers<vec> n = numbers_of(s.activation);
    const Row row = row_of(s.activation.kind);
    const int64_t whole = s.size / VL * VL, rest = s.size - whole;
    row.gradients(s.dx, s.dy, s.v, whole, n);
    if (!rest) return;
    float dy[VL], v[VL];
    store(dy, load_first(s.dy + whole, rest));
    store(v, load_first(s.v + whole, rest));
    row.gradients(dy, dy, v, VL, n);
    store_first(s.dx + whole, load(dy), rest);
}

void finish(const FinishRows& s) {
    if (s.epilogue.residual)
        s.epilogue.bias ? finish_rows<true, true>(s) : finish_rows<false, true>(s);
    else
        s.epilogue.bias ? finish_rows<true, false>(s) : finish_rows<false, false>(s);
}

}  // namespace pycnn::PYCNN_ISA
