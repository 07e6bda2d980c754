// How a problem of rows x columns is cut into units of work, which threads take in ranges.
//
// A unit may be a whole row. Where rows are few it is a cell, and a range of cells is at most three rectangles: what is
// left of a line, whole lines, the begin of another one. Lines are columns where each column has a large operand of its
// own (a panel of weights) and rows share theirs, else rows. The units depend on the shape alone, and no element of a
// result is added up in more than one of them, so the bits stay the same.
#pragma once
#include <algorithm>

#include "ops/runtime/parallel.h"
#include "ops/shapes.h"

namespace pycnn {

struct Cut {
    int64_t rows, columns;
    bool cells;      // else a unit is a row with all columns
    bool by_column;  // the order of cells

    int64_t units() const { return cells ? rows * columns : rows; }
    // The mean share of the threads over the largest one: 1 where all have the same number of units.
    double balance(int64_t threads) const {
        return static_cast<double>(units()) / static_cast<double>(threads * ceil_div(units(), threads));
    }
};

inline Cut cut_units(int64_t units) { return {units, 1, false, false}; }

// Direct convolution: rows of pixels, panels of output channels. From 32 rows on threads take rows with all channels,
// since fewer than a row's pixels leave register tiles empty.
inline Cut cut_direct(int64_t rows, int64_t panels) { return {rows, panels, rows < 32 && panels > 1, true}; }

// Winograd: tiles, panels of output channels. Each rectangle transforms the input of its tiles, so cells are left from 64
// tiles on, where the largest share of 16 threads is a quarter too long at most. Lines are columns where channels are
// many, so that threads share u and repeat transforms. The lecture's network, one image, whose second layer has 16 tiles
// and 64 channels: by rows 39.2 microseconds, by columns 40.4, AVX2 43.3 and 45.0; as 14 tiles and 2 52.5 (two threads, Zen 4).
inline Cut cut_winograd(int64_t tiles, int64_t panels, int64_t channels) {
    return {tiles, panels, tiles < 64 && panels > 1, 4 * tiles < channels};
}

// Depthwise: tiles of two rows, blocks of 64 channels. A cell reads nothing that another one does but a row or two.
inline Cut cut_depthwise(int64_t tiles, int64_t blocks) { return {tiles, blocks, tiles < 64 && blocks > 1, false}; }

// Calls body(row_begin, row_end, column_begin, column_end) for the rectangles of units [begin, end).
template <class Body>
void for_rectangles(const Cut& cut, int64_t begin, int64_t end, Body&& body) {
    if (!cut.cells) return body(begin, end, 0, cut.columns);
    const int64_t line = cut.by_column ? cut.rows : cut.columns;
    while (begin < end) {
        const int64_t first = begin / line, from = begin % line, left = end - begin;
        const int64_t lines = from == 0 && left >= line ? left / line : 1;
        const int64_t to = std::min(line, from + left);
        if (cut.by_column)
            body(from, to, first, first + lines);
        else
            body(first, first + lines, from, to);
        begin += (lines - 1) * line + to - from;
    }
}

// Threads take rectangles; `cost` is that of the whole problem, in units of which a region pays from `grain` on.
template <class Body>
void parallel_rectangles(const Cut& cut, int64_t grain, double cost, Body&& body) {
    const int64_t units = std::max<int64_t>(cut.units(), 1);
    parallel_for(cut.units(), grain_units(grain, cost / static_cast<double>(units)),
                 [&](int64_t begin, int64_t end) { for_rectangles(cut, begin, end, body); });
}

}  // namespace pycnn
