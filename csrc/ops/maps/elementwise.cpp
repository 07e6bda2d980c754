// Elementwise operators cut into ranges for the threads.

#include "ops/maps/elementwise.h"

#include <algorithm>
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
        s.y[i] = v;
    }
    activate_here(s.y, s.y, s.rows * s.C, e.activation);
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
template void accumulate(float*, const float*, int64_t);
template void accumulate(double*, const double*, int64_t);
template void affine(const AffineOf<float>&);
template void affine(const AffineOf<double>&);

}  // namespace pycnn
