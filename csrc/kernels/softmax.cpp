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
// How rows lie in the vectors: softmax_rows.h.

#include "kernels.h"
#include "softmax_rows.h"
#include "table.h"

namespace pycnn::PYCNN_ISA {
namespace {

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
