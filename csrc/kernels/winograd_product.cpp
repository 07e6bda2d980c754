// The products of Winograd's convolution: for one element e of all tiles, m[tile][oc] = sum over c of v[tile][c]
// u[c][oc].
//
//   v  [ceil(K / 16)][tiles][16]     `v_chunk` floats from one 16 channels to the next
//   u  [panels][K][NR]               zeros past the last column
//   m  [panels][tiles][NR]           panels `m_panel` floats apart, overwritten
//
// Channels lie in chunks of 16 beside each other, as the input transform writes them, and those of all tiles side by
// side: the address of every factor is one pointer plus a constant. Terms are added in the order of c.
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

template <int R, int V>
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
// more than it brings (lecture's network, one image, one thread: 79 microseconds instead of 65). The next chunk of v is
// not the next line of memory: without fetching it 14x14x512->512, 16 images, takes 1.2 times as long with AVX2, with
// AVX-512 as long.
template <int R, int V>
PYCNN_INLINE void tile_product(const WinogradProduct& s, float* m, const float* v, const float* u, const float* next,
                               int64_t lines) {
    vec acc[R][V];
    PYCNN_UNROLL for (int i = 0; i < R; ++i) PYCNN_UNROLL for (int j = 0; j < V; ++j) acc[i][j] = splat(0.0f);
    for (int64_t c = 0; c < s.K; c += VL, v += s.v_chunk, u += VL * NR) {
        for (int64_t line = 0; line < lines; ++line, next += VL) prefetch(next);
        if (s.fetches) {
            PYCNN_UNROLL for (int i = 0; i < R; ++i) prefetch(v + s.v_chunk + i * VL);
        }
        multiply_chunk<R, V>(acc, v, u, s.K - c < VL ? s.K - c : VL);
    }
    PYCNN_UNROLL for (int i = 0; i < R; ++i) PYCNN_UNROLL for (int j = 0; j < V; ++j)
        store(m + i * NR + j * VL, acc[i][j]);
}

// As many rows as are left, each height a register tile of its own: `rows` is at most R.
template <int V, int R = MR>
PYCNN_INLINE void rows_product(int64_t rows, const WinogradProduct& s, float* m, const float* v, const float* u,
                               const float* next, int64_t lines) {
    if (R == 1 || rows == R)
        tile_product<R, V>(s, m, v, u, next, lines);
    else if constexpr (R > 1)
        rows_product<V, R - 1>(rows, s, m, v, u, next, lines);
}

// All rows in register tiles of one height, or two that differ by a row: 16 rows are 8 + 8 of AVX-512, not 14 + 2, whose
// second one reads as much of u for a seventh of the products.
template <int V>
PYCNN_INLINE void panel_product(const WinogradProduct& s, float* m, const float* v, const float* u, bool more) {
    const int64_t chunks = (s.K + VL - 1) / VL, parts = (s.tiles + MR - 1) / MR;
    const int64_t lines = more ? (NR + parts - 1) / parts : 0;  // a panel has NR lines for every 16 channels
    const float* next = u + s.K * NR;
    for (int64_t part = 0; part < parts; ++part, next += chunks * lines * VL) {
        const int64_t first = s.tiles * part / parts, rows = s.tiles * (part + 1) / parts - first;
        rows_product<V>(rows, s, m + first * NR, v + first * VL, u, next, lines);
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

// Of groups of one vec: two of them share a panel, and each vec of it has channels of its own.
PYCNN_INLINE void vec_products(const WinogradProduct& s) {
    for (int64_t i = 0; i * VL < s.columns; ++i) {
        const int64_t panel = i / NV, lane = i % NV * VL;
        panel_product<1>(s, s.m + panel * s.m_panel + lane, s.v + i * s.v_group, s.u + panel * s.K * NR + lane, false);
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
    if (NV > 1 && s.group == VL) return vec_products(s);
    float* m = s.m;
    const float *u = s.u, *v = s.v;
    int64_t left = s.group;
    for (int64_t columns = s.columns; columns > 0; columns -= NR, m += s.m_panel, u += s.K * NR) {
        if (NV == 1 || columns <= VL)
            panel_product<1>(s, m, v, u, s.fetches && columns > NR);
        else
            panel_product<NV>(s, m, v, u, s.fetches && columns > NR);
        left -= NR;
        if (left == 0) v += s.v_group, left = s.group;
    }
}

}  // namespace pycnn::PYCNN_ISA
