// Convolution of images with one channel, a row of outputs at a time: four outputs by NR channels stay in registers.
//
//   y[q][oc] = sum over t of x[at(q) + offset[t]] * w[t][oc] + bias[oc], then relu       un-pooled: q along the row
//   y[p][oc] = the same for the largest of the four outputs q of a 2 x 2 window          pooled
//
//   x  an image with its zero rim       w [taps][OC]       y [outputs][OC], overwritten       where beside a pooled y
//
// The panel of w for these channels is copied once a row; each x is one broadcast for NR products. Terms are added in
// the order of t, as in indirect.cpp, so both give the same bits. The first maximum wins, NaN wins over numbers.

#include "kernels.h"
#include "simd.h"
#include "table.h"

namespace pycnn::PYCNN_ISA {
namespace {

constexpr int Q = 4;  // outputs at a time: 8 accumulators with NV = 2, or as many registers with two a vec

// acc = the four outputs, from the panel of w that `copy_panel` made.
template <int V>
PYCNN_INLINE void multiply(vec (&acc)[Q][V], const float* const (&x)[Q], const FirstLayerRow& s, const float* panel) {
    const float *x0 = x[0], *x1 = x[1], *x2 = x[2], *x3 = x[3];
    PYCNN_UNROLL for (int q = 0; q < Q; ++q) PYCNN_UNROLL for (int v = 0; v < V; ++v) acc[q][v] = splat(0.0f);
    for (int64_t t = 0; t < s.taps; ++t, panel += NR) {
        const int64_t at = s.offset[t];
        const vec factor[Q] = {splat(x0[at]), splat(x1[at]), splat(x2[at]), splat(x3[at])};
        PYCNN_UNROLL for (int v = 0; v < V; ++v) {
            const vec row = load(panel + v * VL);
            PYCNN_UNROLL for (int q = 0; q < Q; ++q) acc[q][v] = fma(factor[q], row, acc[q][v]);
        }
    }
}

// panel [taps][NR] = w[:, oc ...], zeros past the last channel; the same for the bias, behind it.
PYCNN_INLINE void copy_panel(float* panel, const FirstLayerRow& s, int64_t oc, int64_t columns) {
    for (int64_t t = 0; t <= s.taps; ++t)
        for (int64_t j = 0; j < NR; j += VL) {
            const float* from = t < s.taps ? s.w + t * s.OC : s.bias;
            const int64_t lanes = columns - j < VL ? columns - j : VL;
            store(panel + t * NR + j, from && lanes > 0 ? load_first(from + oc + j, lanes) : splat(0.0f));
        }
}

PYCNN_INLINE vec finish(vec v, vec bias, bool relu) {
    v = v + bias;
    const vec zero = splat(0.0f);
    return relu ? select(greater(zero, v), zero, v) : v;
}

template <int V>
PYCNN_INLINE void map_panel(const FirstLayerRow& s, const float* panel, int64_t oc, int64_t last) {
    const float* bias = panel + s.taps * NR;
    for (int64_t first = 0; first < s.outputs; first += Q) {
        const float* x[Q];
        for (int64_t q = 0; q < Q; ++q)  // past the end of the row: its last output again, not stored
            x[q] = s.x + (first + q < s.outputs ? first + q : s.outputs - 1) * s.step_w;
        vec acc[Q][V];
        multiply<V>(acc, x, s, panel);
        PYCNN_UNROLL for (int q = 0; q < Q; ++q) if (first + q < s.outputs) {
            float* y = s.y + (first + q) * s.OC + oc;
            PYCNN_UNROLL for (int v = 0; v < V; ++v)
                store_first(y + v * VL, finish(acc[q][v], load(bias + v * VL), s.relu), v == V - 1 ? last : VL);
        }
    }
}

template <int V>
PYCNN_INLINE void pooled_panel(const FirstLayerRow& s, const float* panel, int64_t oc, int64_t last) {
    const float* bias = panel + s.taps * NR;
    const int64_t below = s.pool_rows > 1 ? s.step_h : 0;
    for (int64_t p = 0; p < s.outputs; ++p) {
        // An output outside the map is computed as its neighbour inside: it never beats it.
        const float* at = s.x + 2 * p * s.step_w;
        const int64_t right = 2 * p + 1 < s.cols ? s.step_w : 0;
        const float* const x[Q] = {at, at + right, at + below, at + below + right};
        vec acc[Q][V];
        multiply<V>(acc, x, s, panel);
        PYCNN_UNROLL for (int v = 0; v < V; ++v) {
            vec best = acc[0][v];
            ivec where = isplat(0);
            PYCNN_UNROLL for (int q = 1; q < Q; ++q) {
                const ivec better = greater(acc[q][v], best) | and_not(is_nan(acc[q][v]), is_nan(best));
                best = select(better, acc[q][v], best);
                where = select(better, isplat(q), where);
            }
            const int64_t to = p * s.OC + oc + v * VL, lanes = v == V - 1 ? last : VL;
            store_first(s.y + to, finish(best, load(bias + v * VL), s.relu), lanes);
            if (s.where) store_bytes(s.where + to, where, lanes);
        }
    }
}

template <int V>
PYCNN_INLINE void run_panel(const FirstLayerRow& s, const float* panel, int64_t oc, int64_t last) {
    s.pool_rows ? pooled_panel<V>(s, panel, oc, last) : map_panel<V>(s, panel, oc, last);
}

}  // namespace

void first_layer_row(const FirstLayerRow& s) {
    alignas(64) float panel[(kMaxFirstTaps + 1) * NR];
    for (int64_t oc = 0; oc < s.OC; oc += NR) {
        const int64_t columns = s.OC - oc < NR ? s.OC - oc : NR;
        copy_panel(panel, s, oc, columns);
        if (columns == NR)  // the same bodies with a constant number of lanes: plain stores
            run_panel<NV>(s, panel, oc, VL);
        else if (columns > VL)
            run_panel<NV>(s, panel, oc, columns - (NV - 1) * VL);
        else
            run_panel<1>(s, panel, oc, columns);
    }
}

}  // namespace pycnn::PYCNN_ISA
