// The strided copy: axes that lie together become one, rows of the innermost axis are moved whole, threads take rows.

#include "ops/maps/copy.h"

#include <algorithm>

#include "ops/runtime/caches.h"
#include "ops/runtime/dispatch.h"
#include "ops/runtime/parallel.h"
#include "ops/shapes.h"

namespace pycnn {
namespace {

constexpr int64_t kBlock = 16;       // numbers of y that a block of a transposition writes: a line of float32
constexpr int64_t kPiece = 1 << 16;  // numbers that a thread takes of a row

int64_t magnitude(int64_t step) { return step < 0 ? -step : step; }

// The axes from the largest step in y to the smallest, without those of one number; neighbours that one axis can
// stand for are one.
std::vector<CopyAxis> merged(std::vector<CopyAxis> axes) {
    axes.erase(std::remove_if(axes.begin(), axes.end(), [](const CopyAxis& a) { return a.count == 1; }), axes.end());
    std::stable_sort(axes.begin(), axes.end(),
                     [](const CopyAxis& a, const CopyAxis& b) { return magnitude(a.to) > magnitude(b.to); });
    std::vector<CopyAxis> result;
    for (const CopyAxis& inner : axes) {
        const bool together = !result.empty() && result.back().to == inner.count * inner.to &&
                              result.back().from == inner.count * inner.from;
        if (together)
            result.back() = {result.back().count * inner.count, inner.to, inner.from};
        else
            result.push_back(inner);
    }
    return result;
}

// `rows` of `inner`: the innermost two axes, or a part of the rows. To vectors a double is two floats.
template <class T>
void copy_rows(T* y, const T* x, const CopyAxis& rows, const CopyAxis& inner, bool stream) {
    constexpr int64_t floats = sizeof(T) / sizeof(float);
    if (inner.to == 1 && inner.from == 1) {
        kernels().copy_rows({.y = reinterpret_cast<float*>(y),
                             .x = reinterpret_cast<const float*>(x),
                             .rows = rows.count,
                             .to = floats * rows.to,
                             .from = floats * rows.from,
                             .count = floats * inner.count,
                             .stream = stream});
    } else if (inner.to == 1 && inner.from == 0) {
        for (int64_t i = 0; i < rows.count; ++i) std::fill_n(y + i * rows.to, inner.count, x[i * rows.from]);
    } else {  // blocks whose lines of x and y are used whole before they leave the cache
        for (int64_t begin = 0; begin < inner.count; begin += kBlock) {
            const int64_t end = std::min(inner.count, begin + kBlock);
            if (end - begin < rows.count) {
                for (int64_t j = begin; j < end; ++j)
                    for (int64_t i = 0; i < rows.count; ++i)
                        y[i * rows.to + j * inner.to] = x[i * rows.from + j * inner.from];
            } else {
                for (int64_t i = 0; i < rows.count; ++i)
                    for (int64_t j = begin; j < end; ++j)
                        y[i * rows.to + j * inner.to] = x[i * rows.from + j * inner.from];
            }
        }
    }
}

// Whether y, gaps included, is so large that rows are stored past the caches, and all their vectors are whole.
template <class T>
bool streams_rows(const T* y, const std::vector<CopyAxis>& axes, const CopyAxis& inner) {
    constexpr int64_t floats = sizeof(T) / sizeof(float);
    int64_t span = inner.count, steps = 0;
    for (const CopyAxis& axis : axes) span += (axis.count - 1) * magnitude(axis.to), steps |= axis.to;
    const float* first = reinterpret_cast<const float*>(y);
    return floats * steps % 16 == 0 && streams(first, floats * span, floats * inner.count);
}

}  // namespace

template <class T>
void strided_copy(T* y, const T* x, std::vector<CopyAxis> axes) {
    for (const CopyAxis& axis : axes)
        if (axis.count < 1) return;
    axes = merged(std::move(axes));
    const CopyAxis inner = axes.empty() ? CopyAxis{1, 1, 1} : axes.back();
    if (!axes.empty()) axes.pop_back();
    if (inner.from != 1) {  // rows of another axis may be read in order
        const auto in_order =
            std::find_if(axes.begin(), axes.end(), [](const CopyAxis& a) { return magnitude(a.from) == 1; });
        if (in_order != axes.end()) std::rotate(in_order, in_order + 1, axes.end());
    }
    if (axes.empty()) axes.push_back({1, 0, 0});
    const CopyAxis last = axes.back();
    int64_t rows = 1;
    for (const CopyAxis& axis : axes) rows *= axis.count;
    // A unit is a row, or a piece of a long one.
    const int64_t pieces = ceil_div(inner.count, kPiece), size = std::min(inner.count, kPiece);
    const bool stream = streams_rows(y, axes, inner);
    const double bytes = 2.0 * sizeof(T) * static_cast<double>(size);
    parallel_for(rows * pieces, grain_units(kGrainBytes, bytes), [&](int64_t begin, int64_t end) {
        while (begin < end) {
            const int64_t row = begin / pieces, piece = begin % pieces, first = row % last.count;
            int64_t to = piece * kPiece * inner.to, from = piece * kPiece * inner.from, left = row;
            for (std::size_t k = axes.size(); k-- > 0; left /= axes[k].count) {
                to += left % axes[k].count * axes[k].to;
                from += left % axes[k].count * axes[k].from;
            }
            const int64_t count = pieces > 1 ? 1 : std::min(end - begin, last.count - first);
            const int64_t numbers = std::min(size, inner.count - piece * kPiece);
            copy_rows(y + to, x + from, {count, last.to, last.from}, {numbers, inner.to, inner.from}, stream);
            begin += count;
        }
    });
}

template void strided_copy(float*, const float*, std::vector<CopyAxis>);
template void strided_copy(double*, const double*, std::vector<CopyAxis>);

}  // namespace pycnn
