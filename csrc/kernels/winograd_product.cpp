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
//
// And those of its adjoint, the gradient of the weight: du[c][oc] = sum over tiles of v[tile][c] z[tile][oc], in order.
//
//   v   [rows / 16][tiles][16]       `chunk` floats from one 16 channels to the next; z alike
//   du  [rows][columns]              rows `pitch` floats apart, overwritten; rows and columns multiples of 16
//
// The rows of a register tile lie in one chunk of v. Beside it two chunks of z stay in L1.

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

// lines: of the next panel's u to fetch for every 16 channels, where its first reader would wait for L3. From L2 that costs
// more than it brings (lecture's network, one image, one thread: 79 microseconds instead of 65).
template <int R, int V>
PYCNN_INLINE void tile_product(float* m, const float* v, const float* u, int64_t K, const float* next, int64_t lines) {
    vec acc[R][V];
    PYCNN_UNROLL for (int i = 0; i < R; ++i) PYCNN_UNROLL for (int j = 0; j < V; ++j) acc[i][j] = splat(0.0f);
    for (int64_t c = 0; c < K; c += VL, v += MR * VL, u += VL * NR) {
        for (int64_t line = 0; line < lines; ++line, next += VL) prefetch(next);
        multiply_chunk<R, V>(acc, v, u, K - c < VL ? K - c : VL);
    }
    PYCNN_UNROLL for (int i = 0; i < R; ++i) PYCNN_UNROLL for (int j = 0; j < V; ++j)
        store(m + i * NR + j * VL, acc[i][j]);
}

// A last group of few tiles takes a shorter register tile: one image of 14 x 14 has 16 tiles, 14 + 2 of AVX-512. Of two
// rows the four accumulators still keep FMAs busy, whose latency is four cycles.
template <int V>
PYCNN_INLINE void panel_product(float* m, const float* v, const float* u, int64_t tiles, int64_t K, bool more) {
    constexpr int MIDDLE = MR > 8 ? 8 : MR;
    const int64_t chunks = (K + VL - 1) / VL, step = chunks * MR * VL, groups = (tiles + MR - 1) / MR;
    const int64_t lines = more ? (NR + groups - 1) / groups : 0;  // a panel has NR lines for every 16 channels
    const float* next = u + K * NR;
    for (; tiles > 0; tiles -= MR, m += MR * NR, v += step, next += chunks * lines * VL) {
        if (tiles <= 2)
            tile_product<2, V>(m, v, u, K, next, lines);
        else if (tiles <= 4 && MR >= 4)
            tile_product<MR >= 4 ? 4 : MR, V>(m, v, u, K, next, lines);
        else if (tiles <= MIDDLE)
            tile_product<MIDDLE, V>(m, v, u, K, next, lines);
        else
            tile_product<MR, V>(m, v, u, K, next, lines);
    }
}

// R rows of one chunk of v, V chunks of z.
template <int R, int V>
PYCNN_INLINE void gradient_tile(float* du, int64_t pitch, const float* v, const float* z, int64_t chunk,
                                int64_t tiles) {
    vec acc[R][V];
    PYCNN_UNROLL for (int i = 0; i < R; ++i) PYCNN_UNROLL for (int j = 0; j < V; ++j) acc[i][j] = splat(0.0f);
    for (int64_t t = 0; t < tiles; ++t, v += VL, z += VL) {
        vec row[V];
        PYCNN_UNROLL for (int j = 0; j < V; ++j) row[j] = load(z + j * chunk);
        PYCNN_UNROLL for (int i = 0; i < R; ++i) {
            const vec factor = splat(v[i]);
            PYCNN_UNROLL for (int j = 0; j < V; ++j) acc[i][j] = fma(factor, row[j], acc[i][j]);
        }
    }
    PYCNN_UNROLL for (int i = 0; i < R; ++i) PYCNN_UNROLL for (int j = 0; j < V; ++j)
        store(du + i * pitch + j * VL, acc[i][j]);
}

// All rows, V chunks of columns.
template <int V>
PYCNN_INLINE void gradient_panel(float* du, int64_t pitch, const float* v, const float* z, int64_t chunk, int64_t tiles,
                                 int64_t rows) {
    constexpr int R = MR > 8 ? 8 : MR, REST = VL % R;  // 8 + 8, 6 + 6 + 4 or 2 + 2 + ..
    for (; rows > 0; rows -= VL, v += chunk, du += VL * pitch) {
        for (int i = 0; i + R <= VL; i += R) gradient_tile<R, V>(du + i * pitch, pitch, v + i, z, chunk, tiles);
        if constexpr (REST > 0) gradient_tile<REST, V>(du + (VL - REST) * pitch, pitch, v + VL - REST, z, chunk, tiles);
    }
}

}  // namespace

void winograd_gradient_product(const WinogradGradientProduct& s) {
    float* du = s.du;
    const float* z = s.z;
    int64_t columns = s.columns;
    for (; columns >= NR; columns -= NR, du += NR, z += NV * s.chunk)
        gradient_panel<NV>(du, s.pitch, s.v, z, s.chunk, s.tiles, s.rows);
    if (columns > 0) gradient_panel<1>(du, s.pitch, s.v, z, s.chunk, s.tiles, s.rows);
}

void winograd_product(const WinogradProduct& s) {
    float* m = s.m;
    const float* u = s.u;
    for (int64_t columns = s.columns; columns > 0; columns -= NR, m += s.m_panel, u += s.K * NR) {
        if (NV == 1 || columns <= VL)
            panel_product<1>(m, s.v, u, s.tiles, s.K, s.fetches && columns > NR);
        else
            panel_product<NV>(m, s.v, u, s.tiles, s.K, s.fetches && columns > NR);
    }
}

}  // namespace pycnn::PYCNN_ISA
