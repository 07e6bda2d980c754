// Pooling over a batch: cuts each row of windows to the image and hands it to the kernel. Forward, threads take output
// rows; backward, whole images, because overlapping windows add to the same pixels.

#include "ops/maps/pool2d.h"

#include <atomic>
#include <cstring>
#include <vector>

#include "ops/runtime/dispatch.h"
#include "ops/runtime/parallel.h"

namespace pycnn {
namespace {

// The windows of output row oh. Padding never takes part, so it never wins.
PoolRow row_of_windows(const Pool2dShape& s, int64_t oh) {
    const int64_t h = oh * s.stride_h - s.pad.top;
    return {s.H, s.W, s.C, s.OW(), std::max<int64_t>(h, 0), std::min(h + s.KH, s.H), -s.pad.left, s.stride_w, s.KW};
}

int64_t image_size(const Pool2dShape& s) { return s.H * s.W * s.C; }
int64_t divisor(const Pool2dShape& s, bool count_include_pad) { return count_include_pad ? s.KH * s.KW : 0; }

template <class Row>  // Row(offset of y's row, image number, windows)
void for_rows(const Pool2dShape& s, Row&& run) {
    const int64_t OH = s.OH(), row_size = s.OW() * s.C;
    const double bytes = 4.0 * row_size * (s.KH * s.KW + 2);
    parallel_for(s.N * OH, grain_units(kGrainBytes, bytes), [&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row) run(row * row_size, row / OH, row_of_windows(s, row % OH));
    });
}

template <class Row>  // Row(offset of dy's row, dx of the image, windows)
void for_images(float* dx, const Pool2dShape& s, Row&& run) {
    const int64_t OH = s.OH(), row_size = s.OW() * s.C;
    parallel_for(s.N, grain_units(kGrainBytes, 12.0 * image_size(s)), [&](int64_t begin, int64_t end) {
        for (int64_t n = begin; n < end; ++n) {
            float* image = dx + n * image_size(s);
            std::memset(image, 0, sizeof(float) * image_size(s));
            for (int64_t oh = 0; oh < OH; ++oh) run((n * OH + oh) * row_size, image, row_of_windows(s, oh));
        }
    });
}

// The plain loops, in float64: visit(output element, pixel of x) for every pixel of every window, in window order.
template <class Start, class Visit, class Finish>
void for_windows(const Pool2dShape& s, Start&& start, Visit&& visit, Finish&& finish) {
    const int64_t OH = s.OH(), OW = s.OW();
    const double steps = static_cast<double>(OH) * OW * s.C * s.KH * s.KW;
    parallel_for(s.N, grain_units(kGrainPlain, steps), [&](int64_t begin, int64_t end) {
        for (int64_t n = begin; n < end; ++n) {
            start(n);
            for (int64_t oh = 0; oh < OH; ++oh)
                for (int64_t ow = 0; ow < OW; ++ow)
                    for (int64_t c = 0; c < s.C; ++c) {
                        const PoolRow row = row_of_windows(s, oh);
                        const int64_t w = ow * s.stride_w - s.pad.left;
                        const int64_t w_begin = std::max<int64_t>(w, 0), w_end = std::min(w + s.KW, s.W);
                        const int64_t out = ((n * OH + oh) * OW + ow) * s.C + c;
                        for (int64_t h = row.h_begin; h < row.h_end; ++h)
                            for (int64_t v = w_begin; v < w_end; ++v)
                                visit(out, ((n * s.H + h) * s.W + v) * s.C + c, h * s.W + v,
                                      h == row.h_begin && v == w_begin);
                        finish(out, (row.h_end - row.h_begin) * (w_end - w_begin));
                    }
        }
    });
}

void nothing(int64_t) {}
void nothing_to_finish(int64_t, int64_t) {}

}  // namespace

void max_pool2d_forward(float* y, int32_t* indices, const float* x, const Pool2dShape& s) {
    for_rows(s, [&](int64_t at, int64_t n, const PoolRow& row) {
        kernels().max_pool2d_row(y + at, indices ? indices + at : nullptr, x + n * image_size(s), row);
    });
}

