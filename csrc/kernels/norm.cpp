// Batch normalisation, 16 channels at a time, and what its gradient needs. x, y, dx, dy are [rows][C].
//
//   norm_chunk           near = a value near the mean of these rows; sum = sum of x - near;
//                        squares = sum of (x - near)^2
//   norm_apply           y = (x - mean) * scale + shift + residual, then clip to 0 .. high on request; y may be x or residual
//   norm_gradient_sums   sums[0][c] = sum of g,  sums[1][c] = sum of g * (x - mean)       } with clip g = dy where
//   norm_gradient        dx = g * scale + (x - mean) * slope + constant; may be dy        } 0 < y < high or NaN, else g = dy
//
// A chunk is small enough to stay in L1, so its second pass costs little, and its sums of float32 stay exact enough:
// ../ops/maps/norm.cpp adds chunks in float64. The mask of clip is computed again from x, with the bits of norm_apply, which
// saves reading y; with a residual y is read. Which rows a sum takes one after the other depends on C alone.

#include "kernels.h"
#include "simd_maps.h"
#include "table.h"

namespace pycnn::PYCNN_ISA {
namespace {

PYCNN_INLINE int64_t width(int v, int V, int64_t last) { return v == V - 1 ? last : VL; }

// Columns of rows far apart are no stream that the hardware follows, so the next chunk is fetched by hand, to L2: two
// threads, Zen 4, 8x56x56x256, ms before -> after: forward 5.8 -> 3.2, backward 9.1 -> 4.5 (in the order of the columns
// instead: no gain; to L1: 4.1, 6.2). Results past the caches as well: 2.5, 4.8.
// While row r of V vecs of channels from c on is at work: their share of the next chunk, in the order of memory.
template <int V, int WRITE = 0>
PYCNN_INLINE void fetch_ahead(const float* x, int64_t rows, int64_t C, int64_t c, int64_t r) {
    const float* at = x + rows * C + c * rows + r * V * VL;
    PYCNN_UNROLL for (int v = 0; v < V; ++v) __builtin_prefetch(at + v * VL, WRITE, 2);
}

template <bool STREAM>
PYCNN_INLINE void put(float* to, vec value, int64_t lanes) {
    if (STREAM)
        stream(to, value);
    else
        store_first(to, value, lanes);
}

// V vecs of channels from c on, the last of `last` lanes; R rows at a time, each with sums of its own.
template <bool COPY, int V, int R>
PYCNN_INLINE void chunk_columns(const NormChunk& s, int64_t c, int64_t last) {
    const float* x = s.x + c;
    const int64_t whole_rows = s.rows / R * R;
    vec near[V], acc[R * V];
    PYCNN_UNROLL for (int i = 0; i < R * V; ++i) acc[i] = splat(0.0f);
    for (int64_t r = 0; r < whole_rows; r += R) {
        if (!COPY) PYCNN_UNROLL for (int i = 0; i < R; ++i) fetch_ahead<V>(s.x, s.rows, s.C, c, r + i);
        PYCNN_UNROLL for (int i = 0; i < R * V; ++i) acc[i] =
            acc[i] + load_first(x + (r + i / V) * s.C + i % V * VL, width(i % V, V, last));
    }
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
            const int64_t at = (r + i / V) * s.C + i % V * VL;
            const vec value = load_first(x + at, width(i % V, V, last)), d = value - near[i % V];
            if (COPY) stream(s.copy + c + at, value);
            acc[i] = acc[i] + d, squares[i] = fma(d, d, squares[i]);
        }
    for (int64_t r = whole_rows; r < s.rows; ++r) PYCNN_UNROLL for (int v = 0; v < V; ++v) {
            const vec value = load_first(x + r * s.C + v * VL, width(v, V, last)), d = value - near[v];
            if (COPY) stream(s.copy + c + r * s.C + v * VL, value);
            acc[v] = acc[v] + d, squares[v] = fma(d, d, squares[v]);
        }
    PYCNN_UNROLL for (int v = 0; v < V; ++v) {
        for (int i = 1; i < R; ++i) acc[v] = acc[v] + acc[i * V + v], squares[v] = squares[v] + squares[i * V + v];
        store_first(s.sum + c + v * VL, acc[v], width(v, V, last));
        store_first(s.squares + c + v * VL, squares[v], width(v, V, last));
    }
}

template <bool COPY>
PYCNN_INLINE void chunk(const NormChunk& s) {
    int64_t c = 0;
    for (; c + 2 * VL <= s.C; c += 2 * VL) chunk_columns<COPY, 2, 1>(s, c, VL);
    for (; c + VL <= s.C; c += VL) chunk_columns<COPY, 1, 2>(s, c, VL);
    if (c < s.C) chunk_columns<COPY, 1, 2>(s, c, s.C - c);
}

struct Coefficients {  // of 16 channels
    vec mean, scale, shift;
};
PYCNN_INLINE Coefficients coefficients(const NormRows& s, int64_t c, int64_t lanes) {
    return {load_first(s.mean + c, lanes), load_first(s.scale + c, lanes), load_first(s.shift + c, lanes)};
}

// relu, and the smaller of it and high, which is high only where it is a number.
template <bool CLIPS>
PYCNN_INLINE vec clipped(vec y, vec high) {
    return CLIPS ? smaller(high, relu(y)) : y;
}
// y > 0, but not y >= high; so NaN passes, and all above 0 where high is NaN.
PYCNN_INLINE ivec passes(vec y, vec high) {
    ivec r;
    PYCNN_EACH r.part[p] = ~((y.part[p] <= reg{}) | (y.part[p] >= high.part[p]));
    return r;
}

// Where the mask of clip comes from; WRITTEN: g is stored too, for the residual, and read where dx is made.
enum class Mask { none, from_x, from_y, written };

// g of 16 numbers at `at`.
template <Mask MASK>
PYCNN_INLINE vec masked(const float* dy, vec x, const Coefficients& k, const NormRows& s, int64_t at, int64_t lanes) {
    const vec g = load_first(dy + at, lanes), zero = splat(0.0f);
    if (MASK == Mask::none) return g;
    const vec y = MASK == Mask::from_x ? fma(x - k.mean, k.scale, k.shift) : load_first(s.y + at, lanes);
    const vec passed = select(passes(y, splat(s.high)), g, zero);
    if (MASK == Mask::written) store_first(s.masked + at, passed, lanes);
    return passed;
}

// Coefficients stay in registers while a chunk of rows, which lies in L1, passes by.
template <bool CLIPS, bool ADD, bool STREAM, int V>
PYCNN_INLINE void apply_columns(float* y, const float* x, const NormRows& s, int64_t c, int64_t last) {
    Coefficients k[V];
    PYCNN_UNROLL for (int v = 0; v < V; ++v) k[v] = coefficients(s, c + v * VL, width(v, V, last));
    for (int64_t r = 0; r < s.rows; ++r) {
        fetch_ahead<V>(x, s.rows, s.C, c, r);
        if (ADD) fetch_ahead<V>(s.residual, s.rows, s.C, c, r);
        if (!STREAM) fetch_ahead<V, 1>(y, s.rows, s.C, c, r);
        PYCNN_UNROLL for (int v = 0; v < V; ++v) {
            const int64_t at = r * s.C + c + v * VL, lanes = width(v, V, last);
            vec value = fma(load_first(x + at, lanes) - k[v].mean, k[v].scale, k[v].shift);
            if (ADD) value = value + load_first(s.residual + at, lanes);
            put<STREAM>(y + at, clipped<CLIPS>(value, splat(s.high)), lanes);
        }
    }
}

// Two rows from r on, or one, in the order of memory.
template <bool CLIPS, bool ADD, bool STREAM, int R>
PYCNN_INLINE void apply_rows(float* y, const float* x, const NormRows& s, int64_t r) {
    const auto some = [&](int64_t c, int64_t lanes) __attribute__((always_inline)) {
        const Coefficients k = coefficients(s, c, lanes);
        vec value[R];
        PYCNN_UNROLL for (int i = 0; i < R; ++i) {
            const int64_t at = (r + i) * s.C + c, next = at + s.rows * s.C;
            __builtin_prefetch(x + next, 0, 2);
            if (ADD) __builtin_prefetch(s.residual + next, 0, 2);
            if (!STREAM) __builtin_prefetch(y + next, 1, 2);
            value[i] = fma(load_first(x + at, lanes) - k.mean, k.scale, k.shift);
            if (ADD) value[i] = value[i] + load_first(s.residual + at, lanes);
        }
        PYCNN_UNROLL for (int i = 0; i < R; ++i)
            put<STREAM>(y + (r + i) * s.C + c, clipped<CLIPS>(value[i], splat(s.high)), lanes);
    };
    int64_t c = 0;
    for (; c + VL <= s.C; c += VL) some(c, VL);
    if (c < s.C) some(c, s.C - c);
}

// No sums wait in registers here, so wide rows are taken as they lie. Down a column, where x and y lie a multiple of 4 KB
// apart, as in an arena, a load waits for the store of a row above: one image, two threads, Zen 4, AVX-512, microseconds:
// 28x28x512 65 -> 43, 14x14x1024 58 -> 31. Narrower rows, and y over x up to 512 channels, took up to 1.3 times as long.
template <bool CLIPS, bool ADD, bool STREAM>
PYCNN_INLINE void apply_all(float* y, const float* x, const NormRows& s) {
    if (s.C >= (y == x ? 1024 : 256)) {
        int64_t r = 0;
        for (; r + 2 <= s.rows; r += 2) apply_rows<CLIPS, ADD, STREAM, 2>(y, x, s, r);
        if (r < s.rows) apply_rows<CLIPS, ADD, STREAM, 1>(y, x, s, r);
        return;
    }
    int64_t c = 0;
    for (; c + 2 * VL <= s.C; c += 2 * VL) apply_columns<CLIPS, ADD, STREAM, 2>(y, x, s, c, VL);
    for (; c + VL <= s.C; c += VL) apply_columns<CLIPS, ADD, STREAM, 1>(y, x, s, c, VL);
    if (c < s.C) apply_columns<CLIPS, ADD, STREAM, 1>(y, x, s, c, s.C - c);
}

template <bool CLIPS, bool ADD>
PYCNN_INLINE void apply(float* y, const float* x, const NormRows& s) {
    s.stream ? apply_all<CLIPS, ADD, true>(y, x, s) : apply_all<CLIPS, ADD, false>(y, x, s);
    if (s.stream) end_stream();
}

template <Mask MASK, int V, int R>
PYCNN_INLINE void sum_columns(float* sums, const float* dy, const float* x, const NormRows& s, int64_t c,
                              int64_t last) {
    Coefficients k[V];
    vec first[R * V], second[R * V];
    PYCNN_UNROLL for (int v = 0; v < V; ++v) k[v] = coefficients(s, c + v * VL, width(v, V, last));
    PYCNN_UNROLL for (int i = 0; i < R * V; ++i) first[i] = second[i] = splat(0.0f);
    int64_t r = 0;
    for (; r + R <= s.rows; r += R) {
        PYCNN_UNROLL for (int i = 0; i < R; ++i) {
            fetch_ahead<V>(x, s.rows, s.C, c, r + i);
            fetch_ahead<V>(dy, s.rows, s.C, c, r + i);
        }
        PYCNN_UNROLL for (int i = 0; i < R * V; ++i) {
            const int64_t at = (r + i / V) * s.C + c + i % V * VL, lanes = width(i % V, V, last);
            const vec value = load_first(x + at, lanes), g = masked<MASK>(dy, value, k[i % V], s, at, lanes);
            first[i] = first[i] + g, second[i] = fma(g, value - k[i % V].mean, second[i]);
        }
    }
    for (; r < s.rows; ++r) PYCNN_UNROLL for (int v = 0; v < V; ++v) {
            const int64_t at = r * s.C + c + v * VL, lanes = width(v, V, last);
            const vec value = load_first(x + at, lanes), g = masked<MASK>(dy, value, k[v], s, at, lanes);
            first[v] = first[v] + g, second[v] = fma(g, value - k[v].mean, second[v]);
        }
    PYCNN_UNROLL for (int v = 0; v < V; ++v) {
        for (int i = 1; i < R; ++i) first[v] = first[v] + first[i * V + v], second[v] = second[v] + second[i * V + v];
        store_first(sums + c + v * VL, first[v], width(v, V, last));
        store_first(sums + s.C + c + v * VL, second[v], width(v, V, last));
    }
}

template <Mask MASK>
PYCNN_INLINE void gradient_sums(float* sums, const float* dy, const float* x, const NormRows& s) {
    int64_t c = 0;
    for (; c + 2 * VL <= s.C; c += 2 * VL) sum_columns<MASK, 2, 1>(sums, dy, x, s, c, VL);
    for (; c + VL <= s.C; c += VL) sum_columns<MASK, 1, 2>(sums, dy, x, s, c, VL);
    if (c < s.C) sum_columns<MASK, 1, 2>(sums, dy, x, s, c, s.C - c);
}

template <Mask MASK, bool STREAM, int V>
PYCNN_INLINE void gradient_columns(const NormGradient& a, const NormRows& s, int64_t c, int64_t last) {
    Coefficients k[V];
    vec constant[V], slope[V];
    PYCNN_UNROLL for (int v = 0; v < V; ++v) {
        const int64_t at = c + v * VL, lanes = width(v, V, last);
        k[v] = coefficients(s, at, lanes);
        constant[v] = load_first(a.constant + at, lanes), slope[v] = load_first(a.slope + at, lanes);
    }
    for (int64_t r = 0; r < s.rows; ++r) {
        fetch_ahead<V>(a.x, s.rows, s.C, c, r);
        fetch_ahead<V>(a.dy, s.rows, s.C, c, r);
        if (!STREAM) fetch_ahead<V, 1>(a.dx, s.rows, s.C, c, r);
        PYCNN_UNROLL for (int v = 0; v < V; ++v) {
            const int64_t at = r * s.C + c + v * VL, lanes = width(v, V, last);
            const vec x = load_first(a.x + at, lanes), g = masked<MASK>(a.dy, x, k[v], s, at, lanes);
            put<STREAM>(a.dx + at, fma(g, k[v].scale, fma(x - k[v].mean, slope[v], constant[v])), lanes);
        }
    }
}

template <Mask MASK, bool STREAM>
PYCNN_INLINE void gradient_all(const NormGradient& a, const NormRows& s) {
    int64_t c = 0;
    for (; c + 2 * VL <= s.C; c += 2 * VL) gradient_columns<MASK, STREAM, 2>(a, s, c, VL);
    for (; c + VL <= s.C; c += VL) gradient_columns<MASK, STREAM, 1>(a, s, c, VL);
    if (c < s.C) gradient_columns<MASK, STREAM, 1>(a, s, c, s.C - c);
}

template <Mask MASK>
PYCNN_INLINE void gradient(const NormGradient& a, const NormRows& s) {
    s.stream ? gradient_all<MASK, true>(a, s) : gradient_all<MASK, false>(a, s);
    if (s.stream) end_stream();
}

}  // namespace

void norm_chunk(const NormChunk& s) {
    s.copy ? chunk<true>(s) : chunk<false>(s);
    if (s.copy) end_stream();
}

void norm_apply(float* y, const float* x, const NormRows& s) {
    if (s.residual)
        s.clips ? apply<true, true>(y, x, s) : apply<false, true>(y, x, s);
    else
        s.clips ? apply<true, false>(y, x, s) : apply<false, false>(y, x, s);
}

void norm_gradient_sums(float* sums, const float* dy, const float* x, const NormRows& s) {
    if (!s.clips)
        gradient_sums<Mask::none>(sums, dy, x, s);
    else if (!s.y)
        gradient_sums<Mask::from_x>(sums, dy, x, s);
    else if (!s.masked)
        gradient_sums<Mask::from_y>(sums, dy, x, s);
    else
        gradient_sums<Mask::written>(sums, dy, x, s);
}

void norm_gradient(const NormGradient& given, const NormRows& s) {
    const NormGradient a = given;  // a copy, which no store can change
    if (!s.clips)
        gradient<Mask::none>(a, s);
    else if (!s.y)
        gradient<Mask::from_x>(a, s);
    else
        gradient<Mask::from_y>(a, s);
}

}  // namespace pycnn::PYCNN_ISA
