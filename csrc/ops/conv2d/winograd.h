// What the files of Winograd's convolution share: the cut into tiles, and the forward routine that the block uses too.
#pragma once
#include "kernels/kernels.h"
#include "ops/conv2d/conv2d.h"
#include "ops/runtime/scratch.h"

namespace pycnn::winograd {

// A map of OH x OW outputs in tiles of m x m; a tile reads T x T inputs, T = m + 2, from row tile * m - top on.
struct Tiles {
    int64_t m, N, rows, cols;
    bool cut_rows, cut_cols;  // the last ones lie outside the map in part

    Tiles(int64_t size, int64_t images, int64_t OH, int64_t OW)
        : m(size),
          N(images),
          rows(ceil_div(OH, size)),
          cols(ceil_div(OW, size)),
          cut_rows(OH % size != 0),
          cut_cols(OW % size != 0) {}
    int64_t count() const { return N * rows * cols; }
    int64_t elements() const { return (m + 2) * (m + 2); }
};

// Where a tile lies; `later` is the one whose pixels are fetched meanwhile, itself at the end.
struct Place {
    int64_t n, row, col;
};
inline Place place_of(const Tiles& t, int64_t tile) {
    return {tile / (t.rows * t.cols), tile / t.cols % t.rows, tile % t.cols};
}
inline Place later(const Tiles& t, Place p) {
    constexpr int64_t kTiles = 3;
    if (p.col + kTiles < t.cols) return {p.n, p.row, p.col + kTiles};
    const int64_t col = std::min(p.col + kTiles - t.cols, t.cols - 1);
    if (p.row + 1 < t.rows) return {p.n, p.row + 1, col};
    return p.n + 1 < t.N ? Place{p.n + 1, 0, col} : p;
}

struct Range {
    int64_t begin, end;
    int64_t count() const { return end - begin; }
};

// The order in which some tiles lie in v, z and m.
//
// Only the last output row of a tile takes the products of the elements (T - 1, j): the last column of A^T is 0 0 0 1. So
// a tile that the map's last row cuts does without them, one that its last column cuts without (i, T - 1): 7 x 7 is 121
// products a channel instead of 144, 14 x 14 529 instead of 576. In this order the tiles of each element are neighbours:
//
//   cut by the last column | by none | by the last row | by both
class Order {
  public:
    Order(Scratch&, const Tiles&, int64_t first, int64_t count);

    int64_t slot(int64_t tile) const { return slot_[tile]; }  // of the tile `tile` after the first one
    Range slots(int64_t element) const;                       // of the tiles that need it

  private:
    int64_t* slot_;
    int64_t T_, ends_[4] = {};
};

struct Inside {  // the part of a tile, from `first` on, that lies in 0 .. size
    int64_t begin, end;
};
inline Inside inside(int64_t first, int64_t extent, int64_t size) {
    const int64_t begin = std::min(std::max<int64_t>(-first, 0), extent);
    return {begin, std::max(std::min(size - first, extent), begin)};
}

struct Map {              // a tile reads T x T pixels, from row tile * m - top on
    const float* pixels;  // [N][H][W][C]
    int64_t H, W, C, top, left;
};

// All channels of a tile of extent^2 pixels, where they lie; without v.
WinogradInput in_place(const Map&, const Tiles&, int64_t tile, int64_t extent);

// Some channels of the pixels of a row of tiles, beside each other, with zeros around the image: in a wide map a tile of
// few channels meets in few sets of L1 and waits for each line (14x14x512 in 32 groups, 16 images, forward, two threads,
// Zen 4: 1901 to 2268 in place, 1558 microseconds from a band).
class Band {
  public:
    struct Part {
        const Tiles& tiles;
        const Map& map;
        int64_t first, channels;
        int64_t extent;  // tiles of extent^2 pixels
    };
    Band(Scratch&, const Part&);

    WinogradInput input(int64_t tile);  // without v

  private:
    void copy(int64_t row);

    const Tiles& tiles_;
    Map map_;
    int64_t first_, C_, rows_, width_, row_ = -1;
    float* pixels_;
};

struct Correlation {  // 3 x 3, stride 1: forward, or backward with the flipped weight
    const float* in;  // [N][H][W][C]
    float* out;       // [N][OH][OW][OC], or pooled [N][PH][PW][OC]
    uint8_t* where;   // beside a pooled out, or null
    int64_t N, H, W, C, OH, OW, OC, groups;
    int64_t top, left;  // may be negative
    int64_t PH, PW;     // 0: no pool
    Epilogue epilogue;
    int64_t group_C() const { return C / groups; }
    int64_t group_OC() const { return OC / groups; }
};

// The weight: transformed, u [T T][panels][C][NR] = G g G^T, or, where u is null, as taps. C: channels of a group, each
// column has those of its own one.
struct Filter {
    const float* u;
    const float* taps;  // tap t, channel c, output channel oc: taps[oc / NR * panel + t * tap + c * row + oc % NR]
    int64_t panel, tap, row;
};

// winograd_tiles.cpp
int64_t filter_size(int64_t C, int64_t OC, int64_t m);  // floats of u; C as above
struct FilterShape {
    int64_t C, OC, m;
};
void transform_filter(float* u, const Filter& taps, const FilterShape&);
void run(const Correlation&, int64_t m, const Filter&);
Cut forward_cut(const Tiles&, int64_t C, int64_t OC, int64_t groups);  // over threads, of its longest step

// winograd_weight.cpp
struct BackwardWeight {
    float* dweight;
    const float *x, *dy;
    const Conv2dShape& shape;
    int64_t m;
};
void backward_weight(const BackwardWeight&);
// Units of work of the products of backward_weight, of `elements` matrices.
int64_t weight_units(const Conv2dShape&, int64_t elements);

}  // namespace pycnn::winograd
