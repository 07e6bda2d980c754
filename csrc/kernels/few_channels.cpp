// Convolution of images with few channels, a row of outputs at a time: some outputs by NR channels stay in registers. A
// tap t is (kh, kw, c).
//
//   y[q][oc] = sum over t of x[at(q) + offset[t]] * w[t][oc], and the epilogue       un-pooled: q along the row
//   y[p][oc] = the same for the largest of the four outputs q of a 2 x 2 window          pooled
//
//   x  an image with its zero rim    w packed, panels of [taps][NR]    y [outputs][OC], overwritten    where beside it
//
// Each x is one broadcast for NR products. Terms are added in
// the order of t, as in indirect.cpp, so both give the same bits.

#include "finish.h"
#include "kernels.h"
#include "simd_maps.h"
#include "table.h"

namespace pycnn::PYCNN_ISA {
namespace {

constexpr int kWindow = 4;                                    // outputs of a pooled window
constexpr int kWide = REG == 64 ? 8 : MR == 6 ? 6 : kWindow;  // outputs at a time, un-pooled and one vec wide

struct Panel {
    const float* w;     // [taps][NR]
    const float* bias;  // [NR], zeros past the last channel
    int64_t oc;
    bool relu;
};

// acc = Q outputs.
template <int Q, int V>
PYCNN_INLINE void multiply(vec (&acc)[Q][V], const float* const (&from)[Q], const FewChannelsRow& s,
                           const float* panel) {
    const float* x[Q];
    PYCNN_UNROLL for (int q = 0; q < Q; ++q) x[q] = from[q];
    PYCNN_UNROLL for (int q = 0; q < Q; ++q) PYCNN_UNROLL for (int v = 0; v < V; ++v) acc[q][v] = splat(0.0f);
    for (int64_t t = 0; t < s.taps; ++t, panel += NR) {
        const int64_t at = s.offset[t];
        vec row[V];
        PYCNN_UNROLL for (int v = 0; v < V; ++v) row[v] = load(panel + v * VL);
        PYCNN_UNROLL for (int q = 0; q < Q; ++q) {
            const vec factor = splat(x[q][at]);
            PYCNN_UNROLL for (int v = 0; v < V; ++v) acc[q][v] = fma(factor, row[v], acc[q][v]);
        }
    }
}

// Outputs [first, first + Q), of which those past the end of the row are the last output again, not stored. ADD: with a
// residual; asked for here it costs the others up to 5 % of their time.
template <int Q, int V, bool ADD>
PYCNN_INLINE void map_outputs(const FewChannelsRow& s, const Panel& panel, int64_t first, int64_t last) {
    const float* x[Q];
    PYCNN_UNROLL for (int q = 0; q < Q; ++q) x[q] =
        s.x + (first + q < s.outputs ? first + q : s.outputs - 1) * s.step_w;
    vec acc[Q][V];
    multiply<Q, V>(acc, x, s, panel.w);
    PYCNN_UNROLL for (int q = 0; q < Q; ++q) if (first + q < s.outputs) {
        PYCNN_UNROLL for (int v = 0; v < V; ++v) {
            const int64_t at = (first + q) * s.OC + panel.oc + v * VL, lanes = v == V - 1 ? last : VL;
            vec sum = acc[q][v] + load(panel.bias + v * VL);
            if (ADD) sum = sum + load_first(s.epilogue.residual + at, lanes);
            store_first(s.y + at, relu_if(panel.relu, sum), lanes);
        }
    }
}

template <int V, bool ADD>
PYCNN_INLINE void map_panel(const FewChannelsRow& s, const Panel& panel, int64_t last) {
    int64_t first = 0;
    constexpr int Q = V == 1 ? kWide : kWindow;
    for (; first + kWindow < s.outputs; first += Q) map_outputs<Q, V, ADD>(s, panel, first, last);
    for (; first < s.outputs; first += kWindow) map_outputs<kWindow, V, ADD>(s, panel, first, last);
}

template <int V>
PYCNN_INLINE void pooled_panel(const FewChannelsRow& s, const Panel& panel, int64_t last) {
    const int64_t below = s.pool_rows > 1 ? s.step_h : 0;
    for (int64_t p = 0; p < s.outputs; ++p) {
        // An output outside the map is computed as its neighbour inside: it never beats it.
        const float* at = s.x + 2 * p * s.step_w;
        const int64_t right = 2 * p + 1 < s.cols ? s.step_w : 0;
        const float* const x[kWindow] = {at, at + right, at + below, at + below + right};
        vec acc[kWindow][V];
        multiply<kWindow, V>(acc, x, s, panel.w);
        PYCNN_UNROLL for (int v = 0; v < V; ++v) {
            Maximum best{acc[0][v], isplat(0)};
            PYCNN_UNROLL for (int q = 1; q < kWindow; ++q) take(best, acc[q][v], q);
            const int64_t to = p * s.OC + panel.oc + v * VL, lanes = v == V - 1 ? last : VL;
            store_first(s.y + to, relu_if(panel.relu, best.value + load(panel.bias + v * VL)), lanes);
            if (s.where) store_bytes(s.where + to, best.at, lanes);
        }
    }
}

template <int V>
PYCNN_INLINE void run_panel(const FewChannelsRow& s, const Panel& panel, int64_t last) {
    if (s.pool_rows) return pooled_panel<V>(s, panel, last);
    s.epilogue.residual ? map_panel<V, true>(s, panel, last) : map_panel<V, false>(s, panel, last);
}

}  // namespace

void few_channels_row(const FewChannelsRow& s) {
    for (int64_t oc = 0; oc < s.OC; oc += NR) {
        const int64_t columns = s.OC - oc < NR ? s.OC - oc : NR;
        float bias[NR] = {};
        for (int64_t j = 0; s.epilogue.bias && j < columns; ++j) bias[j] = s.epilogue.bias[oc + j];
        const Panel panel{.w = s.w + oc * s.taps, .bias = bias, .oc = oc, .relu = has_relu(s.epilogue)};
        if (columns == NR)  // the same bodies with a constant number of lanes: plain stores
            run_panel<NV>(s, panel, VL);
        else if (columns > VL)
            run_panel<NV>(s, panel, columns - (NV - 1) * VL);
        else if (columns == VL)
            run_panel<1>(s, panel, VL);
        else
            run_panel<1>(s, panel, columns);
    }
    finish_late({.y = s.y, .size = s.outputs * s.OC}, s.epilogue);
}

}  // namespace pycnn::PYCNN_ISA
