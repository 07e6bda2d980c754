// Winograd's minimal filtering F(m x m, 3 x 3), m = 2 or 4: a tile of T x T inputs, T = m + 2, gives m x m outputs with
// T * T products a channel instead of 9 m m: 2.25 and 4 times fewer.
//
//   y = A^T [ (G g G^T) * (B^T d B) ] A          * elementwise; summed over channels between the brackets
//
//   input      v[e] = B^T d B          d [T][T] pixels of C channels, zero outside the image    e = i T + j
//   filter     u[e] = G g G^T          g [3][3] taps
//   product    m[e] = v[e] u[e]        one matrix product [tiles][C] x [C][OC] for each e
//   output     y    = A^T m A          and the epilogue; or the maximum of each 2 x 2 window first
//
// The gradient of the weight is the adjoint: z = A dy A^T, du[e] = v[e]^T z[e], dg = G^T du G.
//
// B, G and A are Cook and Toom's for the points 0, 1, -1 (m = 2) and 0, 1, -1, 1/2, -2 (m = 4), and infinity (docs/
// kernels.md derives them). All entries of B and A are exact in binary. Lanes are channels; each element adds its terms
// in the order of its row, so the bits are those of every instruction set with FMA.

#include "finish.h"
#include "kernels.h"
#include "simd_maps.h"
#include "table.h"

