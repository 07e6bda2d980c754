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
#include "simd.h"
#include "table.h"

namespace pycnn::PYCNN_ISA {
namespace {

// I x J dots at once, I * J a multiple of 4. Rows past `mr` and `nr` repeat the last one; only the inside is stored.
template <int I, int J>
PYCNN_INLINE void dots_tile(float* c, int64_t c_row, int64_t c_col, const float* a, int64_t lda, const float* b,
                            int64_t ldb, int64_t mr, int64_t nr, int64_t k) {
    const float *ai[I], *bj[J];
    PYCNN_UNROLL for (int i = 0; i < I; ++i) ai[i] = a + (i < mr ? i : mr - 1) * lda;
    PYCNN_UNROLL for (int j = 0; j < J; ++j) bj[j] = b + (j < nr ? j : nr - 1) * ldb;
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
    int64_t p = 0;
    for (; p + VL <= k; p += VL) add(p, VL);
    if (p < k) add(p, k - p);
    float sum[I * J];
    PYCNN_UNROLL for (int i = 0; i < I * J; i += 4) sum_lanes(sum + i, acc[i], acc[i + 1], acc[i + 2], acc[i + 3]);
    for (int64_t i = 0; i < mr; ++i)
        for (int64_t j = 0; j < nr; ++j) c[i * c_row + j * c_col] = sum[i * J + j];
}

template <int I, int J>
PYCNN_INLINE void dots_tiles(float* c, int64_t c_row, int64_t c_col, const float* a, int64_t lda, const float* b,
                             int64_t ldb, int64_t m, int64_t n, int64_t k) {
    for (int64_t i = 0; i < m; i += I)
        for (int64_t j = 0; j < n; j += J)
            dots_tile<I, J>(c + i * c_row + j * c_col, c_row, c_col, a + i * lda, lda, b + j * ldb, ldb,
                            m - i < I ? m - i : I, n - j < J ? n - j : J, k);
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

void gemm_dots(float* c, int64_t c_row, int64_t c_col, const float* a, int64_t lda, const float* b, int64_t ldb,
               int64_t m, int64_t n, int64_t k) {
    constexpr int SIDE = REG == 64 ? 4 : 2, COLUMN = 2 * SIDE;  // 16 of 32 registers, 8 of 16
    if (n == 1) return dots_tiles<COLUMN, 1>(c, c_row, c_col, a, lda, b, ldb, m, n, k);
    dots_tiles<SIDE, SIDE>(c, c_row, c_col, a, lda, b, ldb, m, n, k);
}

void gemm_one_row(float* c, const float* x, int64_t x_step, const float* b, int64_t ldb, int64_t n, int64_t k) {
    constexpr int V = REG == 64 ? 8 : 4;
    int64_t j = 0;
    for (; j + V * VL <= n; j += V * VL) row_times_panel<V>(c + j, x, x_step, b + j, ldb, VL, k);
    for (; j + VL <= n; j += VL) row_times_panel<1>(c + j, x, x_step, b + j, ldb, VL, k);
    if (j < n) row_times_panel<1>(c + j, x, x_step, b + j, ldb, n - j, k);
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
    finish_late(s.y, 1, 0, s.out, s.epilogue);
}

}  // namespace pycnn::PYCNN_ISA
