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

// The taps of a window that lie in [begin, end).
PoolWindow cut_window(const PoolWindow& w, int64_t dilation, int64_t begin, int64_t end) {
    const int64_t before = w.begin < begin ? ceil_div(begin - w.begin, dilation) : 0;
    const int64_t last = w.begin < end ? std::min(w.taps, ceil_div(end - w.begin, dilation)) : 0;
    return {w.begin + before * dilation, std::max<int64_t>(last - before, 0), w.counted};
}

// Padding never takes part, so it never wins; a mean counts it on request.
PoolWindow window_at(const PoolAxis& axis, int64_t o, bool counts_rim) {
    const AxisWindow& w = axis.window;
    if (axis.adaptive) {
        const int64_t begin = o * w.size / axis.outputs, taps = ceil_div((o + 1) * w.size, axis.outputs) - begin;
        return {begin, taps, taps};
    }
    const PoolWindow whole{o * w.stride - w.before, w.kernel, 0};
    PoolWindow inside = cut_window(whole, w.dilation, 0, w.size);
    inside.counted = counts_rim ? cut_window(whole, w.dilation, -w.before, w.size + w.after).taps : inside.taps;
    return inside;
}

std::vector<PoolWindow> windows_of(const PoolAxis& axis, bool counts_rim) {
    std::vector<PoolWindow> windows(axis.outputs);
    for (int64_t o = 0; o < axis.outputs; ++o) windows[o] = window_at(axis, o, counts_rim);
    return windows;
}

struct Windows {  // of all outputs of a shape that is not empty
    const Pool2dShape& s;
    std::vector<PoolWindow> rows, columns;

    explicit Windows(const Pool2dShape& shape, bool counts_rim = false)
        : s(shape), rows(windows_of(s.h, counts_rim)), columns(windows_of(s.w, counts_rim)) {}

    PoolRow row(int64_t oh) const {
        return {s.W(), s.C, s.OW(), s.h.window.dilation, s.w.window.dilation, rows[oh], columns.data()};
    }
    double taps() const {  // of all windows of an image
        double total[2] = {};
        for (const PoolWindow& w : rows) total[0] += static_cast<double>(w.taps);
        for (const PoolWindow& w : columns) total[1] += static_cast<double>(w.taps);
        return total[0] * total[1];
    }
};

int64_t image_size(const Pool2dShape& s) { return s.H() * s.W() * s.C; }

template <class Row>  // Row(offset of y's row, image number, windows)
void for_rows(const Windows& windows, Row&& run) {
    const Pool2dShape& s = windows.s;
    const int64_t OH = s.OH(), row_size = s.OW() * s.C;
    const double bytes = 4.0 * s.C * (windows.taps() / static_cast<double>(OH) + 2.0 * s.OW());
    parallel_for(s.N * OH, grain_units(kGrainBytes, bytes), [&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row) run(row * row_size, row / OH, windows.row(row % OH));
    });
}

// Backward, threads take images; where these are few, bands of rows or pixels of them.
constexpr int64_t kBands = 16;
Cut cut_images(int64_t N) { return {N, kBands, N < 16, false}; }
int64_t band(int64_t size, int64_t i) { return size * i / kBands; }

template <class Row>  // Row(offset of dy's row, dx of the image, windows, cut to the band)
void for_bands(float* dx, const Windows& windows, Row&& run) {
    const Pool2dShape& s = windows.s;
    const int64_t OH = s.OH(), row_size = s.OW() * s.C;
    const double floats = static_cast<double>(s.N) * (image_size(s) + OH * row_size + s.C * windows.taps());
    parallel_rectangles(cut_images(s.N), kGrainBytes, 4.0 * floats,
                        [&](int64_t n0, int64_t n1, int64_t b0, int64_t b1) {
                            const int64_t top = band(s.H(), b0), bottom = band(s.H(), b1), line = s.W() * s.C;
                            for (int64_t n = n0; n < n1; ++n) {
                                float* image = dx + n * image_size(s);
                                std::memset(image + top * line, 0, sizeof(float) * (bottom - top) * line);
                                for (int64_t oh = 0; oh < OH; ++oh) {
                                    PoolRow row = windows.row(oh);
                                    row.rows = cut_window(row.rows, row.dilation_h, top, bottom);
                                    if (row.rows.taps > 0) run((n * OH + oh) * row_size, image, row);
                                }
                            }
                        });
}

struct Visited {             // one pixel of one window
    int64_t out, in, pixel;  // elements of y and x; h * W + w
    double count;            // what a mean of the window is over
    bool first, last;        // of the window
};

