// The pixels of a tile: where they lie, or those of a row of tiles beside each other.

#include <cstring>

#include "ops/conv2d/winograd.h"

namespace pycnn::winograd {

WinogradInput in_place(const Map& map, const Tiles& tiles, int64_t tile, int64_t extent) {
    const Place at = place_of(tiles, tile), next = later(tiles, at);
    const int64_t h = at.row * tiles.m - map.top, w = at.col * tiles.m - map.left;
    const auto pixel = [&](const Place& p) {
        return map.pixels + ((p.n * map.H + p.row * tiles.m - map.top) * map.W + p.col * tiles.m - map.left) * map.C;
    };
    const Inside rows = inside(h, extent, map.H), cols = inside(w, extent, map.W);
    return {.v = nullptr,
            .v_element = 0,
            .v_chunk = 0,
            .d = pixel(at),
            .row = map.W * map.C,
            .pixel = map.C,
            .C = map.C,
            .row_begin = rows.begin,
            .row_end = rows.end,
            .col_begin = cols.begin,
            .col_end = cols.end,
            .next = pixel(next)};
}

Band::Band(Scratch& scratch, const Part& part)
    : tiles_(part.tiles),
      map_(part.map),
      first_(part.first),
      C_(part.channels),
      rows_(part.extent),
      width_((tiles_.cols - 1) * tiles_.m + rows_),
      pixels_(scratch.floats(rows_ * width_ * C_)) {}

void Band::copy(int64_t row) {
    const int64_t n = row / tiles_.rows, h = row % tiles_.rows * tiles_.m - map_.top;
    const Inside rows = inside(h, rows_, map_.H), cols = inside(-map_.left, width_, map_.W);
    for (int64_t i = 0; i < rows_; ++i) {
        const bool in = i >= rows.begin && i < rows.end;
        const int64_t begin = in ? cols.begin : width_, end = in ? cols.end : width_;
        float* to = pixels_ + i * width_ * C_;
        std::memset(to, 0, sizeof(float) * begin * C_);
        std::memset(to + end * C_, 0, sizeof(float) * (width_ - end) * C_);
        const float* from = map_.pixels + ((n * map_.H + h + i) * map_.W - map_.left) * map_.C + first_;
        for (int64_t j = begin; j < end; ++j) std::memcpy(to + j * C_, from + j * map_.C, sizeof(float) * C_);
    }
}

WinogradInput Band::input(int64_t tile) {
    const int64_t row = tile / tiles_.cols;
    if (row != row_) copy(row);
    row_ = row;
    const float* d = pixels_ + tile % tiles_.cols * tiles_.m * C_;
    return {.v = nullptr,
            .v_element = 0,
            .v_chunk = 0,
            .d = d,
            .row = width_ * C_,
            .pixel = C_,
            .C = C_,
            .row_begin = 0,
            .row_end = rows_,
            .col_begin = 0,
            .col_end = rows_,
            .next = d};
}

}  // namespace pycnn::winograd
