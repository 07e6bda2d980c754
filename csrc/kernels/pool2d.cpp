// Pooling, NHWC, 16 channels at a time: one output row a call; the windows are cut to the image.
//
//   max    y[ow][c] = max over the window of x[h][w][c]      indices[ow][c] = h * W + w of that maximum
//   avg    y[ow][c] = sum over the window / count            dx[h][w][c] += dy[ow][c] / count
//          count: of its rows times of its columns (PoolWindow::counted)
//
//   x, dx            [H][W][C]    one image; dx is added to: the caller has zeroed it; where each pixel has one window
//                                 alone it is overwritten
//   y, dy, indices   [OW][C]      y and indices are overwritten
//   The gradient of the maximum is a scatter by indices, without arithmetic to vectorise: ops/pool2d.cpp.
//
// The first maximum wins. A NaN wins over every number, and the first NaN over later ones, whatever C is.

#include "kernels.h"
#include "simd_maps.h"
#include "table.h"

namespace pycnn::PYCNN_ISA {
namespace {

struct Window {                    // cut to the image
    int64_t first, rows, columns;  // the first pixel, h * W + w
    int64_t down, across;          // pixels to the next row and column of it
};

PYCNN_INLINE Window window_of(const PoolRow& s, int64_t ow) {
    const PoolWindow& columns = s.columns[ow];
    return {s.rows.begin * s.W + columns.begin, s.rows.taps, columns.taps, s.dilation_h * s.W, s.dilation_w};
}

// Calls body(c, lanes) for each vector of channels; all but the last with a constant number of lanes.
template <class Body>
PYCNN_INLINE void each_vector(int64_t C, Body body) {
    int64_t c = 0;
    for (; c + VL <= C; c += VL) body(c, static_cast<int64_t>(VL));
    if (c < C) body(c, C - c);
}

// Calls body(pixel, its h * W + w) for the pixels of a window, some channels of which start at `from`; its sides as
// constants, or 0.
template <int ROWS, int COLUMNS, class T, class Body>
PYCNN_INLINE void each_pixel(T* from, const PoolRow& s, const Window& w, Body body) {
    if constexpr (ROWS != 0) {
        PYCNN_UNROLL for (int i = 0; i < ROWS; ++i) {
            T* row = whole(from + i * w.down * s.C);
            PYCNN_UNROLL for (int j = 0; j < COLUMNS; ++j)
                body(row + j * w.across * s.C, w.first + i * w.down + j * w.across);
        }
    } else {
        for (int64_t i = 0; i < w.rows; ++i)
            for (int64_t j = 0; j < w.columns; ++j) {
                const int64_t at = i * w.down + j * w.across;
                body(from + at * s.C, w.first + at);
            }
    }
}

// ---- maximum ------------------------------------------------------------------------------------------------------

template <bool INDICES, int ROWS, int COLUMNS>
PYCNN_INLINE void maxima(float* y, int32_t* indices, const float* x, const PoolRow& s, const Window& w) {
    each_vector(s.C, [&](int64_t c, int64_t lanes) __attribute__((always_inline)) {
        const float* from = x + w.first * s.C + c;
        vec best = load_first(from, lanes);
        ivec where = isplat(static_cast<int32_t>(w.first));
        each_pixel<ROWS, COLUMNS>(from, s, w, [&](const float* at, int64_t pixel) __attribute__((always_inline)) {
            take_better(best, where, load_first(at, lanes), isplat(static_cast<int32_t>(pixel)));
        });
        store_first(y + c, best, lanes);
        if (INDICES) store_first(indices + c, where, lanes);
    });
}

template <bool INDICES>
PYCNN_INLINE void row_of_maxima(float* y, int32_t* indices, const float* x, const PoolRow& s) {
    for (int64_t ow = 0; ow < s.OW; ++ow, y += s.C, indices += INDICES ? s.C : 0) {
        const Window w = window_of(s, ow);
        if (w.rows == 3 && w.columns == 3)
            maxima<INDICES, 3, 3>(y, indices, x, s, w);
        else if (w.rows == 2 && w.columns == 2)
            maxima<INDICES, 2, 2>(y, indices, x, s, w);
        else
            maxima<INDICES, 0, 0>(y, indices, x, s, w);
    }
}

// ---- mean ---------------------------------------------------------------------------------------------------------

PYCNN_INLINE float pixel_count(const PoolRow& s, int64_t ow) {
    return static_cast<float>(s.rows.counted * s.columns[ow].counted);
}

template <int ROWS, int COLUMNS>
PYCNN_INLINE void means(float* y, const float* x, const PoolRow& s, const Window& w, float count) {
    each_vector(s.C, [&](int64_t c, int64_t lanes) __attribute__((always_inline)) {
        vec sum = splat(0.0f);
        each_pixel<ROWS, COLUMNS>(x + w.first * s.C + c, s, w,
                                  [&](const float* at, int64_t)
                                      __attribute__((always_inline)) { sum = sum + load_first(at, lanes); });
        store_first(y + c, sum / splat(count), lanes);
    });
}

template <int P, bool AHEAD>  // y += P pixels in order; the next ones come to L2 meanwhile
PYCNN_INLINE void add_pixels(float* y, const float* x, int64_t C) {
    each_vector(C, [&](int64_t c, int64_t lanes) __attribute__((always_inline)) {
        vec sum = load_first(y + c, lanes);
        PYCNN_UNROLL for (int p = 0; p < P; ++p) {
            sum = sum + load_first(x + p * C + c, lanes);
            if (AHEAD) prefetch(x + (P + p) * C + c);
        }
        store_first(y + c, sum, lanes);
    });
}

// A large window: its pixels are read as they lie, all channels of four at a time, while the sums wait in y. Down the
// pixels one vector at a time, each 4 KB from the last one, 7x7x1024 at batch 16 took 78 microseconds instead of 31 (AMD
// EPYC, Zen 4, two threads). AHEAD: batch 128, from memory, 235 instead of 304; but 21 instead of 19 from L2, batch 16.
template <bool AHEAD>
PYCNN_INLINE void means_by_pixels(float* y, const float* x, const PoolRow& s, const Window& w, float count) {
    memset(y, 0, sizeof(float) * s.C);
    const bool whole_rows = w.columns == s.W;  // all of them are one run of pixels
    const int64_t runs = whole_rows ? 1 : w.rows, pixels = whole_rows ? w.rows * w.columns : w.columns;
    for (int64_t i = 0; i < runs; ++i) {
        const float* from = x + (w.first + i * s.W) * s.C;
        int64_t p = 0;
        for (; p + 4 <= pixels; p += 4) add_pixels<4, AHEAD>(y, from + p * s.C, s.C);
        for (; p < pixels; ++p) add_pixels<1, AHEAD>(y, from + p * s.C, s.C);
    }
    each_vector(s.C, [&](int64_t c, int64_t lanes) __attribute__((always_inline)) {
        store_first(y + c, load_first(y + c, lanes) / splat(count), lanes);
    });
}

// dx += dy / count in every pixel of the window.
PYCNN_INLINE void spread_mean(float* dx, const float* dy, const PoolRow& s, const Window& w, float count) {
    each_vector(s.C, [&](int64_t c, int64_t lanes) __attribute__((always_inline)) {
        const vec share = load_first(dy + c, lanes) / splat(count);
        each_pixel<0, 0>(dx + w.first * s.C + c, s, w, [&](float* at, int64_t) __attribute__((always_inline)) {
            store_first(at, load_first(at, lanes) + share, lanes);
        });
    });
}

// dx = dy / count in every pixel of the window: divided once, then copied.
PYCNN_INLINE void write_mean(float* dx, const float* dy, const PoolRow& s, const Window& w, float count) {
    float* first = dx + w.first * s.C;
    each_vector(s.C, [&](int64_t c, int64_t lanes) __attribute__((always_inline)) {
        store_first(first + c, load_first(dy + c, lanes) / splat(count), lanes);
    });
    each_pixel<0, 0>(first, s, w, [&](float* at, int64_t) __attribute__((always_inline)) {
        if (at == first) return;
        each_vector(s.C, [&](int64_t c, int64_t lanes) __attribute__((always_inline)) {
            store_first(at + c, load_first(first + c, lanes), lanes);
        });
    });
}

}  // namespace

void max_pool2d_row(float* y, int32_t* indices, const float* x, const PoolRow& s) {
    indices ? row_of_maxima<true>(y, indices, x, s) : row_of_maxima<false>(y, indices, x, s);
}

void avg_pool2d_row(float* y, const float* x, const PoolRow& s) {
    for (int64_t ow = 0; ow < s.OW; ++ow, y += s.C) {
        const Window w = window_of(s, ow);
        const float count = pixel_count(s, ow);
        if (w.rows == 3 && w.columns == 3)
            means<3, 3>(y, x, s, w, count);
        else if (w.rows == 2 && w.columns == 2)
            means<2, 2>(y, x, s, w, count);
        else if (w.rows * w.columns < 16 || s.dilation_h * s.dilation_w > 1)
            means<0, 0>(y, x, s, w, count);
        else
            s.ahead ? means_by_pixels<true>(y, x, s, w, count) : means_by_pixels<false>(y, x, s, w, count);
    }
}

void avg_pool2d_backward_row(const AvgPoolBackwardRow& a, const PoolRow& s) {
    float* dx = a.dx;
    const float* dy = a.dy;
    const bool alone = a.alone;
    for (int64_t ow = 0; ow < s.OW; ++ow, dy += s.C) {
        const Window w = window_of(s, ow);
        const float count = pixel_count(s, ow);
        alone ? write_mean(dx, dy, s, w, count) : spread_mean(dx, dy, s, w, count);
    }
}

}  // namespace pycnn::PYCNN_ISA
