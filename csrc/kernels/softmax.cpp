// Softmax and log-softmax of one row of K numbers, and their gradients.
//
//   softmax        y = exp(x - max) / sum of exp(x - max)         dx = y * (dy - sum of dy * y)
//   log_softmax    y = x - max - log(sum of exp(x - max))         dx = dy - exp(y) * sum of dy
//
// All overwrite. exp (exp.h) and log are our own: libm's differ from machine to machine. Sums run over 16 lanes and end in a
// fixed tree. A NaN or +Inf anywhere in a row makes the row NaN; a row of -Inf alone too.

#include "exp.h"
#include "kernels.h"
#include "simd.h"
#include "table.h"

namespace pycnn::PYCNN_ISA {
namespace {

// log(x) of a normal x >= 1, in double: x = 2^n m with m in [0.7, 1.4], log m = 2 (s + s^3/3 + s^5/5 + ...), s =
// (m-1)/(m+1).
PYCNN_INLINE double log_of_sum(float x) {
    if (x != x || x > 3.4028235e38f) return x;
    int32_t bits;
    memcpy(&bits, &x, sizeof bits);
    int32_t n = (bits >> 23) - 127;
    bits = (bits & 0x7fffff) | 0x3f800000;
    float m;
    memcpy(&m, &bits, sizeof m);
    double scaled = m;
    if (scaled > 1.41421356) {
        scaled *= 0.5;
        ++n;
    }
    const double s = (scaled - 1.0) / (scaled + 1.0), s2 = s * s;
    double series = 0.0;
    for (int term = 17; term >= 1; term -= 2) series = series * s2 + 1.0 / term;
    return n * 0.69314718055994530942 + 2.0 * s * series;
}

PYCNN_INLINE int64_t lanes_from(int64_t at, int64_t size) { return size - at < VL ? size - at : VL; }

PYCNN_INLINE float row_maximum(const float* x, int64_t K) {
    float best = x[0];
    for (int64_t k = 1; k < K; ++k)
        if (x[k] > best || x[k] != x[k]) best = x[k];
    return best;
}

// y = exp(x - max); returns the sum. Lanes past K are not added.
PYCNN_INLINE float exponentials(float* y, const float* x, int64_t K, float max) {
    vec sum = splat(0.0f);
    for (int64_t k = 0; k < K; k += VL) {
        const int64_t lanes = lanes_from(k, K);
        store_first(y + k, exp_of_negative(load_first(x + k, lanes) - splat(max)), lanes);
        sum = sum + load_first(y + k, lanes);
    }
    return sum_lanes(sum);
}

}  // namespace

void softmax_row(float* y, const float* x, int64_t K) {
    const float sum = exponentials(y, x, K, row_maximum(x, K));
    for (int64_t k = 0; k < K; k += VL) {
        const int64_t lanes = lanes_from(k, K);
        store_first(y + k, load_first(y + k, lanes) / splat(sum), lanes);
    }
}

void log_softmax_row(float* y, const float* x, int64_t K) {
    const float max = row_maximum(x, K);
    vec sum = splat(0.0f);
    for (int64_t k = 0; k < K; k += VL) {
        const int64_t lanes = lanes_from(k, K);
        float e[VL] = {};  // through memory, so that lanes past K add zero
        store_first(e, exp_of_negative(load_first(x + k, lanes) - splat(max)), lanes);
        sum = sum + load(e);
    }
    const double log_sum = log_of_sum(sum_lanes(sum));
    for (int64_t k = 0; k < K; ++k) y[k] = static_cast<float>(static_cast<double>(x[k] - max) - log_sum);
}

void softmax_backward_row(float* dx, const float* dy, const float* y, int64_t K) {
    vec sum = splat(0.0f);
    for (int64_t k = 0; k < K; k += VL)
        sum = fma(load_first(dy + k, lanes_from(k, K)), load_first(y + k, lanes_from(k, K)), sum);
    const vec dot = splat(sum_lanes(sum));
    for (int64_t k = 0; k < K; k += VL) {
        const int64_t lanes = lanes_from(k, K);
        store_first(dx + k, load_first(y + k, lanes) * (load_first(dy + k, lanes) - dot), lanes);
    }
}

void log_softmax_backward_row(float* dx, const float* dy, const float* y, int64_t K) {
    vec sum = splat(0.0f);
    for (int64_t k = 0; k < K; k += VL) sum = sum + load_first(dy + k, lanes_from(k, K));
    const vec total = splat(-sum_lanes(sum));
    for (int64_t k = 0; k < K; k += VL) {
        const int64_t lanes = lanes_from(k, K);
        store_first(dx + k, fma(exp_of_negative(load_first(y + k, lanes)), total, load_first(dy + k, lanes)), lanes);
    }
}

}  // namespace pycnn::PYCNN_ISA
