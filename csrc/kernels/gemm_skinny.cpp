// Products with a narrow result, where packing would cost more than the arithmetic: every operand is read once, in
// place.
//
//   gemm_dots      c[i][j] = sum over p of a[i][p] * b[j][p]     p contiguous in both; 16 partial sums, added as a tree
//   gemm_one_row   c[j]    = sum over p of x[p] * b[p][j]        j contiguous; p in order
//
// Both overwrite c. The order of additions of an element depends on k alone.

#include "kernels.h"
#include "simd.h"
#include "table.h"

namespace pycnn::PYCNN_ISA {
namespace {

constexpr int SIDE = REG == 64 ? 4 : 2;  // a SIDE x SIDE tile of dots: one load for two (one) FMAs

// Rows past `mr` and `nr` repeat the last one; only the inside is stored.
PYCNN_INLINE void dots_tile(float* c, int64_t c_row, int64_t c_col, const float* a, int64_t lda, const float* b,
                            int64_t ldb, int64_t mr, int64_t nr, int64_t k) {
    const float *ai[SIDE], *bj[SIDE];
    PYCNN_UNROLL for (int i = 0; i < SIDE; ++i) {
        ai[i] = a + (i < mr ? i : mr - 1) * lda;
        bj[i] = b + (i < nr ? i : nr - 1) * ldb;
    }
    vec acc[SIDE][SIDE];
    PYCNN_UNROLL for (int i = 0; i < SIDE; ++i) PYCNN_UNROLL for (int j = 0; j < SIDE; ++j) acc[i][j] = splat(0.0f);
    for (int64_t p = 0; p < k; p += VL) {
        const int64_t lanes = k - p < VL ? k - p : VL;
        vec bv[SIDE];
        PYCNN_UNROLL for (int j = 0; j < SIDE; ++j) bv[j] = load_first(bj[j] + p, lanes);
        PYCNN_UNROLL for (int i = 0; i < SIDE; ++i) {
            const vec av = load_first(ai[i] + p, lanes);
            PYCNN_UNROLL for (int j = 0; j < SIDE; ++j) acc[i][j] = fma(av, bv[j], acc[i][j]);
        }
    }
    float sum[SIDE][SIDE];
    PYCNN_UNROLL for (int i = 0; i < SIDE; ++i) PYCNN_UNROLL for (int j = 0; j < SIDE; ++j) sum[i][j] =
        sum_lanes(acc[i][j]);
    for (int64_t i = 0; i < mr; ++i)
        for (int64_t j = 0; j < nr; ++j) c[i * c_row + j * c_col] = sum[i][j];
}

// V vecs of columns at once, `last` lanes in the last of them.
template <int V>
PYCNN_INLINE void row_times_panel(float* c, const float* x, int64_t x_step, const float* b, int64_t ldb, int64_t last,
                                  int64_t k) {
    vec acc[V];
    PYCNN_UNROLL for (int v = 0; v < V; ++v) acc[v] = splat(0.0f);
    for (int64_t p = 0; p < k; ++p) {
        const vec factor = splat(x[p * x_step]);
        const float* row = b + p * ldb;
        PYCNN_UNROLL for (int v = 0; v < V; ++v) acc[v] =
            fma(factor, load_first(row + v * VL, v == V - 1 ? last : VL), acc[v]);
    }
    PYCNN_UNROLL for (int v = 0; v < V; ++v) store_first(c + v * VL, acc[v], v == V - 1 ? last : VL);
}

}  // namespace

void gemm_dots(float* c, int64_t c_row, int64_t c_col, const float* a, int64_t lda, const float* b, int64_t ldb,
               int64_t m, int64_t n, int64_t k) {
    for (int64_t i = 0; i < m; i += SIDE)
        for (int64_t j = 0; j < n; j += SIDE)
            dots_tile(c + i * c_row + j * c_col, c_row, c_col, a + i * lda, lda, b + j * ldb, ldb,
                      m - i < SIDE ? m - i : SIDE, n - j < SIDE ? n - j : SIDE, k);
}

void gemm_one_row(float* c, const float* x, int64_t x_step, const float* b, int64_t ldb, int64_t n, int64_t k) {
    constexpr int V = REG == 64 ? 8 : 4;
    int64_t j = 0;
    for (; j + V * VL <= n; j += V * VL) row_times_panel<V>(c + j, x, x_step, b + j, ldb, VL, k);
    for (; j + VL <= n; j += VL) row_times_panel<1>(c + j, x, x_step, b + j, ldb, VL, k);
    if (j < n) row_times_panel<1>(c + j, x, x_step, b + j, ldb, n - j, k);
}

}  // namespace pycnn::PYCNN_ISA
