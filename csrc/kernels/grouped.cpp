// Grouped convolution: the 16 lanes of a vector are the channels of several groups side by side.
//
//   forward, gradient of the input   out[q][lane] = sum over taps, c of in[q + tap][c][lane % G] * w[tap][c][lane]
//                                    (from zero or a residual, and the epilogue)
//   gradient of the weight           dw[tap][c][lane] += sum over pixels of x[pixel + tap][c][lane % G] * dy[pixel][lane]
//
// G groups of up to 16 / G channels lie in a vector, interleaved: lane % G is the group, lane / G the channel. Then the
// factor of every lane is one load of G floats that repeats them, which costs no more than a load of one float; with
// the groups one after the other each would need a permutation. grouped_copy brings pixels, weights and results into
// this order and back. Terms are added in order, taps before c, or pixels row by row.

#include "finish.h"
#include "kernels.h"
#include "simd_lists.h"
#include "simd_maps.h"
#include "table.h"

namespace pycnn::PYCNN_ISA {
namespace {

// Outputs of a tile; each is one vec. The smaller ones take what a row leaves.
constexpr int kLong = MR, kMiddle = MR > 8 ? 7 : MR > 4 ? 4 : MR, kShort = MR > 8 ? 4 : 2;

PYCNN_INLINE ivec load_index(const int32_t* index) {
    ivec r;
    PYCNN_EACH r.part[p] = *reinterpret_cast<const ireg*>(index + p * REG / 4);
    return r;
}

template <int G, int PIXEL, int R>
PYCNN_INLINE void tile(const GroupedRow& s, int64_t q, int64_t outputs) {
    vec acc[R];
    PYCNN_UNROLL for (int i = 0; i < R; ++i) acc[i] = splat(0.0f);
    float* out = s.out + q * s.out_step;
    for (int i = 0; i < R; ++i)
        __builtin_prefetch(out + i * s.out_step, 1);  // the line of a result, while it is computed
    if (s.epilogue.residual) {
        const ivec index = load_index(s.to_lane);
        PYCNN_UNROLL for (int i = 0; i < R; ++i) if (i < outputs) {
            const vec start = load_first(s.epilogue.residual + (q + i) * s.out_step, s.lanes);
            acc[i] = G == 1 ? start : permute(start, index);
        }
    }
    const float* w = s.w;
    for (int64_t t = 0; t < s.count; ++t) {
        const float* in = s.in + q * PIXEL + s.taps[t].offset;
        for (int64_t c = 0; c < s.C; ++c, in += G, w += VL) {
            const vec row = load(w);
            PYCNN_UNROLL for (int i = 0; i < R; ++i) acc[i] = fma(repeat<G>(in + i * PIXEL), row, acc[i]);
        }
    }
    if (s.epilogue.bias) {
        const vec given = load_first(s.epilogue.bias, s.lanes),
                  bias = G == 1 ? given : permute(given, load_index(s.to_lane));
        PYCNN_UNROLL for (int i = 0; i < R; ++i) acc[i] = acc[i] + bias;
    }
    if (s.epilogue.activation.kind == Activation::relu) {
        PYCNN_UNROLL for (int i = 0; i < R; ++i) acc[i] = relu(acc[i]);
    }
    const ivec index = load_index(s.to_out);
    PYCNN_UNROLL for (int i = 0; i < R; ++i) if (i < outputs)
        store_first(out + i * s.out_step, G == 1 ? acc[i] : permute(acc[i], index), s.lanes);
    finish_late({.y = out, .size = s.lanes, .rows = outputs < R ? outputs : R, .row = s.out_step}, s.epilogue);
}

template <int G, int PIXEL>
void row(const GroupedRow& s) {
    int64_t q = 0;
    while (q < s.outputs) {
        const int64_t left = s.outputs - q;
        if (left <= kShort || (left > kMiddle && left <= 2 * kShort)) {
            tile<G, PIXEL, kShort>(s, q, left);
            q += kShort;
        } else if (left <= kMiddle + kShort) {
            tile<G, PIXEL, kMiddle>(s, q, left);
            q += kMiddle;
        } else {
            tile<G, PIXEL, kLong>(s, q, left);
            q += kLong;
        }
    }
}

// ---- gradient of the weight ---------------------------------------------------------------------------------------

// Sums of a tile: T taps of R channels.
constexpr int kTaps = MR > 4 ? 3 : 1, kChannels = MR > 8 ? 8 : 2;

template <int G, int PIXEL, int T, int R>
PYCNN_INLINE void weight_tile(const GroupedWeight& s, int64_t tap, int64_t c) {
    vec acc[T][R];
    float* dw = s.dw + (tap * s.C + c) * VL;
    const float* first[T];
    PYCNN_UNROLL for (int t = 0; t < T; ++t) {
        first[t] = s.x + s.taps[tap + t].offset + c * G;
        PYCNN_UNROLL for (int i = 0; i < R; ++i) acc[t][i] = load(dw + (t * s.C + i) * VL);
    }
    for (int64_t r = s.taps[tap].begin; r < s.taps[tap].end; ++r) {
        const float *dy = s.dy + r * s.columns * VL, *x[T];
        PYCNN_UNROLL for (int t = 0; t < T; ++t) x[t] = first[t] + r * s.x_row;
        for (int64_t q = 0; q < s.columns; ++q, dy += VL) {
            const vec gradient = load(dy);
            PYCNN_UNROLL for (int t = 0; t < T; ++t) {
                PYCNN_UNROLL for (int i = 0; i < R; ++i) acc[t][i] = fma(repeat<G>(x[t] + i * G), gradient, acc[t][i]);
                x[t] += PIXEL;
            }
        }
    }
    PYCNN_UNROLL for (int t = 0; t < T; ++t) PYCNN_UNROLL for (int i = 0; i < R; ++i)
        store(dw + (t * s.C + i) * VL, acc[t][i]);
}

template <int G, int PIXEL, int T>
PYCNN_INLINE void weight_taps(const GroupedWeight& s, int64_t tap) {
    int64_t c = 0;
    for (; c + kChannels <= s.C; c += kChannels) weight_tile<G, PIXEL, T, kChannels>(s, tap, c);
    if (kChannels > 4)
        for (; c + 4 <= s.C; c += 4) weight_tile<G, PIXEL, T, 4>(s, tap, c);
    for (; c < s.C; ++c) weight_tile<G, PIXEL, T, 1>(s, tap, c);
}

template <int G, int PIXEL>
void weight(const GroupedWeight& s) {
    for (int64_t run = 0; run < s.count; run += s.across) {
        int64_t t = run;
        for (; t + kTaps <= run + s.across; t += kTaps) weight_taps<G, PIXEL, kTaps>(s, t);
        for (; t < run + s.across; ++t) weight_taps<G, PIXEL, 1>(s, t);
    }
}

template <class Order>
PYCNN_INLINE void copy_lanes(const GroupedCopy& s, int64_t loaded, int64_t stored, Order order) {
    float* to = s.to;
    const float* from = s.from;
    const int64_t to_step = s.to_step, from_step = s.from_step;
    for (int64_t i = s.count; i > 0; --i, to += to_step, from += from_step)
        store_first(to, order(load_first(from, loaded)), stored);
}

}  // namespace

void grouped_copy(const GroupedCopy& s) {
    const bool whole_vectors = s.loaded == VL && s.stored == VL;
    if (s.index && whole_vectors)
        copy_lanes(s, VL, VL, [index = load_index(s.index)](vec v) { return permute(v, index); });
    else if (s.index)
        copy_lanes(s, s.loaded, s.stored, [index = load_index(s.index)](vec v) { return permute(v, index); });
    else if (whole_vectors)
        copy_lanes(s, VL, VL, [](vec v) { return v; });
    else
        copy_lanes(s, s.loaded, s.stored, [](vec v) { return v; });
}

void grouped_row(const GroupedRow& s) {
    if (s.groups == 8) return row<8, 16>(s);
    if (s.groups == 4) return row<4, 16>(s);
    if (s.groups == 2) return row<2, 16>(s);
    return s.pixel == 16 ? row<1, 16>(s) : row<1, 32>(s);
}

void grouped_weight(const GroupedWeight& s) {
    if (s.groups == 8) return weight<8, 16>(s);
    if (s.groups == 4) return weight<4, 16>(s);
    if (s.groups == 2) return weight<2, 16>(s);
    return s.pixel == 16 ? weight<1, 16>(s) : weight<1, 32>(s);
}

}  // namespace pycnn::PYCNN_ISA
