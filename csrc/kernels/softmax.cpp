// Softmax and log-softmax of rows of K numbers, and their gradients.
//
//   softmax        y = exp(x - max) / sum of exp(x - max)         dx = y * (dy - sum of dy * y)
//   log_softmax    y = x - max - log(sum of exp(x - max))         dx = dy - exp(y) * sum of dy
//
//   x, y, dy, dx   [rows][K]    all overwrite
//
// exp and log are those of exp.h. A NaN or +Inf anywhere in a row makes the row NaN; a
// row of -Inf alone too.
//
// Up to kNarrow classes, sixteen rows at a time stand across the lanes, [K][16], and sums run over k in order: 10 or 21
// classes would leave a third of a row's last vector empty, and a maximum and a sum over lanes cost as much as two
// vectors of exp (50176 rows of 21: 370 microseconds, row by row 2080; AMD EPYC, Zen 4, two threads). Longer rows are
// read as they lie; their sums run over 16 lanes and end in a fixed tree.

#include "exp.h"
#include "kernels.h"
#include "simd_maps.h"
#include "table.h"

namespace pycnn::PYCNN_ISA {
namespace {

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

PYCNN_INLINE void softmax_lanes(float* y, const float* x, int64_t K) {
    const vec max = lane_maxima(x, K);
    vec sum = splat(0.0f);
    for (int64_t k = 0; k < K; ++k) {
        const vec e = exp_of_negative(load(x + k * VL) - max);
        store(y + k * VL, e);
        sum = sum + e;
    }
    const vec factor = splat(1.0f) / sum;
    for (int64_t k = 0; k < K; ++k) store(y + k * VL, load(y + k * VL) * factor);
}

PYCNN_INLINE void log_softmax_lanes(float* y, const float* x, int64_t K) {
    const vec max = lane_maxima(x, K);
    vec sum = splat(0.0f);
    for (int64_t k = 0; k < K; ++k) {
        const vec t = load(x + k * VL) - max;
        store(y + k * VL, t);
        sum = sum + exp_of_negative(t);
    }
    const vec log_sum = log_of_sum(sum);
    for (int64_t k = 0; k < K; ++k) store(y + k * VL, load(y + k * VL) - log_sum);
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

PYCNN_INLINE void softmax_row(float* y, const float* x, int64_t K) {
    const vec factor = splat(1.0f / exponentials(y, x, K, row_maximum(x, K)));
    int64_t k = 0;
    for (; k + VL <= K; k += VL) store(y + k, load(y + k) * factor);
    if (k < K) store_first(y + k, load_first(y + k, K - k) * factor, K - k);
}

PYCNN_INLINE void log_softmax_row(float* y, const float* x, int64_t K) {
    const float max = row_maximum(x, K);
    const vec log_sum = log_of_sum(splat(exponentials(nullptr, x, K, max)));
    int64_t k = 0;
    for (; k + VL <= K; k += VL) store(y + k, load(x + k) - splat(max) - log_sum);
    if (k < K) store_first(y + k, load_first(x + k, K - k) - splat(max) - log_sum, K - k);
}

PYCNN_INLINE void softmax_backward_row(float* dx, const float* dy, const float* y, int64_t K) {
    vec sum = splat(0.0f);
    for (int64_t k = 0; k < K; k += VL)
        sum = fma(load_first(dy + k, lanes_from(k, K)), load_first(y + k, lanes_from(k, K)), sum);
    const vec dot = splat(sum_lanes(sum));
    for (int64_t k = 0; k < K; k += VL) {
        const int64_t lanes = lanes_from(k, K);
        store_first(dx + k, load_first(y + k, lanes) * (load_first(dy + k, lanes) - dot), lanes);
    }
}

PYCNN_INLINE void log_softmax_backward_row(float* dx, const float* dy, const float* y, int64_t K) {
    vec sum = splat(0.0f);
    for (int64_t k = 0; k < K; k += VL) sum = sum + load_first(dy + k, lanes_from(k, K));
    const vec total = splat(-sum_lanes(sum));
    for (int64_t k = 0; k < K; k += VL) {
        const int64_t lanes = lanes_from(k, K);
        store_first(dx + k, fma(exp_of_negative(load_first(y + k, lanes)), total, load_first(dy + k, lanes)), lanes);
    }
}

template <bool LOG>
PYCNN_INLINE void forward(float* y, const float* x, int64_t rows, int64_t K) {
    if (K > kNarrow) {
        for (int64_t r = 0; r < rows; ++r) {
            if constexpr (LOG)
                log_softmax_row(y + r * K, x + r * K, K);
            else
                softmax_row(y + r * K, x + r * K, K);
        }
        return;
    }
    float in[kNarrow * VL], out[kNarrow * VL];
    sixteen_at_a_time(rows, [&](int64_t r, int64_t count) __attribute__((always_inline)) {
        to_lanes(in, x + r * K, count, K);
        if constexpr (LOG)
            log_softmax_lanes(out, in, K);
        else
            softmax_lanes(out, in, K);
        from_lanes(y + r * K, out, count, K);
    });
}

template <bool LOG>
PYCNN_INLINE void backward(const SoftmaxBackward& s) {
    float* dx = s.dx;
    const float *dy = s.dy, *y = s.y;
    const int64_t rows = s.rows, K = s.K;
    if (K > kNarrow) {
        for (int64_t r = 0; r < rows; ++r) {
            if constexpr (LOG)
                log_softmax_backward_row(dx + r * K, dy + r * K, y + r * K, K);
            else
                softmax_backward_row(dx + r * K, dy + r * K, y + r * K, K);
        }
        return;
    }
    float g[kNarrow * VL], p[kNarrow * VL];
    sixteen_at_a_time(rows, [&](int64_t r, int64_t count) __attribute__((always_inline)) {
        to_lanes(g, dy + r * K, count, K);
        to_lanes(p, y + r * K, count, K);
        vec sum = splat(0.0f);
        for (int64_t k = 0; k < K; ++k)
            sum = LOG ? sum + load(g + k * VL) : fma(load(g + k * VL), load(p + k * VL), sum);
        const vec minus = splat(0.0f) - sum;
        for (int64_t k = 0; k < K; ++k) {
            const vec d = load(g + k * VL), q = load(p + k * VL);
            store(g + k * VL, LOG ? fma(exp_of_negative(q), minus, d) : q * (d - sum));
        }
        from_lanes(dx + r * K, g, count, K);
    });
}

}  // namespace

void softmax(float* y, const float* x, int64_t rows, int64_t K) { forward<false>(y, x, rows, K); }
void log_softmax(float* y, const float* x, int64_t rows, int64_t K) { forward<true>(y, x, rows, K); }
void softmax_backward(const SoftmaxBackward& s) { backward<false>(s); }
void log_softmax_backward(const SoftmaxBackward& s) { backward<true>(s); }

}  // namespace pycnn::PYCNN_ISA
