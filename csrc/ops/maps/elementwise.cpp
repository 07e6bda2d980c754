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

template <class T>
void relu_forward(T* y, const T* x, int64_t size) {
    for_elements(size, 2.0 * sizeof(T), [&](int64_t begin, int64_t end) {
        if constexpr (vectorised<T>) return kernels().relu(y + begin, x + begin, end - begin);
        for (int64_t i = begin; i < end; ++i) y[i] = x[i] < T(0) ? T(0) : x[i];
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
void add_bias(T* y, const T* bias, int64_t rows, int64_t C) {
    for_elements(rows, 2.0 * sizeof(T) * C, [&](int64_t begin, int64_t end) {
        if constexpr (vectorised<T>) return kernels().add_bias(y + begin * C, bias, end - begin, C);
        for (int64_t r = begin; r < end; ++r)
            for (int64_t c = 0; c < C; ++c) y[r * C + c] += bias[c];
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
void combine(T* y, const T* a, const T* b, int64_t size, Combine op) {
    for_elements(size, 3.0 * sizeof(T), [&](int64_t begin, int64_t end) {
        if constexpr (vectorised<T>) return kernels().combine(y + begin, a + begin, b + begin, end - begin, op);
        for (int64_t i = begin; i < end; ++i) {
            const T v = op == Combine::subtract ? a[i] - b[i] : op == Combine::multiply ? a[i] * b[i] : a[i] + b[i];
            y[i] = op == Combine::add_relu && v < T(0) ? T(0) : v;
        }
    });
}

template <class T>
void affine(T* y, const T* x, T scale, T shift, int64_t size) {
    for_elements(size, 2.0 * sizeof(T), [&](int64_t begin, int64_t end) {
        if constexpr (vectorised<T>) return kernels().affine(y + begin, x + begin, scale, shift, end - begin);
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

template void relu_forward(float*, const float*, int64_t);
template void relu_forward(double*, const double*, int64_t);
template void relu_backward(float*, const float*, const float*, int64_t);
template void relu_backward(double*, const double*, const double*, int64_t);
template void add_bias(float*, const float*, int64_t, int64_t);
template void add_bias(double*, const double*, int64_t, int64_t);
template void accumulate(float*, const float*, int64_t);
template void accumulate(double*, const double*, int64_t);
template void combine(float*, const float*, const float*, int64_t, Combine);
template void combine(double*, const double*, const double*, int64_t, Combine);
template void affine(float*, const float*, float, float, int64_t);
template void affine(double*, const double*, double, double, int64_t);
template void sum_rows(float*, const float*, int64_t, int64_t);
template void sum_rows(double*, const double*, int64_t, int64_t);

}  // namespace pycnn
