// GEMM on packed panels: pack_a, pack_b, the micro-kernel, and the two innermost loops of BLIS round it.
//
//   C[i][j] (+)= sum over p of A[i][p] * B[p][j]
//
//   packed A   ceil(mc / MR) panels [kc][MR]      a_panel:  p = 0  | a00 a10 a20 .. |   one column of MR rows
//                                                           p = 1  | a01 a11 a21 .. |   after the other
//   packed B   ceil(nc / NR) panels [kc][NR]      b_panel:  p = 0  | b00 b01 b02 .. |   one row of NR columns
//                                                           p = 1  | b10 b11 b12 .. |   after the other
//   C          [mc][nc], row stride ldc
//
// Rows and columns past the matrix are packed as zeros, so the micro-kernel always computes a whole tile; a tile at the
// edge is written through a local one. With `accumulate` C is loaded into the accumulators first, so the order of
// additions of an element is p = 0, 1, 2, ... whatever the tile sizes are. NaN and Inf go where IEEE sends them, but
// never from the zeros of a panel: those products land in rows and columns that are dropped.

#include "kernels.h"
#include "simd.h"
#include "table.h"

namespace pycnn::PYCNN_ISA {

namespace {

// packed[p * width + i] = vectors[i * step + p * along]: `count` vectors of length kc side by side, zeros up to width.
PYCNN_INLINE void pack_panel(float* packed, int64_t width, const float* vectors, int64_t step, int64_t along,
                             int64_t count, int64_t kc) {
    if (count < width) memset(packed, 0, sizeof(float) * kc * width);
    int64_t i = 0;
    if (along == 1)  // the vectors lie along p: turn blocks of 4 x 4
        for (; i + 4 <= count; i += 4) {
            int64_t p = 0;
            for (; p + 4 <= kc; p += 4) transpose_4x4(packed + p * width + i, width, vectors + i * step + p, step);
            for (; p < kc; ++p)
                for (int64_t row = i; row < i + 4; ++row) packed[p * width + row] = vectors[row * step + p];
        }
    for (; i < count; ++i)
        for (int64_t p = 0; p < kc; ++p) packed[p * width + i] = vectors[i * step + p * along];
}

}  // namespace

void gemm_pack_a(float* packed, const Matrix& a, int64_t mc, int64_t kc) {
    for (int64_t ir = 0; ir < mc; ir += MR, packed += kc * MR) {
        const int64_t mr = mc - ir < MR ? mc - ir : MR;
        const float* rows = a.data + ir * a.row;
        if (a.row == 1 && mr == MR) {  // the panel's columns are contiguous already
            for (int64_t p = 0; p < kc; ++p) memcpy(packed + p * MR, rows + p * a.col, sizeof(float) * MR);
        } else {
            pack_panel(packed, MR, rows, a.row, a.col, mr, kc);
        }
    }
}

void gemm_pack_b(float* packed, const Matrix& b, int64_t kc, int64_t nc) {
    for (int64_t jr = 0; jr < nc; jr += NR, packed += kc * NR) {
        const int64_t nr = nc - jr < NR ? nc - jr : NR;
        const float* columns = b.data + jr * b.col;
        if (b.col == 1 && nr == NR) {  // the panel's rows are contiguous already
            for (int64_t p = 0; p < kc; ++p) PYCNN_UNROLL for (int v = 0; v < NV; ++v) {
                    __builtin_prefetch(columns + p * b.row + NR + v * VL, 0, 2);  // the next panel
                    store(packed + p * NR + v * VL, load(columns + p * b.row + v * VL));
                }
        } else if (b.col == 1) {
            memset(packed, 0, sizeof(float) * kc * NR);
            for (int64_t p = 0; p < kc; ++p) memcpy(packed + p * NR, columns + p * b.row, sizeof(float) * nr);
        } else {
            pack_panel(packed, NR, columns, b.col, b.row, nr, kc);
        }
    }
}

// One tile of C in registers: kc rank-1 updates, each a column of A (MR broadcasts) times a row of B (NV vecs).
PYCNN_INLINE void micro_kernel(float* c, int64_t ldc, const float* a, const float* b, int64_t kc, bool accumulate) {
    vec acc[MR][NV];
    PYCNN_UNROLL for (int i = 0; i < MR; ++i) PYCNN_UNROLL for (int v = 0; v < NV; ++v) acc[i][v] = splat(0.0f);
    if (accumulate) {
        PYCNN_UNROLL for (int i = 0; i < MR; ++i) PYCNN_UNROLL for (int v = 0; v < NV; ++v) acc[i][v] =
            load(c + i * ldc + v * VL);
    }
    for (int64_t p = 0; p < kc; ++p, a += MR, b += NR) {
        vec row[NV];
        PYCNN_UNROLL for (int v = 0; v < NV; ++v) row[v] = load(b + v * VL);
        PYCNN_UNROLL for (int i = 0; i < MR; ++i) {
            const vec factor = splat(a[i]);
            PYCNN_UNROLL for (int v = 0; v < NV; ++v) acc[i][v] = fma(factor, row[v], acc[i][v]);
        }
    }
    PYCNN_UNROLL for (int i = 0; i < MR; ++i) PYCNN_UNROLL for (int v = 0; v < NV; ++v)
        store(c + i * ldc + v * VL, acc[i][v]);
}

void gemm_block(const GemmBlock& s) {
    for (int64_t jr = 0; jr < s.nc; jr += NR)        // NR columns of B stay in L1 while all of A passes by
        for (int64_t ir = 0; ir < s.mc; ir += MR) {  // MR rows of A come from L2
            const int64_t mr = s.mc - ir < MR ? s.mc - ir : MR, nr = s.nc - jr < NR ? s.nc - jr : NR;
            const float *a = s.a + ir * s.kc, *b = s.b + jr * s.kc;
            float* c = s.c + ir * s.ldc + jr;
            for (int64_t i = ir + MR; s.accumulate && i < ir + 2 * MR && i < s.mc;
                 ++i)  // C of the next tile, on its way
                PYCNN_UNROLL for (int v = 0; v < NV; ++v) __builtin_prefetch(s.c + i * s.ldc + jr + v * VL, 1);
            if (mr == MR && nr == NR) {
                micro_kernel(c, s.ldc, a, b, s.kc, s.accumulate);
                continue;
            }
            float tile[MR * NR];  // the edge: a whole tile here, its inside to C
            if (s.accumulate)
                for (int64_t i = 0; i < mr; ++i) memcpy(tile + i * NR, c + i * s.ldc, sizeof(float) * nr);
            micro_kernel(tile, NR, a, b, s.kc, s.accumulate);
            for (int64_t i = 0; i < mr; ++i) memcpy(c + i * s.ldc, tile + i * NR, sizeof(float) * nr);
        }
}

}  // namespace pycnn::PYCNN_ISA
