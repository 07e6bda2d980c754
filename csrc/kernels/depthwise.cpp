// Depthwise convolution: 16 channels at a time, a row of outputs at a time.
//
//   forward, gradient of the input   out[q][c] = sum over taps of in[q * step + offset][c] * w[tap][c], and the epilogue
//   gradient of the weight           dw[tap][c] += sum over q of x[q * step + offset][c] * dy[q][c]
//
// Forward, four outputs share each load of the weight; for the weight, up to nine taps share each load of dy and stay
// in registers over the row. Terms are added in the order of the taps, or of q.

#include "finish.h"
#include "kernels.h"
#include "simd_maps.h"
#include "table.h"

namespace pycnn::PYCNN_ISA {
namespace {

template <int Q>  // outputs at a time
PYCNN_INLINE void outputs(const DepthwiseRow& s, int64_t q, int64_t c, int64_t lanes) {
    vec acc[Q];
    PYCNN_UNROLL for (int i = 0; i < Q; ++i) acc[i] = splat(0.0f);
    const float *in = s.in + q * s.in_step + c, *residual = s.epilogue.residual;
    if (residual)  // which no hardware follows from pixel to pixel
        PYCNN_UNROLL for (int i = 0; i < Q; ++i) prefetch(residual + (q + i) * s.out_step + c);
    for (int64_t t = 0; t < s.count; ++t) {
        const vec w = load_first(s.w + s.taps[t].weight + c, lanes);
        PYCNN_UNROLL for (int i = 0; i < Q; ++i) acc[i] =
            fma(load_first(in + s.taps[t].offset + i * s.in_step, lanes), w, acc[i]);
    }
    const vec bias = bias_of(s.epilogue, c, lanes);
    const bool relu = has_relu(s.epilogue);
    PYCNN_UNROLL for (int i = 0; i < Q; ++i) {
        const int64_t at = (q + i) * s.out_step + c;
        vec sum = acc[i] + bias;
        if (residual) sum = sum + load_first(residual + at, lanes);
        store_first(s.out + at, relu_if(relu, sum), lanes);
    }
}

PYCNN_INLINE void row(const DepthwiseRow& s, int64_t c, int64_t lanes) {
    int64_t q = 0;
    for (; q + 4 <= s.outputs; q += 4) outputs<4>(s, q, c, lanes);
    for (; q < s.outputs; ++q) outputs<1>(s, q, c, lanes);
}

template <int T>  // taps at a time
PYCNN_INLINE void weights(const DepthwiseWeightRow& s, int64_t first, int64_t c, int64_t lanes) {
    const float* x[T];
    vec acc[T];
    PYCNN_UNROLL for (int t = 0; t < T; ++t) {
        x[t] = s.x + s.taps[first + t].offset + c;
        acc[t] = load_first(s.dw + s.taps[first + t].weight + c, lanes);
    }
    for (int64_t q = 0; q < s.outputs; ++q) {
        const vec dy = load_first(s.dy + q * s.dy_step + c, lanes);
        PYCNN_UNROLL for (int t = 0; t < T; ++t) acc[t] = fma(load_first(x[t] + q * s.x_step, lanes), dy, acc[t]);
    }
    PYCNN_UNROLL for (int t = 0; t < T; ++t) store_first(s.dw + s.taps[first + t].weight + c, acc[t], lanes);
}

PYCNN_INLINE void weight_row(const DepthwiseWeightRow& s, int64_t c, int64_t lanes) {
    int64_t t = 0;
    for (; t + 9 <= s.count; t += 9) weights<9>(s, t, c, lanes);
    for (; t + 3 <= s.count; t += 3) weights<3>(s, t, c, lanes);
    for (; t < s.count; ++t) weights<1>(s, t, c, lanes);
}

}  // namespace

void depthwise_row(const DepthwiseRow& s) {
    int64_t c = 0;
    for (; c + VL <= s.C; c += VL) row(s, c, VL);
    if (c < s.C) row(s, c, s.C - c);
    finish_late({.y = s.out, .size = s.C, .rows = s.outputs, .row = s.out_step}, s.epilogue);
}

void depthwise_weight_row(const DepthwiseWeightRow& s) {
    int64_t c = 0;
    for (; c + VL <= s.channels; c += VL) weight_row(s, c, VL);
    if (c < s.channels) weight_row(s, c, s.channels - c);
}

}  // namespace pycnn::PYCNN_ISA