// The plain loops, in float64: visit(Visited) for every pixel of every window, in window order.
template <class Start, class Visit>
void for_windows(const Windows& windows, Start&& start, Visit&& visit) {
    const Pool2dShape& s = windows.s;
    const int64_t OH = s.OH(), OW = s.OW(), dilation_h = s.h.window.dilation, dilation_w = s.w.window.dilation;
    parallel_for(s.N, grain_units(kGrainPlain, windows.taps() * s.C), [&](int64_t begin, int64_t end) {
        for (int64_t n = begin; n < end; ++n) {
            start(n);
            for (int64_t oh = 0; oh < OH; ++oh)
                for (int64_t ow = 0; ow < OW; ++ow)
                    for (int64_t c = 0; c < s.C; ++c) {
                        const PoolWindow &rows = windows.rows[oh], &columns = windows.columns[ow];
                        const int64_t out = ((n * OH + oh) * OW + ow) * s.C + c;
                        const double count = static_cast<double>(rows.counted * columns.counted);
                        for (int64_t i = 0; i < rows.taps; ++i)
                            for (int64_t j = 0; j < columns.taps; ++j) {
                                const int64_t pixel =
                                    (rows.begin + i * dilation_h) * s.W() + columns.begin + j * dilation_w;
                                visit({out, n * image_size(s) + pixel * s.C + c, pixel, count, i + j == 0,
                                       i + j == rows.taps + columns.taps - 2});
                            }
                    }
        }
    });
}

void nothing(int64_t) {}

}  // namespace

void max_pool2d_forward(float* y, int32_t* indices, const float* x, const Pool2dShape& s) {
    if (s.N == 0) return;
    for_rows(Windows(s), [&](int64_t at, int64_t n, const PoolRow& row) {
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
    if (s.N == 0) return;
    const bool ahead = past_caches(s.N * image_size(s));
    for_rows(Windows(s, count_include_pad), [&](int64_t at, int64_t n, PoolRow row) {
        row.ahead = ahead;
        kernels().avg_pool2d_row(y + at, x + n * image_size(s), row);
    });
}

// Whether each pixel lies in one window: then nothing is added up, and threads take rows of windows.
static bool windows_tile(const std::vector<PoolWindow>& windows, int64_t size, int64_t dilation) {
    int64_t end = 0;
    for (const PoolWindow& w : windows) {
        if (w.begin != end) return false;
        end += w.taps;
    }
    return end == size && dilation == 1;
}

void avg_pool2d_backward(float* dx, const float* dy, const Pool2dShape& s, bool count_include_pad) {
    if (s.N == 0) return;
    const Windows windows(s, count_include_pad);
    if (windows_tile(windows.rows, s.H(), s.h.window.dilation) &&
        windows_tile(windows.columns, s.W(), s.w.window.dilation))
        return for_rows(windows, [&](int64_t at, int64_t n, const PoolRow& row) {
            kernels().avg_pool2d_backward_row({.dx = dx + n * image_size(s), .dy = dy + at, .alone = true}, row);
        });
    for_bands(dx, windows, [&](int64_t at, float* image, const PoolRow& row) {
        kernels().avg_pool2d_backward_row({.dx = image, .dy = dy + at, .alone = false}, row);
    });
}

void max_pool2d_forward(double* y, int32_t* indices, const double* x, const Pool2dShape& s) {
    if (s.N == 0) return;
    const auto take = [&](const Visited& v) {
        const double value = x[v.in];
        const bool better = value > y[v.out] || (value != value && y[v.out] == y[v.out]);
        if (!v.first && !better) return;
        y[v.out] = value;
        if (indices) indices[v.out] = static_cast<int32_t>(v.pixel);
    };
    for_windows(Windows(s), nothing, take);
}

void avg_pool2d_forward(double* y, const double* x, const Pool2dShape& s, bool count_include_pad) {
    if (s.N == 0) return;
    for_windows(Windows(s, count_include_pad), nothing, [&](const Visited& v) {
        y[v.out] = v.first ? x[v.in] : y[v.out] + x[v.in];
        if (v.last) y[v.out] /= v.count;
    });
}

void avg_pool2d_backward(double* dx, const double* dy, const Pool2dShape& s, bool count_include_pad) {
    if (s.N == 0) return;
    const auto clear = [&](int64_t n) { std::fill_n(dx + n * image_size(s), image_size(s), 0.0); };
    for_windows(Windows(s, count_include_pad), clear, [&](const Visited& v) { dx[v.in] += dy[v.out] / v.count; });
}

}  // namespace pycnn
