// Gradient of the weight of a convolution with few input channels, from some rows of outputs:
//
//   dw[t][oc] += sum over rows r, outputs q of x[r * x_row + q * x_step + offset[t]] * dy[r][q][oc]
//
//   x  an image with its zero rim, a tap t is (kh, kw, c)       dw [taps][OC]       dy [rows][outputs][OC] in place
//
// The taps are cut into tiles of nearly equal height, each with code of its own, so that 9 or 27 of them leave no part
// of a register tile idle as they would in indirect.cpp. Outputs are added in order, so tiles do not change the bits.
// Lanes past OC compute with the numbers of the next output and are dropped.

#include "kernels.h"
#include "simd.h"
#include "table.h"

namespace pycnn::PYCNN_ISA {
namespace {

struct Tile {
    int64_t tap, oc, last;  // `last`: lanes of the last vec that exist
};

template <int R, int V>
PYCNN_INLINE void multiply(vec (&acc)[R][V], const float* const (&from)[R], const vec (&row)[V], int64_t at) {
    PYCNN_UNROLL for (int i = 0; i < R; ++i) {
        const vec factor = splat(from[i][at]);
        PYCNN_UNROLL for (int v = 0; v < V; ++v) acc[i][v] = fma(factor, row[v], acc[i][v]);
    }
}

template <int R, int V>
void run_tile(const FirstLayerWeight& s, const Tile& t) {
    float* dw = s.dw + t.tap * s.OC + t.oc;
    vec acc[R][V];
    PYCNN_UNROLL for (int i = 0; i < R; ++i) PYCNN_UNROLL for (int v = 0; v < V; ++v) acc[i][v] =
        load_first(dw + i * s.OC + v * VL, v == V - 1 ? t.last : VL);
    // Outputs whose whole vectors lie inside dy; the few behind them are loaded lane by lane.
    const int64_t inside = s.rows * s.outputs - (VL - t.last + s.OC - 1) / s.OC;
    for (int64_t r = 0; r < s.rows; ++r) {
        const float* x[R];
        PYCNN_UNROLL for (int i = 0; i < R; ++i) x[i] = s.x + r * s.x_row + s.offset[t.tap + i];
        const float* dy = s.dy + r * s.outputs * s.OC + t.oc;
        const int64_t left = inside - r * s.outputs, whole = left < s.outputs ? left : s.outputs;
        int64_t q = 0, at = 0;
        for (; q < whole; ++q, at += s.x_step, dy += s.OC) {
            vec row[V];
            PYCNN_UNROLL for (int v = 0; v < V; ++v) row[v] = load(dy + v * VL);
            multiply<R, V>(acc, x, row, at);
        }
        for (; q < s.outputs; ++q, at += s.x_step, dy += s.OC) {
            vec row[V];
            PYCNN_UNROLL for (int v = 0; v < V; ++v) row[v] = load_first(dy + v * VL, v == V - 1 ? t.last : VL);
            multiply<R, V>(acc, x, row, at);
        }
    }
    PYCNN_UNROLL for (int i = 0; i < R; ++i) PYCNN_UNROLL for (int v = 0; v < V; ++v)
        store_first(dw + i * s.OC + v * VL, acc[i][v], v == V - 1 ? t.last : VL);
}

template <int R, int V>
void run_rows(const FirstLayerWeight& s, const Tile& t, int64_t rows) {
    if (rows == R) return run_tile<R, V>(s, t);
    if constexpr (R > 1) run_rows<R - 1, V>(s, t, rows);
}

template <int V>
PYCNN_INLINE void panel(const FirstLayerWeight& s, int64_t oc, int64_t last) {
    int64_t tiles = (s.taps + MR - 1) / MR;
    for (int64_t tap = 0; tap < s.taps; --tiles) {
        const int64_t rows = (s.taps - tap + tiles - 1) / tiles;
        run_rows<MR, V>(s, {tap, oc, last}, rows);
        tap += rows;
    }
}

}  // namespace

void first_layer_weight(const FirstLayerWeight& s) {
    for (int64_t oc = 0; oc < s.OC; oc += NR) {
        const int64_t columns = s.OC - oc < NR ? s.OC - oc : NR;
        if (columns > VL)
            panel<NV>(s, oc, columns - (NV - 1) * VL);
        else
            panel<1>(s, oc, columns);
    }
}

}  // namespace pycnn::PYCNN_ISA
