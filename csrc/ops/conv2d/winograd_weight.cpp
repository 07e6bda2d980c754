// Winograd's convolution, gradient of the weight: the adjoint of the forward direction.
//
//   for each chunk of tiles:
//     v  [T T][C / 16][tiles][16] = B^T x B,  z [T T][OC / 16][tiles][16] = A dy A^T     threads own tiles
//     du [blocks][T T][rows][columns] = v[e]^T z[e]        a block is some input channels x some output channels
//     dweight (+)= G^T du G                                block by block
//
// A block is small enough for L2, so a wide du, four times as large as dweight, never sees memory: a thread owns all
// elements of a block and takes it on to dweight at once. Where blocks are few, threads own single elements of
// them first, and du, small then, is shared. Of a grouped convolution a thread owns groups, transforms included.
//
// Tiles are added in order and chunks too, so the bits depend neither on threads nor on the size of a block.

#include <algorithm>
#include <cstring>

#include "ops/conv2d/winograd.h"
#include "ops/runtime/dispatch.h"
#include "ops/runtime/parallel.h"
#include "ops/runtime/scratch.h"

namespace pycnn::winograd {
namespace {

// How dweight is cut: into blocks of `side` input channels and `side` output channels. 64: du of a block is 590 KB, beside
// the v and z of one element; 14x14x512->512, 16 images, 32: 31.9 instead of 30.0 ms. Whole from 16 blocks on: 14x14x512
// 30.0, element by element 34.9 ms, one image 3.6 and 9.9 (Zen 4, two threads); at 256 x 256 both take the same.
struct Blocks {
    int64_t C, OC, elements, side, down, across;  // channels of a group
    bool whole;                                   // a thread owns all elements of a block

