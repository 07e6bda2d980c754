// The products of Winograd's convolution: for one element e of all tiles, m[tile][oc] = sum over c of v[tile][c]
// u[c][oc].
//
//   v  [ceil(tiles / MR)][ceil(K / 16)][MR][16]     rows past `tiles` hold anything
//   u  [panels][K][NR]                              zeros past the last column
//   m  [panels][ceil(tiles / MR) * MR][NR]          overwritten
//
// Channels lie in chunks of 16 beside each other, as the input transform writes them, and the chunks of the MR tiles
// of a register tile side by side: the address of every factor is one pointer plus a constant. Terms are added in the
// order of c.

#include "kernels.h"
#include "simd.h"
#include "table.h"

namespace pycnn::PYCNN_ISA {
namespace {

template <int R, int V>  // R rows of the MR of a group
PYCNN_INLINE void multiply_chunk(vec (&acc)[R][V], const float* v, const float* u, int64_t count) {
    for (int64_t c = 0; c < count; ++c, u += NR) {
        vec row[V];
        PYCNN_UNROLL for (int j = 0; j < V; ++j) row[j] = load(u + j * VL);
        PYCNN_UNROLL for (int i = 0; i < R; ++i) {
            const vec factor = splat(v[i * VL + c]);
            PYCNN_UNROLL for (int j = 0; j < V; ++j) acc[i][j] = fma(factor, row[j], acc[i][j]);
        }
    }
}

template <int R, int V>
PYCNN_INLINE void tile_product(float* m, const float* v, const float* u, int64_t K) {
    vec acc[R][V];
    PYCNN_UNROLL for (int i = 0; i < R; ++i) PYCNN_UNROLL for (int j = 0; j < V; ++j) acc[i][j] = splat(0.0f);
    for (int64_t c = 0; c < K; c += VL, v += MR * VL, u += VL * NR)
        multiply_chunk<R, V>(acc, v, u, K - c < VL ? K - c : VL);
    PYCNN_UNROLL for (int i = 0; i < R; ++i) PYCNN_UNROLL for (int j = 0; j < V; ++j)
        store(m + i * NR + j * VL, acc[i][j]);
}

// A last group of few tiles takes a shorter register tile: one image of 14 x 14 has 16 tiles, 14 + 2 of AVX-512. Of two
// rows the four accumulators still keep FMAs busy, whose latency is four cycles.
template <int V>
PYCNN_INLINE void panel_product(float* m, const float* v, const float* u, int64_t tiles, int64_t K) {
    constexpr int MIDDLE = MR > 8 ? 8 : MR;
    const int64_t step = (K + VL - 1) / VL * MR * VL;
    for (; tiles > 0; tiles -= MR, m += MR * NR, v += step) {
        if (tiles <= 2)
            tile_product<2, V>(m, v, u, K);
        else if (tiles <= 4 && MR >= 4)
            tile_product<MR >= 4 ? 4 : MR, V>(m, v, u, K);
        else if (tiles <= MIDDLE)
            tile_product<MIDDLE, V>(m, v, u, K);
        else
            tile_product<MR, V>(m, v, u, K);
    }
}

}  // namespace

void winograd_product(float* m, int64_t m_panel, const float* v, const float* u, int64_t tiles, int64_t K,
                      int64_t columns) {
    for (; columns > 0; columns -= NR, m += m_panel, u += K * NR) {
        if (NV == 1 || columns <= VL)
            panel_product<1>(m, v, u, tiles, K);
        else
            panel_product<NV>(m, v, u, tiles, K);
    }
}

}  // namespace pycnn::PYCNN_ISA
