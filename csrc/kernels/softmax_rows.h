// What softmax, log-softmax and cross entropy share: rows of K numbers, their maxima and sums of exp.
//
// Up to kNarrow classes, sixteen rows at a time stand across the lanes, [K][16], and sums run over k in order: 10 or 21
// classes would leave a third of a row's last vector empty, and a maximum and a sum over lanes cost as much as two
// vectors of exp (50176 rows of 21: 370 microseconds, row by row 2080; AMD EPYC, Zen 4, two threads). Longer rows are
// read as they lie; their sums run over 16 lanes and end in a fixed tree.
#pragma once
#include "exp.h"
#include "simd_maps.h"

namespace pycnn::PYCNN_ISA {

constexpr int64_t kNarrow = 32;

// log(x) of x >= 1; NaN and Inf become NaN.
PYCNN_INLINE vec log_of_sum(vec x) { return log_within(x, splat(0.0f)) + (x - x); }

// ---- sixteen rows across the lanes --------------------------------------------------------------------------------

// to_lanes: to[k][lane] = from[lane][k]. from_lanes: the way back. Columns go four at a time, the last four perhaps
// twice; lanes of rows that are not there keep what they had.
template <bool BACK>
PYCNN_INLINE void turn(float* to, const float* from, int64_t rows, int64_t K) {
    int64_t r = 0;
    for (; K >= 4 && r + 4 <= rows; r += 4)
        for (int64_t k = 0; k < K; k += 4) {
            const int64_t at = k + 4 <= K ? k : K - 4;
            if (BACK)
                transpose_4x4(to + r * K + at, K, from + at * VL + r, VL);
            else
                transpose_4x4(to + at * VL + r, VL, from + r * K + at, K);
        }
    for (; r < rows; ++r)
        for (int64_t k = 0; k < K; ++k) (BACK ? to[r * K + k] : to[k * VL + r]) = from[BACK ? k * VL + r : r * K + k];
}
PYCNN_INLINE void to_lanes(float (&to)[kNarrow * VL], const float* from, int64_t rows, int64_t K) {
    if (rows < VL) memset(to, 0, sizeof(float) * K * VL);
    turn<false>(to, from, rows, K);
}
PYCNN_INLINE void from_lanes(float* to, const float* from, int64_t rows, int64_t K) { turn<true>(to, from, rows, K); }

// Calls body(first row, rows) for groups of sixteen rows.
template <class Body>
PYCNN_INLINE void sixteen_at_a_time(int64_t rows, Body body) {
    for (int64_t r = 0; r < rows; r += VL) body(r, rows - r < VL ? rows - r : VL);
}

// A NaN may or may not be the maximum: the row becomes NaN by its own exp.
PYCNN_INLINE vec lane_maxima(const float* x, int64_t K) {
    vec best = load(x);
    for (int64_t k = 1; k < K; ++k) best = larger(load(x + k * VL), best);
    return best;
}

// ---- a row as it lies -----------------------------------------------------------------------------------------------

PYCNN_INLINE int64_t lanes_from(int64_t at, int64_t size) { return size - at < VL ? size - at : VL; }

// As lane_maxima. The last vector overlaps the one before it.
PYCNN_INLINE float row_maximum(const float* x, int64_t K) {
    vec best = load(x), other = load(x + K - VL);
    int64_t k = VL;
    for (; k + 2 * VL <= K; k += 2 * VL) {
        best = larger(load(x + k), best);
        other = larger(load(x + k + VL), other);
    }
    if (k + VL <= K) best = larger(load(x + k), best);
    float lane[VL];
    store(lane, larger(other, best));
    for (int half = VL / 2; half; half /= 2)
        for (int i = 0; i < half; ++i) lane[i] = lane[i + half] > lane[i] ? lane[i + half] : lane[i];
    return lane[0];
}

// The sum of exp(x - max), which also go to y where it is not null. Lanes past K are not added.
PYCNN_INLINE float exponentials(float* y, const float* x, int64_t K, float max) {
    vec sum = splat(0.0f);
    int64_t k = 0;
    for (; k + VL <= K; k += VL) {
        const vec e = exp_of_negative(load(x + k) - splat(max));
        if (y) store(y + k, e);
        sum = sum + e;
    }
    if (k < K) {
        float last[VL] = {};
        const vec e = exp_of_negative(load_first(x + k, K - k) - splat(max));
        store_first(last, e, K - k);
        if (y) store_first(y + k, e, K - k);
        sum = sum + load(last);
    }
    return sum_lanes(sum);
}

}  // namespace pycnn::PYCNN_ISA