    Blocks(const Conv2dShape& s, int64_t E) : C(s.group_C()), OC(s.group_OC()), elements(E), side(64) {
        constexpr int64_t kLeast = 16;
        whole = ceil_div(C, side) * ceil_div(OC, side) >= kLeast;
        if (!whole) side = 32;
        if (s.groups > 1) side = std::max(C, OC);  // a group is a block
        down = ceil_div(C, side), across = ceil_div(OC, side);
    }
    int64_t count() const { return down * across; }
    int64_t units() const { return whole ? count() : elements * count(); }
    int64_t element() const { return side * side + 16; }  // floats between elements, no multiple of 4 KB
    int64_t size() const { return elements * element(); }
    int64_t row(int64_t block) const { return block / across * side; }
    int64_t column(int64_t block) const { return block % across * side; }
    int64_t rows(int64_t block) const { return std::min(side, C - row(block)); }
    int64_t columns(int64_t block) const { return std::min(side, OC - column(block)); }
};

struct Problem {
    Map x, dy;
    float* dweight;
    const Conv2dShape& s;
    Tiles tiles;
    Blocks blocks;
    int64_t most, v_element, z_element;  // tiles of a chunk; distances between the elements e, no multiple of 4 KB
    float *v, *z;
};

// v and z of a tile.
void transform(const Problem& p, int64_t slot, WinogradInput in, WinogradInput out) {
    in.v = p.v + slot * 16, in.v_element = p.v_element, in.v_chunk = p.most * 16;
    out.v = p.z + slot * 16, out.v_element = p.z_element, out.v_chunk = p.most * 16;
    kernels().winograd_input(in, p.tiles.m);
    kernels().winograd_gradient(out, p.tiles.m);
}

int64_t round_up_16(int64_t n) { return ceil_div(n, 16) * 16; }

// du[e] of a block, over the tiles of a chunk.
void multiply(const Problem& p, float* du, int64_t block, int64_t e, const Order& order) {
    const Blocks& b = p.blocks;
    const Range slots = order.slots(e);
    kernels().winograd_gradient_product({.du = du + e * b.element(),
                                         .pitch = b.side,
                                         .v = p.v + e * p.v_element + b.row(block) * p.most + slots.begin * 16,
                                         .z = p.z + e * p.z_element + b.column(block) * p.most + slots.begin * 16,
                                         .chunk = p.most * 16,
                                         .tiles = slots.count(),
                                         .rows = round_up_16(b.rows(block)),
                                         .columns = round_up_16(b.columns(block))});
}

// The block of dweight from its du.
void finish(const Problem& p, const float* du, int64_t block, bool accumulate) {
    const Blocks& b = p.blocks;
    for (int64_t c = 0; c < b.rows(block); ++c)
        kernels().winograd_filter_gradient({.dw = p.dweight + (b.row(block) + c) * p.s.OC + b.column(block),
                                            .tap = b.C * p.s.OC,
                                            .du = du + c * b.side,
                                            .element = b.element(),
                                            .size = b.columns(block),
                                            .add = accumulate},
                                           p.tiles.m);
}

void add_whole_blocks(const Problem& p, const Order& order, bool accumulate, double flop) {
    const int64_t blocks = p.blocks.count();
    parallel_for(blocks, grain_units(kGrainFlop, flop / static_cast<double>(blocks)), [&](int64_t begin, int64_t end) {
        Scratch scratch;
        float* du = scratch.floats(p.blocks.size());
        for (int64_t block = begin; block < end; ++block) {
            for (int64_t e = 0; e < p.blocks.elements; ++e) multiply(p, du, block, e, order);
            finish(p, du, block, accumulate);
        }
    });
}

void add_single_elements(const Problem& p, const Order& order, bool accumulate, double flop) {
    const int64_t blocks = p.blocks.count(), units = p.blocks.units(), size = p.blocks.size();
    Scratch scratch;
    float* du = scratch.floats(blocks * size);
    parallel_for(units, grain_units(kGrainFlop, flop / static_cast<double>(units)), [&](int64_t begin, int64_t end) {
        for (int64_t unit = begin; unit < end; ++unit)
            multiply(p, du + unit % blocks * size, unit % blocks, unit / blocks, order);
    });
    parallel_for(blocks, grain_units(kGrainBytes, 4.0 * size), [&](int64_t begin, int64_t end) {
        for (int64_t block = begin; block < end; ++block) finish(p, du + block * size, block, accumulate);
    });
}

// Tiles of a chunk, where one has `floats` numbers in v and z: 2 MB of them, or 64 tiles, so that dweight, which is added
// to once a chunk, and G^T du G weigh little (28x28x256->256, 16 images, 64 and 128 tiles: 23.1 and 24.8 ms); 19 MB at most.
int64_t most_tiles(int64_t floats) {
    constexpr int64_t kFloats = 524288, kTiles = 64, kMost = 4800000;
    return std::max<int64_t>({kFloats / floats, std::min(kTiles, kMost / floats), 16});
}

constexpr int64_t kChannels = 64, kTilesOfGroups = 32;

// Groups share nothing, so a thread takes some of them through all tiles, and v and z stay in its L2.
void by_groups(const Problem& p) {
    const Conv2dShape& s = p.s;
    const int64_t E = p.blocks.elements, C = p.blocks.C, OC = p.blocks.OC, most = std::max<int64_t>(kChannels / C, 1);
    const double flop = 2.0 * E * p.tiles.count() * C * OC;
    parallel_for(s.groups, grain_units(kGrainFlop, flop), [&](int64_t begin, int64_t end) {
        Scratch scratch;
        Problem all = p;
        all.v_element = p.most * most * C + 16, all.z_element = p.most * most * OC + 16;
        all.v = scratch.floats(E * all.v_element), all.z = scratch.floats(E * all.z_element);
        float* du = scratch.floats(p.blocks.size());
        for (int64_t g = begin, last; g < end; g = last) {
            last = std::min(g + most, end);
            Scratch pixels;
            Band in(
                pixels,
                {.tiles = p.tiles, .map = p.x, .first = g * C, .channels = (last - g) * C, .extent = p.tiles.m + 2});
            Band out(
                pixels,
                {.tiles = p.tiles, .map = p.dy, .first = g * OC, .channels = (last - g) * OC, .extent = p.tiles.m});
            for (int64_t first = 0; first < p.tiles.count(); first += p.most) {
                const int64_t count = std::min(p.most, p.tiles.count() - first);
                Scratch list;
                const Order order(list, p.tiles, first, count);
                for (int64_t t = 0; t < count; ++t)
                    transform(all, order.slot(t), in.input(first + t), out.input(first + t));
                for (int64_t i = g; i < last; ++i) {
                    Problem one = all;
                    one.v += (i - g) * C * p.most, one.z += (i - g) * OC * p.most, one.dweight += i * OC;
                    for (int64_t e = 0; e < E; ++e) multiply(one, du, 0, e, order);
                    finish(one, du, 0, first > 0);
                }
            }
        }
    });
}

// All threads on a chunk of tiles after the other.
void by_chunks(Problem p) {
    const Conv2dShape& s = p.s;
    const Tiles& tiles = p.tiles;
    const int64_t m = tiles.m;
    const int64_t E = p.blocks.elements, C16 = round_up_16(s.C), OC16 = round_up_16(s.OC);
    const int64_t chunks = ceil_div(tiles.count(), p.most);
    p.v_element = p.most * C16 + 16, p.z_element = p.most * OC16 + 16;
    Scratch scratch;
    p.v = scratch.floats(E * p.v_element);
    p.z = scratch.floats(E * p.z_element);
    // The grains count all chunks: their regions follow each other while the threads still spin, so only the first one
    // wakes them.
    const double flop = 2.0 * E * tiles.count() * s.C * s.OC;
    for (int64_t first = 0; first < tiles.count(); first += p.most) {
        const int64_t count = std::min(p.most, tiles.count() - first);
        Scratch list;
        const Order order(list, tiles, first, count);
        parallel_for(count, grain_units(kGrainBytes, 4.0 * E * (C16 + OC16) * static_cast<double>(chunks)),
                     [&](int64_t begin, int64_t end) {
                         for (int64_t t = begin; t < end; ++t)
                             transform(p, order.slot(t), in_place(p.x, tiles, first + t, m + 2),
                                       in_place(p.dy, tiles, first + t, m));
                     });
        p.blocks.whole ? add_whole_blocks(p, order, first > 0, flop) : add_single_elements(p, order, first > 0, flop);
    }
}

}  // namespace

int64_t weight_units(const Conv2dShape& s, int64_t elements) {
    return s.groups > 1 ? s.groups : Blocks(s, elements).units();
}

void backward_weight(const BackwardWeight& a) {
    const Conv2dShape& s = a.shape;
    const Tiles tiles(a.m, s.N, s.OH(), s.OW());
    const int64_t E = tiles.elements();
    if (tiles.count() == 0) {
        std::memset(a.dweight, 0, sizeof(float) * 9 * s.group_C() * s.OC);
        return;
    }
    const bool groups = s.groups > 1;
    const int64_t most = groups ? kTilesOfGroups : most_tiles(E * (round_up_16(s.C) + round_up_16(s.OC)));
    const int64_t chunks = ceil_div(tiles.count(), most);
    const Problem p{{a.x, s.H, s.W, s.C, s.pad.top, s.pad.left},
                    {a.dy, s.OH(), s.OW(), s.OC, 0, 0},
                    a.dweight,
                    s,
                    tiles,
                    {s, E},
                    ceil_div(tiles.count(), chunks),
                    0,
                    0,
                    nullptr,
                    nullptr};
    groups ? by_groups(p) : by_chunks(p);
}

}  // namespace pycnn::winograd
