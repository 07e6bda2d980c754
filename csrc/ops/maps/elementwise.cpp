// Elementwise operators cut into ranges for the threads.

#include "ops/maps/elementwise.h"

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "ops/runtime/dispatch.h"
#include "ops/runtime/parallel.h"
#include "ops/runtime/scratch.h"
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
void combine(const CombinationOf<T>& s) {
    T* y = s.y;
    const T *a = s.a, *b = s.b;
    const Combine op = s.op;
    for_elements(s.size, 3.0 * sizeof(T), [&](int64_t begin, int64_t end) {
        if constexpr (vectorised<T>)
            return kernels().combine({.y = y + begin, .a = a + begin, .b = b + begin, .size = end - begin, .op = op});
        for (int64_t i = begin; i < end; ++i)
            y[i] = op == Combine::subtract ? a[i] - b[i] : op == Combine::multiply ? a[i] * b[i] : a[i] + b[i];
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

// In slots of rows whose number depends on the shape alone; slots are added in order.
template <class T>
void sum_rows(T* total, const T* x, int64_t rows, int64_t C) {
    constexpr int64_t kSlots = 64;
    const int64_t S = std::max<int64_t>(std::min(kSlots, rows / 16), 1);
    Scratch scratch;
    T* slots = scratch.array<T>(S * C);
    std::fill(slots, slots + S * C, T(0));
    parallel_for(S, grain_units(kGrainBytes, static_cast<double>(rows) * C * sizeof(T) / S),
                 [&](int64_t begin, int64_t end) {
                     for (int64_t slot = begin; slot < end; ++slot) {
                         const int64_t first = slot * rows / S, last = (slot + 1) * rows / S;
                         if constexpr (vectorised<T>)
                             kernels().sum_rows(slots + slot * C, x + first * C, last - first, C);
                         else
                             for (int64_t r = first; r < last; ++r)
                                 for (int64_t c = 0; c < C; ++c) slots[slot * C + c] += x[r * C + c];
                     }
                 });
    std::copy(slots, slots + C, total);
    for (int64_t slot = 1; slot < S; ++slot)
        for (int64_t c = 0; c < C; ++c) total[c] += slots[slot * C + c];
}

template void finish(const FinishRowsOf<float>&);
template void finish(const FinishRowsOf<double>&);
template void accumulate(float*, const float*, int64_t);
template void accumulate(double*, const double*, int64_t);
template void combine(const CombinationOf<float>&);
template void combine(const CombinationOf<double>&);
template void affine(const AffineOf<float>&);
template void affine(const AffineOf<double>&);
template void sum_rows(float*, const float*, int64_t, int64_t);
template void sum_rows(double*, const double*, int64_t, int64_t);

}  // namespace pycnn
