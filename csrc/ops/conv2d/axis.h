// One axis of a correlation: which input row each tap of each output row reads, and which taps lie inside the image.
#pragma once
#include <cstdint>
#include <vector>

#include "ops/shapes.h"

namespace pycnn {

struct Tap {    // along one axis
    int64_t d;  // input row of output row r: r * step - before + d
    int64_t k;  // in the weight
};

struct Sort {  // output rows (or columns) [begin, end) whose taps [first, last) lie inside the image
    int64_t begin, end, first, last;
};

struct Axis {
    int64_t size, before, step, outputs;
    std::vector<Tap> taps;  // ascending in d, d >= 0
    std::vector<Sort> sorts;

    int64_t taps_count() const { return static_cast<int64_t>(taps.size()); }
    int64_t last_d() const { return taps.empty() ? 0 : taps.back().d; }
    int64_t padded() const { return std::max(before + size, (outputs - 1) * step + last_d() + 1); }

    void sort_outputs() {
        for (int64_t r = 0; r < outputs; ++r) {
            int64_t first = 0, last = taps_count();
            while (first < last && r * step - before + taps[first].d < 0) ++first;
            while (last > first && r * step - before + taps[last - 1].d >= size) --last;
            if (first == last) first = last = 0;
            if (sorts.empty() || sorts.back().first != first || sorts.back().last != last)
                sorts.push_back({r, r, first, last});
            sorts.back().end = r + 1;
        }
    }
};

inline Axis forward_axis(const AxisWindow& w) {
    Axis axis{w.size, w.before, w.stride, output_size(w), {}, {}};
    for (int64_t k = 0; k < w.kernel; ++k) axis.taps.push_back({k * w.dilation, k});
    return axis;
}

// One phase of dx along one axis: its pixels phase, phase + stride, ... of `size`, from the outputs: the rows of dy.
inline Axis backward_axis(const AxisWindow& w, int64_t phase) {
    Axis axis{output_size(w), 0, 1, ceil_div(w.size - phase, w.stride), {}, {}};
    for (int64_t k = w.kernel - 1; k >= 0; --k)
        if ((phase + w.before - k * w.dilation) % w.stride == 0)
            axis.taps.push_back({(phase + w.before - k * w.dilation) / w.stride, k});
    if (!axis.taps.empty()) axis.before = std::max<int64_t>(-axis.taps.front().d, 0);
    for (Tap& t : axis.taps) t.d += axis.before;
    return axis;
}

}  // namespace pycnn
