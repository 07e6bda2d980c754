// The order of tiles in which those that need an element are neighbours.

#include "ops/conv2d/winograd.h"

namespace pycnn::winograd {
namespace {

// Calls body(tile, kind): 0 is cut by the last column, 1 by none, 2 by the last row, 3 by both.
template <class Body>
void for_kinds(const Tiles& tiles, int64_t first, int64_t count, Body&& body) {
    int64_t th = first / tiles.cols % tiles.rows, tw = first % tiles.cols;
    for (int64_t t = first; t < first + count; ++t) {
        const bool row = tiles.cut_rows && th == tiles.rows - 1, col = tiles.cut_cols && tw == tiles.cols - 1;
        body(t, row ? 2 + col : 1 - col);
        if (++tw < tiles.cols) continue;
        tw = 0;
        if (++th == tiles.rows) th = 0;
    }
}

}  // namespace

Order::Order(Scratch& scratch, const Tiles& tiles, int64_t first, int64_t count)
    : slot_(scratch.array<int64_t>(count)), T_(tiles.m + 2) {
    int64_t at[4] = {};
    for_kinds(tiles, first, count, [&](int64_t, int kind) { ++ends_[kind]; });
    for (int kind = 1; kind < 4; ++kind) at[kind] = ends_[kind - 1], ends_[kind] += ends_[kind - 1];
    for_kinds(tiles, first, count, [&](int64_t tile, int kind) { slot_[tile - first] = at[kind]++; });
}

Range Order::slots(int64_t element) const {
    const bool last_row = element / T_ == T_ - 1, last_col = element % T_ == T_ - 1;
    return {last_col ? ends_[0] : 0, last_row ? ends_[1] : last_col ? ends_[2] : ends_[3]};
}

}  // namespace pycnn::winograd
