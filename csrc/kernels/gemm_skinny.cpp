// Products with a narrow result, where packing would cost more than the arithmetic: every operand is read once, in
// place.
//
//   gemm_dots      c[i][j] = sum over p of a[i][p] * b[j][p]     p contiguous in both; 16 partial sums, added as a tree
//   gemm_one_row   c[j]    = sum over p of x[p] * b[p][j]        j contiguous; p in order
//   linear_row     the same, with b packed in panels, and an epilogue
//
// All overwrite c. The order of additions of an element depends on k alone.

#include "finish.h"
#include "kernels.h"
#include "simd_maps.h"
#include "table.h"

namespace pycnn::PYCNN_ISA {
namespace {

// I x J dots at once, I * J a multiple of 4. Rows past the last one repeat it; only the inside is stored.
template <int I, int J>
PYCNN_INLINE void dots_tile(const GemmDots& s, int64_t row, int64_t column) {
    const int64_t mr = s.m - row < I ? s.m - row : I, nr = s.n - column < J ? s.n - column : J;
    const float *ai[I], *bj[J];
    PYCNN_UNROLL for (int i = 0; i < I; ++i) ai[i] = s.a + (row + (i < mr ? i : mr - 1)) * s.lda;
    PYCNN_UNROLL for (int j = 0; j < J; ++j) bj[j] = s.b + (column + (j < nr ? j : nr - 1)) * s.ldb;
    vec acc[I * J];
    PYCNN_UNROLL for (int i = 0; i < I * J; ++i) acc[i] = splat(0.0f);
    const auto add = [&](int64_t p, int64_t lanes) __attribute__((always_inline)) {
        vec bv[J];
        PYCNN_UNROLL for (int j = 0; j < J; ++j) bv[j] = load_first(bj[j] + p, lanes);
        PYCNN_UNROLL for (int i = 0; i < I; ++i) {
            const vec av = load_first(ai[i] + p, lanes);
            PYCNN_UNROLL for (int j = 0; j < J; ++j) acc[i * J + j] = fma(av, bv[j], acc[i * J + j]);
        }
    };
    const int64_t k = s.k;
    int64_t p = 0;
    for (; p + VL <= k; p += VL) add(p, VL);
    if (p < k) add(p, k - p);
    float sum[I * J];
    PYCNN_UNROLL for (int i = 0; i < I * J; i += 4) sum_lanes(sum + i, acc[i], acc[i + 1], acc[i + 2], acc[i + 3]);
    float* c = s.c + row * s.c_row + column * s.c_col;
    for (int64_t i = 0; i < mr; ++i)
        for (int64_t j = 0; j < nr; ++j) c[i * s.c_row + j * s.c_col] = sum[i * J + j];
}

template <int I, int J>
PYCNN_INLINE void dots_tiles(const GemmDots& s) {
    for (int64_t i = 0; i < s.m; i += I)
        for (int64_t j = 0; j < s.n; j += J) dots_tile<I, J>(s, i, j);
}

// V vecs of columns from j on at once, `last` lanes in the last of them.
template <int V>
PYCNN_INLINE void row_times_panel(const GemmOneRow& s, int64_t j, int64_t last) {
    vec acc[V];
    PYCNN_UNROLL for (int v = 0; v < V; ++v) acc[v] = splat(0.0f);
    const float *x = s.x, *row = s.b + j;
    for (int64_t p = 0; p < s.k; ++p, x += s.x_step, row += s.ldb) {
        const vec factor = splat(*x);
        PYCNN_UNROLL for (int v = 0; v < V; ++v) acc[v] =
            fma(factor, load_first(row + v * VL, v == V - 1 ? last : VL), acc[v]);
    }
    PYCNN_UNROLL for (int v = 0; v < V; ++v) store_first(s.c + j + v * VL, acc[v], v == V - 1 ? last : VL);
}

// P panels of V vecs side by side, each a stream of its own through memory; `last` lanes in the last vec of the last.
template <int P, int V>
PYCNN_INLINE void row_times_panels(const LinearRow& s, int64_t j, int64_t last) {
    const float* b[P];
    PYCNN_UNROLL for (int p = 0; p < P; ++p) b[p] = s.packed + (j + p * V * VL) * s.in;
    vec acc[P][V];
    PYCNN_UNROLL for (int p = 0; p < P; ++p) PYCNN_UNROLL for (int v = 0; v < V; ++v) acc[p][v] = splat(0.0f);
    for (int64_t k = 0; k < s.in; ++k) {
        const vec factor = splat(s.x[k]);
        PYCNN_UNROLL for (int p = 0; p < P; ++p) {
            PYCNN_UNROLL for (int v = 0; v < V; ++v) acc[p][v] = fma(factor, load(b[p] + v * VL), acc[p][v]);
            b[p] += V * VL;
        }
    }
    const bool relu = has_relu(s.epilogue);
    PYCNN_UNROLL for (int p = 0; p < P; ++p) PYCNN_UNROLL for (int v = 0; v < V; ++v) {
        const int64_t at = j + (p * V + v) * VL, lanes = p == P - 1 && v == V - 1 ? last : VL;
        vec y = acc[p][v];
        if (s.epilogue.bias) y = y + load_first(s.epilogue.bias + at, lanes);
        store_first(s.y + at, relu_if(relu, y), lanes);
    }
}

}  // namespace

void gemm_dots(const GemmDots& given) {
    const GemmDots s = given;                                   // a copy, which no store can change
    constexpr int SIDE = REG == 64 ? 4 : 2, COLUMN = 2 * SIDE;  // 16 of 32 registers, 8 of 16
    s.n == 1 ? dots_tiles<COLUMN, 1>(s) : dots_tiles<SIDE, SIDE>(s);
}

void gemm_one_row(const GemmOneRow& s) {
    constexpr int V = REG == 64 ? 8 : 4;
    int64_t j = 0;
    for (; j + V * VL <= s.n; j += V * VL) row_times_panel<V>(s, j, VL);
    for (; j + VL <= s.n; j += VL) row_times_panel<1>(s, j, VL);
    if (j < s.n) row_times_panel<1>(s, j, s.n - j);
}

void linear_row(const LinearRow& s) {
    // 160 MB by two threads, GB/s: 27.8 as one stream a thread, 27.1 as two, 23.4 as four, 22.2 as eight (Zen 4). Two,
    // so that the FMAs of small layers do not wait for each other.
    constexpr int P = 2;
    int64_t j = 0;
    for (; j + P * NR <= s.out; j += P * NR) row_times_panels<P, NV>(s, j, VL);
    for (; j + NR <= s.out; j += NR) row_times_panels<1, NV>(s, j, VL);
    if (s.out - j > VL)
        row_times_panels<1, NV>(s, j, s.out - j - (NV - 1) * VL);
    else if (s.out > j)
        row_times_panels<1, 1>(s, j, s.out - j);
    finish_late({.y = s.y, .size = s.out}, s.epilogue);
}

}  // namespace pycnn::PYCNN_ISA
