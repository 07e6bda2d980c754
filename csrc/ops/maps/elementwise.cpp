// Elementwise operators cut into ranges for the threads.

#include "ops/maps/elementwise.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <type_traits>

#include "ops/runtime/dispatch.h"
#include "ops/runtime/parallel.h"
#include "ops/shapes.h"

namespace pycnn {
namespace {

template <class T>
constexpr bool vectorised = std::is_same_v<T, float>;

template <class Body>
void for_elements(int64_t size, double bytes, Body&& body) {
    parallel_for(size, grain_units(kGrainBytes, bytes), body);
}

// The functions of kernels/epilogue.cpp, with the same limits.
double hard_sigmoid(double x) { return std::min(std::max(x + 3, 0.0), 6.0) / 6; }
double sigmoid(double x) {
    const double e = std::exp(x > 0 ? -x : x);
    return (x > 0 ? 1 : e) / (1 + e);
}
double activated(double x, const Activation& a) {  // std::min and std::max keep a NaN that comes first
    switch (a.kind) {
        case Activation::none:
            return x;
        case Activation::relu:
            return std::max(x, 0.0);
        case Activation::relu6:
            return std::min(std::max(x, 0.0), 6.0);
        case Activation::leaky_relu:
            return x < 0 ? x * a.slope : x;
        case Activation::hard_sigmoid:
            return hard_sigmoid(x);
        case Activation::hard_swish:
            return std::max(x, -3.0) * hard_sigmoid(x);
        case Activation::sigmoid:
            return sigmoid(x);
        case Activation::silu:
            return std::max(x, -746.0) * sigmoid(x);
        case Activation::tanh:
            return std::tanh(x);
        case Activation::gelu_tanh:
            return std::max(x, -40.0) * sigmoid(x * (1.5957691216057308 + 0.07135481627260025 * x * x));
    }
    return x;
}

}  // namespace

template <>
void finish_here(const FinishRows& s) {
    kernels().finish(s);
}

template <>
void finish_here(const FinishRowsOf<double>& s) {
    const EpilogueOf<double>& e = s.epilogue;
    for (int64_t i = 0; i < s.rows * s.C; ++i) {
        double v = s.x[i];
        if (e.bias) v += e.bias[i % s.C];
        if (e.residual) v += e.residual[i];
        s.y[i] = activated(v, e.activation);
    }
}

template <class T>
void finish(const FinishRowsOf<T>& s) {
    if (s.rows * s.C == 0) return;
    const double bytes = (s.epilogue.residual ? 3.0 : 2.0) * sizeof(T);
    const int64_t unit = s.rows == 1 ? 1 : s.C;  // numbers: one row is cut, too
    for_elements(s.rows * s.C / unit, bytes * unit, [&](int64_t begin, int64_t end) {
        const int64_t at = begin * unit;
        finish_here<T>({.y = s.y + at,
                        .x = s.x + at,
                        .rows = s.rows == 1 ? 1 : end - begin,
                        .C = s.rows == 1 ? end - begin : s.C,
                        .epilogue = part_of(s.epilogue, s.rows == 1 ? begin : 0, at)});
    });
}

template <class T>
void relu_backward(T* dx, const T* dy, const T* y, int64_t size) {
    for_elements(size, 3.0 * sizeof(T), [&](int64_t begin, int64_t end) {
        if constexpr (vectorised<T>) return kernels().relu_backward(dx + begin, dy + begin, y + begin, end - begin);
        for (int64_t i = begin; i < end; ++i) dx[i] = y[i] <= T(0) ? T(0) : dy[i];
    });
}

template <class T>
void accumulate(T* total, const T* part, int64_t size) {
    for_elements(size, 3.0 * sizeof(T), [&](int64_t begin, int64_t end) {
        if constexpr (vectorised<T>) return kernels().accumulate(total + begin, part + begin, end - begin);
        for (int64_t i = begin; i < end; ++i) total[i] += part[i];
    });
}

template <class T>
void affine(const AffineOf<T>& s) {
    T* y = s.y;
    const T* x = s.x;
    const T scale = s.scale, shift = s.shift;
    for_elements(s.size, 2.0 * sizeof(T), [&](int64_t begin, int64_t end) {
        if constexpr (vectorised<T>)
            return kernels().affine(
                {.y = y + begin, .x = x + begin, .size = end - begin, .scale = scale, .shift = shift});
        for (int64_t i = begin; i < end; ++i) y[i] = x[i] * scale + shift;
    });
}

template void finish(const FinishRowsOf<float>&);
template void finish(const FinishRowsOf<double>&);
template void relu_backward(float*, const float*, const float*, int64_t);
template void relu_backward(double*, const double*, const double*, int64_t);
template void accumulate(float*, const float*, int64_t);
template void accumulate(double*, const double*, int64_t);
template void affine(const AffineOf<float>&);
template void affine(const AffineOf<double>&);

}  // namespace pycnn
