// Batch normalisation, 16 channels at a time, and what its gradient needs. x, y, dx, dy are [rows][C].
//
//   norm_chunk           near = a value near the mean of these rows; sum = sum of x - near; squares = sum of (x -
//   near)^2 norm_apply           y = (x - mean) * scale + shift, then relu on request; may run in place
//   norm_gradient_sums   sums[0][c] = sum of g,  sums[1][c] = sum of g * (x - mean)         } g = dy where y > 0 or NaN
//   norm_gradient        dx = g * scale + (x - mean) * slope + constant; in place on dy     } (with relu), else dy
//
// A chunk is small enough to stay in L1, so its second pass costs little, and its sums of float32 stay exact enough:
// ../ops/norm.cpp adds chunks in float64. The mask of relu is computed again from x, with the bits of norm_apply, which
// saves reading y. Which rows a sum takes one after the other depends on C alone.

#include "kernels.h"
#include "simd.h"
#include "table.h"

namespace pycnn::PYCNN_ISA {
namespace {

PYCNN_INLINE int64_t width(int v, int V, int64_t last) { return v == V - 1 ? last : VL; }

// V vecs of channels from c on, the last of `last` lanes; R rows at a time, each with sums of its own.
template <int V, int R>
PYCNN_INLINE void chunk_columns(const NormChunk& s, int64_t c, int64_t last) {
    const float* x = s.x + c;
    const int64_t whole_rows = s.rows / R * R;
    vec near[V], acc[R * V];
    PYCNN_UNROLL for (int i = 0; i < R * V; ++i) acc[i] = splat(0.0f);
    for (int64_t r = 0; r < whole_rows; r += R)
        PYCNN_UNROLL for (int i = 0; i < R * V; ++i) acc[i] =
            acc[i] + load_first(x + (r + i / V) * s.C + i % V * VL, width(i % V, V, last));
    for (int64_t r = whole_rows; r < s.rows; ++r)
        PYCNN_UNROLL for (int v = 0; v < V; ++v) acc[v] = acc[v] + load_first(x + r * s.C + v * VL, width(v, V, last));
    PYCNN_UNROLL for (int v = 0; v < V; ++v) {
        for (int i = 1; i < R; ++i) acc[v] = acc[v] + acc[i * V + v];
        near[v] = acc[v] / splat(static_cast<float>(s.rows));
        store_first(s.near + c + v * VL, near[v], width(v, V, last));
    }
    vec squares[R * V];
    PYCNN_UNROLL for (int i = 0; i < R * V; ++i) acc[i] = squares[i] = splat(0.0f);
    for (int64_t r = 0; r < whole_rows; r += R) PYCNN_UNROLL for (int i = 0; i < R * V; ++i) {
            const vec d = load_first(x + (r + i / V) * s.C + i % V * VL, width(i % V, V, last)) - near[i % V];
            acc[i] = acc[i] + d, squares[i] = fma(d, d, squares[i]);
        }
    for (int64_t r = whole_rows; r < s.rows; ++r) PYCNN_UNROLL for (int v = 0; v < V; ++v) {
            const vec d = load_first(x + r * s.C + v * VL, width(v, V, last)) - near[v];
            acc[v] = acc[v] + d, squares[v] = fma(d, d, squares[v]);
        }
    PYCNN_UNROLL for (int v = 0; v < V; ++v) {
        for (int i = 1; i < R; ++i) acc[v] = acc[v] + acc[i * V + v], squares[v] = squares[v] + squares[i * V + v];
        store_first(s.sum + c + v * VL, acc[v], width(v, V, last));
        store_first(s.squares + c + v * VL, squares[v], width(v, V, last));
    }
}

struct Coefficients {  // of 16 channels
    vec mean, scale, shift;
};
PYCNN_INLINE Coefficients coefficients(const NormRows& s, int64_t c, int64_t lanes) {
    return {load_first(s.mean + c, lanes), load_first(s.scale + c, lanes), load_first(s.shift + c, lanes)};
}

template <bool RELU>
PYCNN_INLINE vec normalised(vec x, const Coefficients& k) {
    const vec y = fma(x - k.mean, k.scale, k.shift), zero = splat(0.0f);
    return RELU ? select(greater(zero, y), zero, y) : y;
}
template <bool RELU>
PYCNN_INLINE vec masked(vec dy, vec x, const Coefficients& k) {
    if (!RELU) return dy;
    const vec y = fma(x - k.mean, k.scale, k.shift), zero = splat(0.0f);
    return select(greater(y, zero) | is_nan(y), dy, zero);
}

template <bool RELU>
PYCNN_INLINE void apply(float* y, const float* x, const NormRows& s) {
    if (s.C == VL) {
        const Coefficients k = coefficients(s, 0, VL);
        for (int64_t r = 0; r < s.rows; ++r) store(y + r * VL, normalised<RELU>(load(x + r * VL), k));
        return;
    }
    for (int64_t r = 0; r < s.rows; ++r, x += s.C, y += s.C) {
        int64_t c = 0;
        for (; c + VL <= s.C; c += VL) store(y + c, normalised<RELU>(load(x + c), coefficients(s, c, VL)));
        if (c < s.C)
            store_first(y + c, normalised<RELU>(load_first(x + c, s.C - c), coefficients(s, c, s.C - c)), s.C - c);
    }
}

template <bool RELU, int V, int R>
PYCNN_INLINE void sum_columns(float* sums, const float* dy, const float* x, const NormRows& s, int64_t c,
                              int64_t last) {
    Coefficients k[V];
    vec first[R * V], second[R * V];
    PYCNN_UNROLL for (int v = 0; v < V; ++v) k[v] = coefficients(s, c + v * VL, width(v, V, last));
    PYCNN_UNROLL for (int i = 0; i < R * V; ++i) first[i] = second[i] = splat(0.0f);
    int64_t r = 0;
    for (; r + R <= s.rows; r += R) PYCNN_UNROLL for (int i = 0; i < R * V; ++i) {
            const int64_t at = (r + i / V) * s.C + c + i % V * VL, lanes = width(i % V, V, last);
            const vec value = load_first(x + at, lanes), g = masked<RELU>(load_first(dy + at, lanes), value, k[i % V]);
            first[i] = first[i] + g, second[i] = fma(g, value - k[i % V].mean, second[i]);
        }
    for (; r < s.rows; ++r) PYCNN_UNROLL for (int v = 0; v < V; ++v) {
            const int64_t at = r * s.C + c + v * VL, lanes = width(v, V, last);
            const vec value = load_first(x + at, lanes), g = masked<RELU>(load_first(dy + at, lanes), value, k[v]);
            first[v] = first[v] + g, second[v] = fma(g, value - k[v].mean, second[v]);
        }
    PYCNN_UNROLL for (int v = 0; v < V; ++v) {
        for (int i = 1; i < R; ++i) first[v] = first[v] + first[i * V + v], second[v] = second[v] + second[i * V + v];
        store_first(sums + c + v * VL, first[v], width(v, V, last));
        store_first(sums + s.C + c + v * VL, second[v], width(v, V, last));
    }
}

template <bool RELU>
PYCNN_INLINE void gradient_sums(float* sums, const float* dy, const float* x, const NormRows& s) {
    int64_t c = 0;
    for (; c + 2 * VL <= s.C; c += 2 * VL) sum_columns<RELU, 2, 1>(sums, dy, x, s, c, VL);
    for (; c + VL <= s.C; c += VL) sum_columns<RELU, 1, 2>(sums, dy, x, s, c, VL);
    if (c < s.C) sum_columns<RELU, 1, 2>(sums, dy, x, s, c, s.C - c);
}

template <bool RELU>
PYCNN_INLINE void gradient_vec(float* dx, const float* dy, const float* x, const Coefficients& k, vec constant,
                               vec slope, int64_t lanes) {
    const vec value = load_first(x, lanes), g = masked<RELU>(load_first(dy, lanes), value, k);
    store_first(dx, fma(g, k.scale, fma(value - k.mean, slope, constant)), lanes);
}

template <bool RELU>
PYCNN_INLINE void gradient(float* dx, const float* dy, const float* x, const NormRows& s, const float* constant,
                           const float* slope) {
    if (s.C == VL) {
        const Coefficients k = coefficients(s, 0, VL);
        const vec c0 = load(constant), c1 = load(slope);
        for (int64_t at = 0; at < s.rows * VL; at += VL) gradient_vec<RELU>(dx + at, dy + at, x + at, k, c0, c1, VL);
        return;
    }
    for (int64_t r = 0; r < s.rows; ++r, dx += s.C, dy += s.C, x += s.C) {
        int64_t c = 0;
        for (; c + VL <= s.C; c += VL)
            gradient_vec<RELU>(dx + c, dy + c, x + c, coefficients(s, c, VL), load(constant + c), load(slope + c), VL);
        const int64_t rest = s.C - c;
        if (rest)
            gradient_vec<RELU>(dx + c, dy + c, x + c, coefficients(s, c, rest), load_first(constant + c, rest),
                               load_first(slope + c, rest), rest);
    }
}

}  // namespace

void norm_chunk(const NormChunk& s) {
    int64_t c = 0;
    for (; c + 2 * VL <= s.C; c += 2 * VL) chunk_columns<2, 1>(s, c, VL);
    for (; c + VL <= s.C; c += VL) chunk_columns<1, 2>(s, c, VL);
    if (c < s.C) chunk_columns<1, 2>(s, c, s.C - c);
}

void norm_apply(float* y, const float* x, const NormRows& s) { s.relu ? apply<true>(y, x, s) : apply<false>(y, x, s); }

void norm_gradient_sums(float* sums, const float* dy, const float* x, const NormRows& s) {
    s.relu ? gradient_sums<true>(sums, dy, x, s) : gradient_sums<false>(sums, dy, x, s);
}

void norm_gradient(float* dx, const float* dy, const float* x, const NormRows& s, const float* constant,
                   const float* slope) {
    s.relu ? gradient<true>(dx, dy, x, s, constant, slope) : gradient<false>(dx, dy, x, s, constant, slope);
}

}  // namespace pycnn::PYCNN_ISA
