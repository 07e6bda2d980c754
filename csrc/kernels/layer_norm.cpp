// Normalisation of each row by itself: x, y, dx, dy are [rows][C]; weight, bias [C], kept [rows][2].
//
//   layer_norm            y = (x - mean) * inverse * weight + bias, inverse = 1 / sqrt(var + eps); y may be x
//                         kept[r] = mean, inverse
//   layer_norm_gradient   n = (x - mean) * inverse, g = dy * weight:
//                         dx = (g - (mean of g + n * mean of g n)) * inverse; may be dy
//                         sums[0][c] += sum over r of dy n,  sums[1][c] += sum over r of dy, r in order
//
// Two rows go together, so that the sums of one need not wait for its own additions and the weight is read once for
// both; they stay in L1, and memory is read once. The mean is taken first, the variance of what is left around it, and
// what is left of the mean then corrects both, so a large mean costs no digits. Each row's sums have one order, whatever
// rows are beside it. NaN and Inf make a row of NaN.

#include "kernels.h"
#include "simd.h"
#include "table.h"

namespace pycnn::PYCNN_ISA {
namespace {

// Four at a time (AVX-512, two threads, Zen 4, microseconds, forward / backward): 8x56x56x96, too large for L2, 508 / 1088
// instead of 393 / 605, 1x56x56x96, 75 / 46 instead of 86 / 47.
constexpr int kTogether = 2;

// Calls body(c, lanes) for each vec of a row, with constant lanes but for the last.
template <class Body>
PYCNN_INLINE void for_vecs(int64_t C, Body&& body) {
    int64_t c = 0;
    for (; c + VL <= C; c += VL) body(c, int64_t{VL});
    if (c < C) body(c, C - c);
}

// x - mean; lanes past the end are 0.
PYCNN_INLINE vec centred(const float* x, vec mean, int64_t lanes) {
    if (lanes == VL) return load(x) - mean;
    float d[VL];
    store(d, load_first(x, lanes) - mean);
    return load_first(d, lanes);
}

struct Row {
    float mean, inverse;
};

template <int R>
PYCNN_INLINE void statistics(Row* rows, const float* x, int64_t C, float eps) {
    const float count = static_cast<float>(C);
    vec sum[R], squares[R], mean[R];
    PYCNN_UNROLL for (int i = 0; i < R; ++i) sum[i] = squares[i] = splat(0.0f);
    for_vecs(C, [&](int64_t c, int64_t lanes) __attribute__((always_inline)) {
        PYCNN_UNROLL for (int i = 0; i < R; ++i) sum[i] = sum[i] + load_first(x + i * C + c, lanes);
    });
    PYCNN_UNROLL for (int i = 0; i < R; ++i) {
        rows[i].mean = sum_lanes(sum[i]) / count;
        mean[i] = splat(rows[i].mean), sum[i] = splat(0.0f);
    }
    for_vecs(C, [&](int64_t c, int64_t lanes) __attribute__((always_inline)) {
        PYCNN_UNROLL for (int i = 0; i < R; ++i) {
            const vec d = centred(x + i * C + c, mean[i], lanes);
            sum[i] = sum[i] + d, squares[i] = fma(d, d, squares[i]);
        }
    });
    float variance[VL] = {}, inverse[VL];
    PYCNN_UNROLL for (int i = 0; i < R; ++i) {
        const float rest = sum_lanes(sum[i]) / count, all = sum_lanes(squares[i]) / count - rest * rest;
        rows[i].mean += rest;
        variance[i] = (all < 0 ? 0.0f : all) + eps;  // NaN stays
    }
    store(inverse, splat(1.0f) / square_root(load(variance)));
    PYCNN_UNROLL for (int i = 0; i < R; ++i) rows[i].inverse = inverse[i];
}

template <int R>
PYCNN_INLINE void normalise(const LayerNormRows& s, int64_t r) {
    const int64_t C = s.C;
    const float *x = s.x + r * C, *weight = s.weight, *bias = s.bias;
    float* y = s.y + r * C;
    const bool past_caches = s.stream;
    Row rows[R];
    statistics<R>(rows, x, C, s.eps);
    vec mean[R], inverse[R];
    PYCNN_UNROLL for (int i = 0; i < R; ++i) mean[i] = splat(rows[i].mean), inverse[i] = splat(rows[i].inverse);
    for_vecs(C, [&](int64_t c, int64_t lanes) __attribute__((always_inline)) {
        const vec w = load_first(weight + c, lanes), b = bias ? load_first(bias + c, lanes) : splat(0.0f);
        PYCNN_UNROLL for (int i = 0; i < R; ++i) {
            const vec v = fma((load_first(x + i * C + c, lanes) - mean[i]) * inverse[i], w, b);
            if (lanes == VL && past_caches)
                stream(y + i * C + c, v);
            else
                store_first(y + i * C + c, v, lanes);
        }
    });
    if (s.kept)
        for (int i = 0; i < R; ++i) s.kept[2 * (r + i)] = rows[i].mean, s.kept[2 * (r + i) + 1] = rows[i].inverse;
}

template <int R>
PYCNN_INLINE void gradient(const LayerNormGradient& s, int64_t r) {
    const int64_t C = s.C;
    const float *x = s.x + r * C, *dy = s.dy + r * C, *weight = s.weight;
    const float count = static_cast<float>(C);
    float *dx = s.dx + r * C, *sums = s.sums;
    vec mean[R], inverse[R], g_sum[R], gn_sum[R];
    PYCNN_UNROLL for (int i = 0; i < R; ++i) {
        mean[i] = splat(s.kept[2 * (r + i)]), inverse[i] = splat(s.kept[2 * (r + i) + 1]);
        g_sum[i] = gn_sum[i] = splat(0.0f);
    }
    for_vecs(C, [&](int64_t c, int64_t lanes) __attribute__((always_inline)) {
        const vec w = load_first(weight + c, lanes);
        vec dweight = load_first(sums + c, lanes), dbias = load_first(sums + C + c, lanes);
        PYCNN_UNROLL for (int i = 0; i < R; ++i) {
            const vec n = (load_first(x + i * C + c, lanes) - mean[i]) * inverse[i];
            const vec d = load_first(dy + i * C + c, lanes), g = d * w;
            dweight = fma(d, n, dweight), dbias = dbias + d;
            g_sum[i] = g_sum[i] + g, gn_sum[i] = fma(g, n, gn_sum[i]);
        }
        store_first(sums + c, dweight, lanes), store_first(sums + C + c, dbias, lanes);
    });
    if (!s.dx) return;
    PYCNN_UNROLL for (int i = 0; i < R; ++i) {
        g_sum[i] = splat(sum_lanes(g_sum[i]) / count), gn_sum[i] = splat(sum_lanes(gn_sum[i]) / count);
    }
    for_vecs(C, [&](int64_t c, int64_t lanes) __attribute__((always_inline)) {
        const vec w = load_first(weight + c, lanes);
        PYCNN_UNROLL for (int i = 0; i < R; ++i) {
            const vec n = (load_first(x + i * C + c, lanes) - mean[i]) * inverse[i];
            const vec g = load_first(dy + i * C + c, lanes) * w;
            store_first(dx + i * C + c, (g - fma(n, gn_sum[i], g_sum[i])) * inverse[i], lanes);
        }
    });
}

}  // namespace

void layer_norm(const LayerNormRows& given) {
    const LayerNormRows s = given;  // a copy, which no store can change
    int64_t r = 0;
    for (; r + kTogether <= s.rows; r += kTogether) normalise<kTogether>(s, r);
    for (; r < s.rows; ++r) normalise<1>(s, r);
    if (s.stream) end_stream();
}

void layer_norm_gradient(const LayerNormGradient& given) {
    const LayerNormGradient s = given;
    int64_t r = 0;
    for (; r + kTogether <= s.rows; r += kTogether) gradient<kTogether>(s, r);
    for (; r < s.rows; ++r) gradient<1>(s, r);
}

}  // namespace pycnn::PYCNN_ISA
