// Pooling, NHWC, 16 channels at a time: one output row a call; the windows are cut to the image.
//
//   max    y[ow][c] = max over the window of x[h][w][c]      indices[ow][c] = h * W + w of that maximum
//   avg    y[ow][c] = sum over the window / count            dx[h][w][c] += dy[ow][c] / count
//          count: the pixels of the window inside the image, or `divisor` where it is not 0
//
//   x, dx            [H][W][C]    one image; dx is added to: the caller has zeroed it
//   y, dy, indices   [OW][C]      y and indices are overwritten
//   The gradient of the maximum is a scatter by indices, without arithmetic to vectorise: ops/pool2d.cpp.
//
// The maximum, its NaN and ties: simd.h.

#include "kernels.h"
#include "simd.h"
#include "table.h"

namespace pycnn::PYCNN_ISA {
namespace {

struct Columns {  // of one window, inside the image
    int64_t begin, end;
};

PYCNN_INLINE Columns window_columns(const PoolRow& s, int64_t ow) {
    const int64_t w = s.w_first + ow * s.stride_w;
    return {w < 0 ? 0 : w, w + s.KW < s.W ? w + s.KW : s.W};
}

template <bool INDICES>
PYCNN_INLINE void window_maximum(float* y, int32_t* indices, const float* x, const PoolRow& s, Columns columns,
                                 int64_t lanes) {
    vec best = load_first(x + (s.h_begin * s.W + columns.begin) * s.C, lanes);
    ivec where = isplat(static_cast<int32_t>(s.h_begin * s.W + columns.begin));
    for (int64_t h = s.h_begin; h < s.h_end; ++h)
        for (int64_t w = columns.begin; w < columns.end; ++w) {
            const vec v = load_first(x + (h * s.W + w) * s.C, lanes);
            const ivec better = beats(v, best);
            best = select(better, v, best);
            if (INDICES) where = select(better, isplat(static_cast<int32_t>(h * s.W + w)), where);
        }
    store_first(y, best, lanes);
    if (INDICES) store_first(indices, where, lanes);
}

template <bool INDICES>
PYCNN_INLINE void row_of_maxima(float* y, int32_t* indices, const float* x, const PoolRow& s) {
    for (int64_t ow = 0; ow < s.OW; ++ow, y += s.C, indices += INDICES ? s.C : 0) {
        const Columns columns = window_columns(s, ow);
        int64_t c = 0;
        for (; c + VL <= s.C; c += VL)
            window_maximum<INDICES>(y + c, indices + (INDICES ? c : 0), x + c, s, columns, VL);
        if (c < s.C) window_maximum<INDICES>(y + c, indices + (INDICES ? c : 0), x + c, s, columns, s.C - c);
    }
}

PYCNN_INLINE void window_sum(float* y, const float* x, const PoolRow& s, Columns columns, float count, int64_t lanes) {
    vec sum = splat(0.0f);
    for (int64_t h = s.h_begin; h < s.h_end; ++h)
        for (int64_t w = columns.begin; w < columns.end; ++w) sum = sum + load_first(x + (h * s.W + w) * s.C, lanes);
    store_first(y, sum / splat(count), lanes);
}

PYCNN_INLINE void spread_mean(float* dx, const float* dy, const PoolRow& s, Columns columns, float count,
                              int64_t lanes) {
    const vec share = load_first(dy, lanes) / splat(count);
    for (int64_t h = s.h_begin; h < s.h_end; ++h)
        for (int64_t w = columns.begin; w < columns.end; ++w) {
            float* at = dx + (h * s.W + w) * s.C;
            store_first(at, load_first(at, lanes) + share, lanes);
        }
}

PYCNN_INLINE float pixel_count(const PoolRow& s, Columns columns, int64_t divisor) {
    return static_cast<float>(divisor ? divisor : (s.h_end - s.h_begin) * (columns.end - columns.begin));
}

}  // namespace

void max_pool2d_row(float* y, int32_t* indices, const float* x, const PoolRow& s) {
    indices ? row_of_maxima<true>(y, indices, x, s) : row_of_maxima<false>(y, indices, x, s);
}

void avg_pool2d_row(float* y, const float* x, const PoolRow& s, int64_t divisor) {
    for (int64_t ow = 0; ow < s.OW; ++ow, y += s.C) {
        const Columns columns = window_columns(s, ow);
        const float count = pixel_count(s, columns, divisor);
        int64_t c = 0;
        for (; c + VL <= s.C; c += VL) window_sum(y + c, x + c, s, columns, count, VL);
        if (c < s.C) window_sum(y + c, x + c, s, columns, count, s.C - c);
    }
}

void avg_pool2d_backward_row(float* dx, const float* dy, const PoolRow& s, int64_t divisor) {
    for (int64_t ow = 0; ow < s.OW; ++ow, dy += s.C) {
        const Columns columns = window_columns(s, ow);
        const float count = pixel_count(s, columns, divisor);
        int64_t c = 0;
        for (; c + VL <= s.C; c += VL) spread_mean(dx + c, dy + c, s, columns, count, VL);
        if (c < s.C) spread_mean(dx + c, dy + c, s, columns, count, s.C - c);
    }
}

}  // namespace pycnn::PYCNN_ISA
