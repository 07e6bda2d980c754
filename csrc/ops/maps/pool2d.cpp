// Pooling over a batch: cuts each row of windows to the image and hands it to the kernel. Forward, threads take output
// rows; backward, images or bands of them, because overlapping windows add to the same pixels.

#include "ops/maps/pool2d.h"

#include <atomic>
#include <cstring>
#include <vector>

#include "ops/runtime/caches.h"
#include "ops/runtime/cut.h"
#include "ops/runtime/dispatch.h"
#include "ops/runtime/parallel.h"

namespace pycnn {
namespace {

// The windows of output row oh. Padding never takes part, so it never wins.
PoolRow row_of_windows(const Pool2dShape& s, int64_t oh) {
    const int64_t h = oh * s.stride_h - s.pad.top;
    const int64_t begin = std::max<int64_t>(h, 0), end = std::min(h + s.KH, s.H);
    return {s.H, s.W, s.C, s.OW(), begin, end, -s.pad.left, s.stride_w, s.KW, end - begin};
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

// Backward, threads take images; where these are few, bands of rows or pixels of them.
constexpr int64_t kBands = 16;
Cut cut_images(int64_t N) { return {N, kBands, N < 16, false}; }
int64_t band(int64_t size, int64_t i) { return size * i / kBands; }

template <class Row>  // Row(offset of dy's row, dx of the image, windows, cut to the band)
void for_bands(float* dx, const Pool2dShape& s, Row&& run) {
    const int64_t OH = s.OH(), row_size = s.OW() * s.C;
    const double floats = static_cast<double>(s.N) * (image_size(s) + OH * row_size * (s.KH * s.KW + 1));
    parallel_rectangles(cut_images(s.N), kGrainBytes, 4.0 * floats,
                        [&](int64_t n0, int64_t n1, int64_t b0, int64_t b1) {
                            const int64_t top = band(s.H, b0), bottom = band(s.H, b1);
                            for (int64_t n = n0; n < n1; ++n) {
                                float* image = dx + n * image_size(s);
                                std::memset(image + top * s.W * s.C, 0, sizeof(float) * (bottom - top) * s.W * s.C);
                                for (int64_t oh = 0; oh < OH; ++oh) {
                                    PoolRow row = row_of_windows(s, oh);
                                    row.h_begin = std::max(row.h_begin, top), row.h_end = std::min(row.h_end, bottom);
                                    if (row.h_begin < row.h_end) run((n * OH + oh) * row_size, image, row);
                                }
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

namespace {

template <class T>
struct Scatter {  // to pixels [begin, end) of one image
    T* dx;
    const T* dy;
    const int32_t* indices;
    int64_t begin, end, pixels, outputs, C;
};

// Another thread may change the indices meanwhile. So some rows of them are copied, checked, a loop that the compiler
// turns into vectors, and used; to check each one as it is used took 1.7 times as long. dx is cleared 256 KB at a time
// just before something is added there, since most indices ascend: 135 instead of 155 microseconds for 112x112x64.
template <class T>
void scatter(const Scatter<T>& s, std::vector<int32_t>& copied, std::atomic<int64_t>& bad) {
    const int64_t C = s.C, together = std::max<int64_t>(1024 / C, 1), ahead = 65536 / C;  // rows of 4 KB
    const uint32_t limit = static_cast<uint32_t>(std::min<int64_t>(s.pixels, INT32_MAX));
    copied.resize(static_cast<std::size_t>(together * C));
    int32_t* const where = copied.data();
    int64_t cleared = s.begin;
    const auto clear = [&](int64_t to) {
        std::fill_n(s.dx + cleared * C, (to - cleared) * C, T(0));
        cleared = to;
    };
    for (int64_t row = 0, rows; row < s.outputs; row += rows) {
        rows = std::min(together, s.outputs - row);
        std::memcpy(where, s.indices + row * C, sizeof(int32_t) * rows * C);
        uint32_t first = limit, last = 0;
        for (int64_t i = 0; i < rows * C; ++i) {
            first = std::min(first, static_cast<uint32_t>(where[i]));
            last = std::max(last, static_cast<uint32_t>(where[i]));
        }
        for (int64_t i = 0; last >= limit && i < rows * C; ++i)
            if (static_cast<uint32_t>(where[i]) >= limit) bad = where[i];
        if (last >= limit || last < s.begin || first >= s.end) continue;
        if (last >= cleared && cleared < s.end) clear(std::min(std::max(last + int64_t{1}, cleared + ahead), s.end));
        const T* g = s.dy + row * C;
        const bool inside = first >= s.begin && last < s.end;
        for (int64_t i = 0; i < rows * C; i += C)
            for (int64_t c = 0; c < C; ++c)
                if (inside || (where[i + c] >= s.begin && where[i + c] < s.end)) s.dx[where[i + c] * C + c] += g[i + c];
    }
    clear(s.end);
}

}  // namespace

// A band reads all indices of its image: what it leaves out takes an eighth of the time of what it uses. Blocks of channels
// instead took twice as long an output, whose pixels lie too far apart (112x112x64, two threads, Zen 4).
template <class T>
int64_t max_pool2d_backward(const MaxPool2dBackward<T>& a) {
    const int64_t N = a.N, pixels = a.pixels, outputs = a.outputs, C = a.C;
    constexpr int64_t kScatter = 64;  // an output takes as long as so many bytes of a pass
    std::atomic<int64_t> bad{kNoBadIndex};
    if (C == 0) return bad;
    const double bytes = static_cast<double>(N) * C * (pixels * sizeof(T) + outputs * kScatter);
    parallel_rectangles(cut_images(N), kGrainBytes, bytes, [&](int64_t n0, int64_t n1, int64_t b0, int64_t b1) {
        std::vector<int32_t> copied;
        for (int64_t n = n0; n < n1; ++n)
            scatter<T>({.dx = a.dx + n * pixels * C,
                        .dy = a.dy + n * outputs * C,
                        .indices = a.indices + n * outputs * C,
                        .begin = band(pixels, b0),
                        .end = band(pixels, b1),
                        .pixels = pixels,
                        .outputs = outputs,
                        .C = C},
                       copied, bad);
    });
    return bad;
}

template int64_t max_pool2d_backward(const MaxPool2dBackward<float>&);
template int64_t max_pool2d_backward(const MaxPool2dBackward<double>&);

void avg_pool2d_forward(float* y, const float* x, const Pool2dShape& s, bool count_include_pad) {
    const bool ahead = past_caches(s.N * image_size(s));
    for_rows(s, [&](int64_t at, int64_t n, PoolRow row) {
        row.ahead = ahead;
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
            kernels().avg_pool2d_backward_row(
                {.dx = dx + n * image_size(s), .dy = dy + at, .divisor = divisor(s, count_include_pad), .alone = true},
                row);
        });
    for_bands(dx, s, [&](int64_t at, float* image, const PoolRow& row) {
        kernels().avg_pool2d_backward_row(
            {.dx = image, .dy = dy + at, .divisor = divisor(s, count_include_pad), .alone = false}, row);
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
