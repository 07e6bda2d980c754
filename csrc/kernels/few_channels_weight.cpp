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

struct Columns {
    int64_t oc, last;  // `last`: lanes of the last vec that exist
};

template <int R, int V>
struct Tile {
    vec acc[R][V];
};

// Adds `outputs` of one row. One loop only, or the accumulators go to memory.
template <int R, int V>
PYCNN_INLINE void multiply(Tile<R, V>& t, const float* const (&from)[R], int64_t at, int64_t x_step, const float* dy,
                           int64_t OC, int64_t outputs) {
    const float* x[R];
    PYCNN_UNROLL for (int i = 0; i < R; ++i) x[i] = from[i];
    for (int64_t q = 0; q < outputs; ++q, at += x_step, dy += OC) {
        vec row[V];
        PYCNN_UNROLL for (int v = 0; v < V; ++v) row[v] = load(dy + v * VL);
        PYCNN_UNROLL for (int i = 0; i < R; ++i) {
            const vec factor = splat(x[i][at]);
            PYCNN_UNROLL for (int v = 0; v < V; ++v) t.acc[i][v] = fma(factor, row[v], t.acc[i][v]);
        }
    }
}

template <int R, int V>
void run_tile(const FewChannelsWeight& s, const Columns& c, int64_t tap) {
    const int64_t all = s.rows * s.outputs;
    // Outputs whose vectors lie inside dy. The few behind them (none, where all lanes exist) are read from a copy.
    const int64_t behind = (VL - c.last + s.OC - 1) / s.OC, inside = all > behind ? all - behind : 0;
    float copy[2 * VL] = {};
    for (int64_t i = inside; i < all; ++i)
        for (int64_t j = 0; j < (V - 1) * VL + c.last; ++j) copy[(i - inside) * s.OC + j] = s.dy[i * s.OC + c.oc + j];
    float* dw = s.dw + tap * s.OC + c.oc;
    Tile<R, V> t;
    PYCNN_UNROLL for (int i = 0; i < R; ++i) PYCNN_UNROLL for (int v = 0; v < V; ++v) t.acc[i][v] =
        load_first(dw + i * s.OC + v * VL, v == V - 1 ? c.last : VL);
    for (int64_t i = 0; i < all;) {
        const int64_t r = i / s.outputs, q = i % s.outputs;
        const int64_t end = (r + 1) * s.outputs, last = i < inside && inside < end ? inside : end;
        const float* x[R];
        PYCNN_UNROLL for (int k = 0; k < R; ++k) x[k] = s.x + r * s.x_row + s.offset[tap + k];
        const float* dy = i < inside ? s.dy + i * s.OC + c.oc : copy + (i - inside) * s.OC;
        multiply<R, V>(t, x, q * s.x_step, s.x_step, dy, s.OC, last - i);
        i = last;
    }
    PYCNN_UNROLL for (int i = 0; i < R; ++i) PYCNN_UNROLL for (int v = 0; v < V; ++v)
        store_first(dw + i * s.OC + v * VL, t.acc[i][v], v == V - 1 ? c.last : VL);
}

template <int R, int V>
void run_rows(const FewChannelsWeight& s, const Columns& c, int64_t tap, int64_t rows) {
    if (rows == R) return run_tile<R, V>(s, c, tap);
    if constexpr (R > 1) run_rows<R - 1, V>(s, c, tap, rows);
}

template <int V>
PYCNN_INLINE void panel(const FewChannelsWeight& s, const Columns& c) {
    int64_t tiles = (s.taps + MR - 1) / MR;
    for (int64_t tap = 0; tap < s.taps; --tiles) {
        const int64_t rows = (s.taps - tap + tiles - 1) / tiles;
        run_rows<MR, V>(s, c, tap, rows);
        tap += rows;
    }
}

}  // namespace

void few_channels_weight(const FewChannelsWeight& s) {
    for (int64_t oc = 0; oc < s.OC; oc += NR) {
        const int64_t columns = s.OC - oc < NR ? s.OC - oc : NR;
        if (columns > VL)
            panel<NV>(s, {oc, columns - (NV - 1) * VL});
        else
            panel<1>(s, {oc, columns});
    }
}

}  // namespace pycnn::PYCNN_ISA
