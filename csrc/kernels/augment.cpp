// Images that are looked up at moved positions, and the smoothing of the fields that move them.
//
//   sample_row   out = (v - mean) / std, where v is the source at a position, bilinear: with x = i + f, y = k + g,
//                v = top + g * (bottom - top), top = s[k][i] + f * (s[k][i + 1] - s[k][i]), bottom alike from row k
//                + 1. Outside the image the source is zero, so v falls to zero within one pixel of the rim.
//   smooth_row   y[j] = sum over k of weights[k] * x[k * step + j], k ascending: a column or a row of a filter
//
// Products and sums are rounded each, without fma: the same bits on every machine, the baseline included. NaN and Inf
// in the source may show in the pixels around them as well.

#include "kernels.h"
#include "simd.h"
#include "simd_lists.h"
#include "table.h"

namespace pycnn::PYCNN_ISA {
namespace {

// Within 0 .. high; NaN becomes 0, so an index made of it lies in the image too.
PYCNN_INLINE vec clamp(vec a, vec high) {
    const vec zero = splat(0.0f), least = select(greater(a, zero), a, zero);
    return select(greater(least, high), high, least);
}

PYCNN_INLINE vec count_from(int64_t first) {
    alignas(64) static const float lane[VL] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    return load(lane) + splat(static_cast<float>(first));
}

// V vecs of sums at once, so that an addition need not wait for the one before it.
template <int V>
PYCNN_INLINE void smooth(const SmoothRow& s, int64_t j) {
    vec sum[V];
    PYCNN_UNROLL for (int v = 0; v < V; ++v) sum[v] = splat(0.0f);
    for (int64_t k = 0; k < s.taps; ++k) {
        const vec weight = splat(s.weights[k]);
        PYCNN_UNROLL for (int v = 0; v < V; ++v) sum[v] = sum[v] + weight * load(s.x + k * s.step + j + v * VL);
    }
    PYCNN_UNROLL for (int v = 0; v < V; ++v) store(s.y + j + v * VL, sum[v]);
}

}  // namespace

void sample_row(const SampleRow& a) {
    const int64_t C = a.C, row = (a.W + 3) * C;
    const vec last_x = splat(static_cast<float>(a.W + 1)), last_y = splat(static_cast<float>(a.H + 1));
    for (int64_t j = 0; j < a.columns; j += VL) {
        const int64_t lanes = a.columns - j < VL ? a.columns - j : VL;
        const vec at = count_from(j);
        vec x = splat(a.x) + splat(a.dx) * at, y = splat(a.y) + splat(a.dy) * at;
        if (a.move_x) {
            x = x + load(a.move_x + j);
            y = y + load(a.move_y + j);
        }
        x = clamp(x, last_x), y = clamp(y, last_y);
        const ivec left = truncate(x), top = truncate(y);
        const vec f = x - to_floats(left), g = y - to_floats(top);
        const ivec pixel = top * isplat(static_cast<int32_t>(row)) + left * isplat(static_cast<int32_t>(C));
        for (int64_t c = 0; c < C; ++c) {
            const float* s = a.source + c;
            vec s00, s01, s10, s11;
            if (C == 1) {
                gather_pairs(s, pixel, s00, s01);
                gather_pairs(s + row, pixel, s10, s11);
            } else {
                s00 = gather(s, pixel), s01 = gather(s + C, pixel);
                s10 = gather(s + row, pixel), s11 = gather(s + row + C, pixel);
            }
            const vec above = s00 + f * (s01 - s00), below = s10 + f * (s11 - s10);
            vec v = above + g * (below - above);
            if (a.mean) v = (v - splat(a.mean[c])) / splat(a.std[c]);
            if (C == 1) {
                store_first(a.out + j, v, lanes);
                continue;
            }
            float lane[VL];
            store(lane, v);
            for (int64_t i = 0; i < lanes; ++i) a.out[(j + i) * C + c] = lane[i];
        }
    }
}

void smooth_row(const SmoothRow& s) {
    int64_t j = 0;
    for (; j + 4 * VL <= s.size; j += 4 * VL) smooth<4>(s, j);
    for (; j + 2 * VL <= s.size; j += 2 * VL) smooth<2>(s, j);
    if (j < s.size) smooth<1>(s, j);
}

}  // namespace pycnn::PYCNN_ISA