namespace pycnn::PYCNN_ISA {
namespace {

template <int M>
struct Points;

template <>
struct Points<2> {
    static constexpr float B[4][4] = {{1, 0, -1, 0}, {0, 1, 1, 0}, {0, -1, 1, 0}, {0, -1, 0, 1}};  // B^T
    static constexpr float G[4][3] = {{1, 0, 0}, {.5f, .5f, .5f}, {.5f, -.5f, .5f}, {0, 0, 1}};
    static constexpr float A[2][4] = {{1, 1, 1, 0}, {0, 1, -1, 1}};  // A^T
};

template <>
struct Points<4> {
    static constexpr float B[6][6] = {{1, -1.5f, -2, 1.5f, 1, 0}, {0, -1, .5f, 2.5f, 1, 0}, {0, 1, -2.5f, .5f, 1, 0},
                                      {0, -2, -1, 2, 1, 0},       {0, .5f, -1, -.5f, 1, 0}, {0, 1, -1.5f, -2, 1.5f, 1}};
    static constexpr float G[6][3] = {{1, 0, 0},
                                      {1.f / 3, 1.f / 3, 1.f / 3},
                                      {-1.f / 3, 1.f / 3, -1.f / 3},
                                      {-16.f / 15, -8.f / 15, -4.f / 15},
                                      {1.f / 15, -2.f / 15, 4.f / 15},
                                      {0, 0, 1}};
    static constexpr float A[4][6] = {
        {1, 1, 1, 1, 1, 0}, {0, 1, -1, .5f, -2, 0}, {0, 1, 1, .25f, 4, 0}, {0, 1, -1, .125f, -8, 1}};
};

// sum + factor * x; the factor is a constant of the unrolled loop, and so is the branch.
PYCNN_INLINE vec add_term(vec sum, float factor, vec x) {
    if (factor == 1) return sum + x;
    if (factor == -1) return sum - x;
    return fma(splat(factor), x, sum);
}

// One row of a matrix times x, its terms in order, zeros left out. `at(k)` is the k-th coefficient.
#define PYCNN_ROW(sum, count, at, x)                           \
    vec sum = splat(0.0f);                                     \
    {                                                          \
        bool started = false;                                  \
        PYCNN_UNROLL for (int k = 0; k < (count); ++k) {       \
            if (at(k) == 0) continue;                          \
            sum = started         ? add_term(sum, at(k), x[k]) \
                  : (at(k) == 1)  ? x[k]                       \
                  : (at(k) == -1) ? splat(0.0f) - x[k]         \
                                  : splat(at(k)) * x[k];       \
            started = true;                                    \
        }                                                      \
    }

// out[i * step] = sum over k of matrix[i][k] x[k].
template <int R, int K>
PYCNN_INLINE void apply(vec* out, int step, const float (&matrix)[R][K], const vec (&x)[K]) {
    PYCNN_UNROLL for (int i = 0; i < R; ++i) {
#define PYCNN_AT(k) matrix[i][k]
        PYCNN_ROW(sum, K, PYCNN_AT, x)
#undef PYCNN_AT
        out[i * step] = sum;
    }
}

// out[i * step] = sum over k of matrix[k][i] x[k].
template <int R, int K>
PYCNN_INLINE void apply_transposed(vec* out, int step, const float (&matrix)[K][R], const vec (&x)[K]) {
    PYCNN_UNROLL for (int i = 0; i < R; ++i) {
#define PYCNN_AT(k) matrix[k][i]
        PYCNN_ROW(sum, K, PYCNN_AT, x)
#undef PYCNN_AT
        out[i * step] = sum;
    }
}

// Where the pixels of a tile lie for one vec of channels: row i from row[i] on, step[i] floats between them. What lies
// outside the image reads zeros, without a branch at each pixel: of a small image most tiles reach outside.
template <int S>
struct Pixels {
    const float* row[S];
    int64_t step[S];
    const float* next;  // a later tile's first pixel
};

alignas(64) const float kZeros[VL] = {};

template <int S, bool INSIDE>
PYCNN_INLINE Pixels<S> pixels_of(const WinogradInput& s, int64_t c) {
    Pixels<S> p;
    PYCNN_UNROLL for (int i = 0; i < S; ++i) {
        const bool in = INSIDE || (i >= s.row_begin && i < s.row_end);
        p.row[i] = in ? s.d + i * s.row + c : kZeros;
        p.step[i] = in ? s.pixel : 0;
    }
    p.next = s.next + c;
    return p;
}

// Column j. fetched: of a later tile, rows from this one on come to L2 meanwhile, which would be waited for: a tile is S
// short streams. The rows above were read by the tiles above, and the columns before by the one before.
template <int S, bool INSIDE>
PYCNN_INLINE void load_column(vec (&d)[S], const WinogradInput& s, const Pixels<S>& p, int j, int64_t lanes,
                              int fetched) {
    if (!INSIDE && (j < s.col_begin || j >= s.col_end)) {
        PYCNN_UNROLL for (int i = 0; i < S; ++i) d[i] = splat(0.0f);
        return;
    }
    PYCNN_UNROLL for (int i = 0; i < S; ++i) d[i] = load_first(p.row[i] + j * p.step[i], lanes);
    if (j < fetched) return;
    PYCNN_UNROLL for (int i = 0; i < S; ++i) if (i >= fetched) prefetch(p.next + i * s.row + j * s.pixel);
}

template <int M, bool INSIDE>
PYCNN_INLINE void input_chunk(const WinogradInput& s, int64_t c, int64_t lanes) {
    constexpr int T = M + 2;
    vec half[T][T], row[T];
    const Pixels<T> pixels = pixels_of<T, INSIDE>(s, c);
    for (int j = 0; j < T; ++j) {
        vec d[T];
        load_column<T, INSIDE>(d, s, pixels, j, lanes, 2);
        apply(&half[0][j], T, Points<M>::B, d);
    }
    float* v = s.v + c / VL * s.v_chunk;
    for (int i = 0; i < T; ++i) {
        apply(row, 1, Points<M>::B, half[i]);
        PYCNN_UNROLL for (int j = 0; j < T; ++j) store(v + (i * T + j) * s.v_element, row[j]);
    }
}

template <int M, bool INSIDE>
PYCNN_INLINE void gradient_chunk(const WinogradInput& s, int64_t c, int64_t lanes) {
    constexpr int T = M + 2;
    vec half[T][M], row[T];
    const Pixels<M> pixels = pixels_of<M, INSIDE>(s, c);
    for (int j = 0; j < M; ++j) {
        vec d[M];
        load_column<M, INSIDE>(d, s, pixels, j, lanes, 0);
        apply_transposed(&half[0][j], M, Points<M>::A, d);
    }
    float* v = s.v + c / VL * s.v_chunk;
    for (int i = 0; i < T; ++i) {
        apply_transposed(row, 1, Points<M>::A, half[i]);
        PYCNN_UNROLL for (int j = 0; j < T; ++j) store(v + (i * T + j) * s.v_element, row[j]);
    }
}

// All channels, by chunk<INSIDE>(c, lanes).
template <int S, class Whole, class Cut>
PYCNN_INLINE void chunks(const WinogradInput& s, Whole&& whole, Cut&& cut) {
    const bool inside = s.row_begin == 0 && s.col_begin == 0 && s.row_end == S && s.col_end == S;
    int64_t c = 0;
    if (inside)
        for (; c + VL <= s.C; c += VL) whole(c);
    for (; c < s.C; c += VL) cut(c, s.C - c < VL ? s.C - c : VL);
}

template <int M>
PYCNN_INLINE void input_tile(const WinogradInput& s) {
    chunks<M + 2>(
        s, [&](int64_t c) __attribute__((always_inline)) { input_chunk<M, true>(s, c, VL); },
        [&](int64_t c, int64_t lanes) __attribute__((always_inline)) { input_chunk<M, false>(s, c, lanes); });
}

template <int M>
PYCNN_INLINE void gradient_tile(const WinogradInput& s) {
    chunks<M>(
        s, [&](int64_t c) __attribute__((always_inline)) { gradient_chunk<M, true>(s, c, VL); },
        [&](int64_t c, int64_t lanes) __attribute__((always_inline)) { gradient_chunk<M, false>(s, c, lanes); });
}

template <int M>
PYCNN_INLINE void filter(const WinogradFilter& s, int64_t at, int64_t row_at, int64_t lanes) {
    constexpr int T = M + 2;
    const float* w = s.w + row_at * s.row + at;
    float* u = s.u + row_at * NR + at;
    vec half[T][3], row[T];
    PYCNN_UNROLL for (int j = 0; j < 3; ++j) {
        vec g[3];
        PYCNN_UNROLL for (int i = 0; i < 3; ++i) g[i] = load_first(w + (i * 3 + j) * s.tap, lanes);
        apply(&half[0][j], 3, Points<M>::G, g);
    }
    for (int i = 0; i < T; ++i) {
        apply(row, 1, Points<M>::G, half[i]);
        PYCNN_UNROLL for (int j = 0; j < T; ++j) store(u + (i * T + j) * s.element, row[j]);
    }
}

template <int M>
PYCNN_INLINE void filter_rows(const WinogradFilter& s) {
    for (int64_t r = 0; r < s.rows; ++r) {
        int64_t j = 0;
        for (; j + VL <= s.columns; j += VL) filter<M>(s, j, r, VL);
        if (j < s.columns) filter<M>(s, j, r, s.columns - j);
    }
}

template <int M>
PYCNN_INLINE void filter_gradient(const WinogradFilterGradient& s) {
    constexpr int T = M + 2;
    for (int64_t at = 0; at < s.size; at += VL) {
        const int64_t lanes = s.size - at < VL ? s.size - at : VL;
        vec half[3][T], row[3];
        for (int j = 0; j < T; ++j) {
            vec d[T];
            PYCNN_UNROLL for (int i = 0; i < T; ++i) d[i] = load_first(s.du + (i * T + j) * s.element + at, lanes);
            apply_transposed(&half[0][j], T, Points<M>::G, d);
        }
        for (int i = 0; i < 3; ++i) {
            apply_transposed(row, 1, Points<M>::G, half[i]);
            PYCNN_UNROLL for (int j = 0; j < 3; ++j) {
                float* to = s.dw + (i * 3 + j) * s.tap + at;
                store_first(to, s.add ? load_first(to, lanes) + row[j] : row[j], lanes);
            }
        }
    }
}

template <int M>
PYCNN_INLINE void store_map(const WinogradOutput& s, const vec (&y)[M][M], int64_t c, int64_t lanes, vec bias) {
    const bool relu = has_relu(s.epilogue);
    for (int64_t i = 0; i < s.rows; ++i)
        for (int64_t j = 0; j < s.cols; ++j) {
            const int64_t at = i * s.row + j * s.OC + c;
            vec v = y[i][j] + bias;
            if (s.epilogue.residual) v = v + load_first(s.epilogue.residual + at, lanes);
            store_first(s.y + at, relu_if(relu, v), lanes);
        }
}

// All pixels of a tile, a row at a time, so that no sum waits in memory; the same pixels of a later tile are fetched for
// writing, or the stores of this one would fill the queue.
template <int M>
PYCNN_INLINE void store_whole(const WinogradOutput& s, const vec (&half)[M][M + 2], int64_t c, vec bias) {
    const bool relu = has_relu(s.epilogue);
    PYCNN_UNROLL for (int i = 0; i < M; ++i) {
        vec y[M];
        apply(y, 1, Points<M>::A, half[i]);
        PYCNN_UNROLL for (int j = 0; j < M; ++j) {
            const int64_t at = i * s.row + j * s.OC + c;
            __builtin_prefetch(s.next + at, 1, 2);
            store(s.y + at, relu_if(relu, y[j] + bias));
        }
    }
}

// The maximum of each window that has a row and a column inside the map; `where` is 2 i + j of the first one.
template <int M>
PYCNN_INLINE void store_pooled(const WinogradOutput& s, const vec (&y)[M][M], int64_t c, int64_t lanes, vec bias) {
    for (int64_t ph = 0; ph < s.pool_rows; ++ph)
        for (int64_t pw = 0; pw < s.pool_cols; ++pw) {
            Maximum best{y[2 * ph][2 * pw], isplat(0)};
            PYCNN_UNROLL for (int at = 1; at < 4; ++at) {
                const int64_t i = 2 * ph + at / 2, j = 2 * pw + at % 2;
                if (i >= s.rows || j >= s.cols) continue;
                take(best, y[i][j], at);
            }
            const int64_t to = ph * s.row + pw * s.OC + c;
            store_first(s.y + to, relu_if(has_relu(s.epilogue), best.value + bias), lanes);
            if (s.where) store_bytes(s.where + to, best.at, lanes);
        }
}

template <int M>
PYCNN_INLINE void output_tile(const WinogradOutput& s) {
    constexpr int T = M + 2;
    const bool whole = s.rows == M && s.cols == M && !s.pool_rows && !s.epilogue.residual;
    for (int64_t c = 0; c < s.channels; c += VL) {
        const int64_t lanes = s.channels - c < VL ? s.channels - c : VL;
        const float* m = s.m + c / NR * s.m_panel + c % NR;
        vec half[M][T], y[M][M];
        for (int j = 0; j < T; ++j) {
            vec d[T];
            PYCNN_UNROLL for (int i = 0; i < T; ++i) d[i] = load(m + (i * T + j) * s.m_element);
            apply(&half[0][j], T, Points<M>::A, d);
        }
        const vec bias = bias_of(s.epilogue, c, lanes);
        if (whole && lanes == VL) {
            store_whole<M>(s, half, c, bias);
            continue;
        }
        PYCNN_UNROLL for (int i = 0; i < M; ++i) apply(y[i], 1, Points<M>::A, half[i]);
        s.pool_rows ? store_pooled<M>(s, y, c, lanes, bias) : store_map<M>(s, y, c, lanes, bias);
    }
    if (!is_late(s.epilogue)) return;
    const int64_t rows = s.pool_rows ? s.pool_rows : s.rows, cols = s.pool_rows ? s.pool_cols : s.cols;
    for (int64_t i = 0; i < rows; ++i)
        finish_late({.y = s.y + i * s.row, .size = s.channels, .rows = cols, .row = s.OC}, s.epilogue);
}

}  // namespace

void winograd_input(const WinogradInput& s, int64_t m) { m == 2 ? input_tile<2>(s) : input_tile<4>(s); }

void winograd_gradient(const WinogradInput& s, int64_t m) { m == 2 ? gradient_tile<2>(s) : gradient_tile<4>(s); }

void winograd_output(const WinogradOutput& s, int64_t m) { m == 2 ? output_tile<2>(s) : output_tile<4>(s); }

void winograd_filter(const WinogradFilter& s, int64_t m) { m == 2 ? filter_rows<2>(s) : filter_rows<4>(s); }

void winograd_filter_gradient(const WinogradFilterGradient& s, int64_t m) {
    m == 2 ? filter_gradient<2>(s) : filter_gradient<4>(s);
}

}  // namespace pycnn::PYCNN_ISA
