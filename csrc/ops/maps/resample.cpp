// Resampling by tables of taps: threads take rows of the result. float64 through a plain loop, the sums in the same order.

#include "ops/maps/resample.h"

#include <algorithm>
#include <type_traits>

#include "ops/runtime/caches.h"
#include "ops/runtime/dispatch.h"
#include "ops/runtime/parallel.h"

namespace pycnn {
namespace {

std::vector<int64_t> times(const std::vector<int64_t>& index, int64_t step) {
    std::vector<int64_t> result;
    for (const int64_t i : index) result.push_back(i * step);
    return result;
}

// The taps of an output's row: [begin, end) of the table, and its pixels.
void plain_row(double* y, const double* x, const Resampling<double>& s, std::size_t row) {
    const Taps &rows = *s.rows, &columns = *s.columns;
    const auto at = [](int64_t i) { return static_cast<std::size_t>(i); };
    for (std::size_t j = 0; j + 1 < columns.first.size(); ++j)
        for (int64_t c = 0; c < s.C; ++c) {
            double sum = -0.0;  // which changes no bits of what is added
            for (int64_t r = rows.first[row]; r < rows.first[row + 1]; ++r)
                for (int64_t t = columns.first[j]; t < columns.first[j + 1]; ++t)
                    sum += rows.weight[at(r)] * columns.weight[at(t)] *
                           x[(rows.index[at(r)] * s.W + columns.index[at(t)]) * s.C + c];
            const bool none = rows.first[row] == rows.first[row + 1] || columns.first[j] == columns.first[j + 1];
            y[static_cast<int64_t>(j) * s.C + c] = none ? s.outside : sum;
        }
}

}  // namespace

template <class T>
void resample(const Resampling<T>& s) {
    const int64_t OH = s.rows->outputs(), OW = s.columns->outputs(), width = OW * s.C;
    const std::vector<int64_t> row = times(s.rows->index, s.W * s.C), column = times(s.columns->index, s.C);
    const std::vector<float> row_weight(s.rows->weight.begin(), s.rows->weight.end());
    const std::vector<float> weight(s.columns->weight.begin(), s.columns->weight.end());
    // A tap is a number that is read; so is each result written.
    const int64_t taps = s.rows->first.back() * s.columns->first.back() / std::max<int64_t>(OH * OW, 1) + 1;
    const double bytes = static_cast<double>(sizeof(T)) * static_cast<double>(width * (1 + taps));
    parallel_for(s.N * OH, grain_units(kGrainBytes, bytes), [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
            const std::size_t h = static_cast<std::size_t>(i % OH);
            const T* image = s.x + i / OH * s.H * s.W * s.C;
            if constexpr (std::is_same_v<T, float>) {
                const int64_t first = s.rows->first[h];
                kernels().resample_row({.y = s.y + i * width,
                                        .x = image,
                                        .C = s.C,
                                        .columns = OW,
                                        .rows = s.rows->first[h + 1] - first,
                                        .row = row.data() + first,
                                        .first = s.columns->first.data(),
                                        .column = column.data(),
                                        .row_weight = row_weight.data() + first,
                                        .weight = weight.data(),
                                        .outside = static_cast<float>(s.outside),
                                        .stream = streams(s.y, s.N * OH * width, s.C)});
            } else {
                plain_row(s.y + i * width, image, s, h);
            }
        }
    });
}

template void resample(const Resampling<float>&);
template void resample(const Resampling<double>&);

}  // namespace pycnn