// Another thread may change the indices meanwhile. So some rows of them are copied, checked, a loop that the compiler
// turns into vectors, and used; to check each one as it is used took 1.7 times as long.
template <class T>
int64_t max_pool2d_backward(T* dx, const T* dy, const int32_t* indices, int64_t N, int64_t pixels, int64_t outputs,
                            int64_t C) {
    std::atomic<int64_t> bad{kNoBadIndex};
    const uint32_t limit = static_cast<uint32_t>(std::min<int64_t>(pixels, INT32_MAX));
    const double bytes = static_cast<double>(C) * (pixels * sizeof(T) + outputs * (2 * sizeof(T) + 4));
    const int64_t together = std::max<int64_t>(1024 / std::max<int64_t>(C, 1), 1);  // rows of 4 KB
    parallel_for(N, grain_units(kGrainBytes, bytes), [&](int64_t begin, int64_t end) {
        std::vector<int32_t> copied(static_cast<std::size_t>(together * C));
        int32_t* const where = copied.data();
        for (int64_t n = begin; n < end; ++n) {
            T* image = dx + n * pixels * C;
            std::fill_n(image, pixels * C, T(0));
            for (int64_t row = n * outputs, last = row + outputs, rows; row < last; row += rows) {
                rows = std::min(together, last - row);
                std::memcpy(where, indices + row * C, sizeof(int32_t) * rows * C);
                uint32_t outside = 0;
                for (int64_t i = 0; i < rows * C; ++i) outside |= static_cast<uint32_t>(where[i]) >= limit;
                for (int64_t i = 0; outside && i < rows * C; ++i)
                    if (static_cast<uint32_t>(where[i]) >= limit) bad = where[i];
                if (outside) continue;
                const T* g = dy + row * C;
                for (int64_t i = 0; i < rows * C; i += C)
                    for (int64_t c = 0; c < C; ++c) image[where[i + c] * C + c] += g[i + c];
            }
        }
    });
    return bad;
}

template int64_t max_pool2d_backward(float*, const float*, const int32_t*, int64_t, int64_t, int64_t, int64_t);
template int64_t max_pool2d_backward(double*, const double*, const int32_t*, int64_t, int64_t, int64_t, int64_t);

void avg_pool2d_forward(float* y, const float* x, const Pool2dShape& s, bool count_include_pad) {
    for_rows(s, [&](int64_t at, int64_t n, const PoolRow& row) {
        kernels().avg_pool2d_row(y + at, x + n * image_size(s), row, divisor(s, count_include_pad));
    });
}

// Whether each pixel lies in one window: then nothing is added up, and threads take rows of windows.
static bool windows_tile(const Pool2dShape& s) {
    return s.stride_h == s.KH && s.stride_w == s.KW && s.OH() * s.KH >= s.H + s.pad.top &&
           s.OW() * s.KW >= s.W + s.pad.left;
}

void avg_pool2d_backward(float* dx, const float* dy, const Pool2dShape& s, bool count_include_pad) {
    if (windows_tile(s))
        return for_rows(s, [&](int64_t at, int64_t n, const PoolRow& row) {
            kernels().avg_pool2d_backward_row(dx + n * image_size(s), dy + at, row, divisor(s, count_include_pad),
                                              true);
        });
    for_images(dx, s, [&](int64_t at, float* image, const PoolRow& row) {
        kernels().avg_pool2d_backward_row(image, dy + at, row, divisor(s, count_include_pad), false);
    });
}

void max_pool2d_forward(double* y, int32_t* indices, const double* x, const Pool2dShape& s) {
    const auto take = [&](int64_t out, int64_t pixel, int64_t where, bool first) {
        const bool better = x[pixel] > y[out] || (x[pixel] != x[pixel] && y[out] == y[out]);
        if (!first && !better) return;
        y[out] = x[pixel];
        if (indices) indices[out] = static_cast<int32_t>(where);
    };
    for_windows(s, nothing, take, nothing_to_finish);
}

void avg_pool2d_forward(double* y, const double* x, const Pool2dShape& s, bool count_include_pad) {
    const int64_t fixed = divisor(s, count_include_pad);
    const auto add = [&](int64_t out, int64_t pixel, int64_t, bool first) {
        y[out] = first ? x[pixel] : y[out] + x[pixel];
    };
    for_windows(s, nothing, add,
                [&](int64_t out, int64_t count) { y[out] /= static_cast<double>(fixed ? fixed : count); });
}

void avg_pool2d_backward(double* dx, const double* dy, const Pool2dShape& s, bool count_include_pad) {
    const auto clear = [&](int64_t n) { std::fill_n(dx + n * image_size(s), image_size(s), 0.0); };
    const auto give = [&](int64_t out, int64_t pixel, int64_t, bool) {
        const int64_t oh = out / s.C / s.OW() % s.OH(), ow = out / s.C % s.OW();
        const PoolRow row = row_of_windows(s, oh);
        const int64_t w = ow * s.stride_w - s.pad.left;
        const int64_t columns = std::min(w + s.KW, s.W) - std::max<int64_t>(w, 0);
        const int64_t count = count_include_pad ? s.KH * s.KW : (row.h_end - row.h_begin) * columns;
        dx[pixel] += dy[out] / static_cast<double>(count);
    };
    for_windows(s, clear, give, nothing_to_finish);
}

}  // namespace pycnn
