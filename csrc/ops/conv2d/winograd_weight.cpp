// Winograd's convolution, gradient of the weight: the adjoint of the forward direction.
//
//   for each block of tiles:
//     v [T T][tiles][C] = B^T x B,  z [T T][tiles][OC] = A dy A^T      threads own tiles
//     du[T T][C][OC] += v[e]^T z[e]                                    threads own (e, panel, channels): nothing is reduced
//   dweight = G^T du G
//
// Tiles are added in order, so the bits depend neither on threads nor on the size of a block.

#include <algorithm>
#include <cstring>
#include <vector>

#include "ops/conv2d/winograd.h"
#include "ops/runtime/dispatch.h"
#include "ops/runtime/parallel.h"
#include "ops/runtime/scratch.h"

namespace pycnn::winograd {
namespace {

struct Problem {
    const float *x, *dy;
    const Conv2dShape& s;
    Tiles tiles;
    int64_t C16, OC16;                    // rounded up to whole vectors
    int64_t block, v_element, z_element;  // tiles a block; distances between the elements e, no multiple of 4 KB
    float *v, *z, *du;
};

void transform(const Problem& p, int64_t tile, int64_t slot) {
    const Conv2dShape& s = p.s;
    const int64_t n = tile / (p.tiles.rows * p.tiles.cols), m = p.tiles.m;
    const int64_t oh = tile / p.tiles.cols % p.tiles.rows * m, ow = tile % p.tiles.cols * m;
    const int64_t h = oh - s.pad.top, w = ow - s.pad.left;
    const Inside rows = inside(h, m + 2, s.H), cols = inside(w, m + 2, s.W);
    kernels().winograd_input({p.v + slot * p.C16, p.v_element, 16, p.x + ((n * s.H + h) * s.W + w) * s.C, s.W * s.C,
                              s.C, rows.begin, rows.end, cols.begin, cols.end},
                             m);
    kernels().winograd_gradient({p.z + slot * p.OC16, p.z_element, 16, p.dy + ((n * s.OH() + oh) * s.OW() + ow) * s.OC,
                                 s.OW() * s.OC, s.OC, 0, std::min(m, s.OH() - oh), 0, std::min(m, s.OW() - ow)},
                                m);
}

// How many parts the input channels of a product are cut into: for 128 units in all, where there are tiles for them.
int64_t parts_of(const Conv2dShape& s, int64_t elements) {
    constexpr int64_t kUnits = 128;
    const int64_t units = elements * ceil_div(s.OC, kernels().NR);
    return std::clamp<int64_t>(ceil_div(kUnits, units), 1, ceil_div(s.C, kernels().MR));
}

// du[e][some channels, panel] += v[e]^T z[e], over the `count` tiles of a block.
void multiply(const Problem& p, int64_t unit, int64_t panels, int64_t parts, int64_t count, bool accumulate,
              const std::vector<int64_t>& offset) {
    const int64_t e = unit / parts / panels, jr = unit / parts % panels * kernels().NR, part = unit % parts;
    const int64_t C = p.s.C, OC = p.s.OC, MR = kernels().MR, tiles = ceil_div(C, MR);
    const int64_t first = tiles * part / parts * MR, last = std::min(tiles * (part + 1) / parts * MR, C);
    const int64_t rows = last - first;
    std::vector<const float*> a(rows);
    std::vector<float*> c(rows);
    for (int64_t i = 0; i < rows; ++i) {
        a[i] = p.v + e * p.v_element + first + i;
        c[i] = p.du + (e * C + first + i) * OC + jr;
    }
    const Steps all{0, count};
    kernels().indirect_block({c.data(), a.data(), rows, std::min(kernels().NR, OC - jr), offset.data(),
                              p.z + e * p.z_element + jr, p.OC16, &all, 1, nullptr, false, accumulate});
}

}  // namespace

int64_t weight_units(const Conv2dShape& s, int64_t elements) {
    return elements * ceil_div(s.OC, kernels().NR) * parts_of(s, elements);
}

void backward_weight(float* dweight, const float* x, const float* dy, const Conv2dShape& s, int64_t m) {
    const Tiles tiles(m, s.N, s.OH(), s.OW());
    const int64_t E = tiles.elements(), size = s.C * s.OC, panels = ceil_div(s.OC, kernels().NR);
    if (tiles.count() == 0) {
        std::memset(dweight, 0, sizeof(float) * 9 * size);
        return;
    }
    Problem p{x, dy, s, tiles, ceil_div(s.C, 16) * 16, ceil_div(s.OC, 16) * 16, 0, 0, 0, nullptr, nullptr, nullptr};
    constexpr int64_t kFloats = 524288;  // 2 MB of v and z: the L2 of a few cores, or L3
    p.block = std::min(std::max<int64_t>(kFloats / (E * (p.C16 + p.OC16)), 16), tiles.count());
    p.v_element = p.block * p.C16 + 16, p.z_element = p.block * p.OC16 + 16;
    Scratch scratch;
    p.v = scratch.floats(E * p.v_element);
    p.z = scratch.floats(E * p.z_element);
    p.du = scratch.floats(E * size);
    std::vector<int64_t> offset(p.block);
    for (int64_t k = 0; k < p.block; ++k) offset[k] = k * p.C16;
    // The grains count all blocks: their regions follow each other while the threads still spin, so only the first one
    // wakes them.
    const int64_t parts = parts_of(s, E), units = weight_units(s, E);
    const double blocks = static_cast<double>(ceil_div(tiles.count(), p.block));
    for (int64_t first = 0; first < tiles.count(); first += p.block) {
        const int64_t count = std::min(p.block, tiles.count() - first);
        parallel_for(count, grain_units(kGrainBytes, 4.0 * E * (p.C16 + p.OC16) * blocks),
                     [&](int64_t begin, int64_t end) {
                         for (int64_t t = begin; t < end; ++t) transform(p, first + t, t);
                     });
        const double flop = 2.0 * E * tiles.count() * size;
        parallel_for(units, grain_units(kGrainFlop, flop / static_cast<double>(units)),
                     [&](int64_t begin, int64_t end) {
                         for (int64_t unit = begin; unit < end; ++unit)
                             multiply(p, unit, panels, parts, count, first > 0, offset);
                     });
    }
    constexpr int64_t kChunk = 256;  // elements of C x OC
    parallel_for(ceil_div(size, kChunk), grain_units(kGrainBytes, 4.0 * kChunk * (E + 9)),
                 [&](int64_t begin, int64_t end) {
                     const int64_t at = begin * kChunk, last = std::min(end * kChunk, size);
                     kernels().winograd_filter_gradient(dweight + at, size, p.du + at, size, last - at, tiles.m);
                 });
}

}  // namespace pycnn::winograd
