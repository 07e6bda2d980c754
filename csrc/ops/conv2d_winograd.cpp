// Winograd's convolution, forward and gradient of the input: both are correlations with a 3 x 3 weight.
//
//   filter     u [T T][panels][C][NR]              once a call
//   for each block of tiles, so that v and m stay in L2:
//     input    v [T T][tiles / MR][C / 16][MR][16]
//     product  m [T T][panels][tiles][NR]          T T matrix products
//     output   y, or the pooled y and its argmax
//
// Threads own ranges of tiles; a tile is computed by itself, so its bits depend neither on them nor on the batch.

#include "conv2d_winograd.h"

#include <atomic>

#include "conv2d_pack.h"
#include "dispatch.h"
#include "parallel.h"
#include "workspace.h"

namespace pycnn {

static std::atomic<bool> exact{false};

void set_exact(bool on) { exact = on; }
bool is_exact() { return exact; }

namespace winograd {

bool fits(const Conv2dShape& s) {
    return s.KH == 3 && s.KW == 3 && s.stride_h == 1 && s.stride_w == 1 && s.dilation_h == 1 && s.dilation_w == 1 &&
           s.groups == 1;
}

int64_t tile_size(int64_t OH, int64_t OW) {
    const int64_t small = 16 * ceil_div(OH, 2) * ceil_div(OW, 2), large = 36 * ceil_div(OH, 4) * ceil_div(OW, 4);
    return !is_exact() && large < small ? 4 : 2;
}

namespace {

int64_t round_up(int64_t n, int64_t to) { return ceil_div(n, to) * to; }

// Distances between the elements e: never a multiple of 4 KB, or all T T streams would meet in one set of L1.
struct Layout {
    int64_t v_group, v_element, m_panel, m_element, u_element;

    Layout(const Correlation& s, int64_t block) {
        const int64_t MR = kernels().MR, NR = kernels().NR, panels = ceil_div(s.OC, NR);
        v_group = MR * round_up(s.C, 16);
        v_element = block / MR * v_group + 16;
        m_panel = block * NR;
        m_element = panels * m_panel + 16;
        u_element = panels * s.C * NR;
    }
};

const float* transform_filter(const Correlation& s, const Tiles& tiles) {
    const int64_t NR = kernels().NR, panels = ceil_div(s.OC, NR), panel = s.C * NR, element = panels * panel;
    float* u = scratch(Scratch::winograd_u, tiles.elements() * element);
    constexpr int64_t kRows = 16;  // channels a unit
    const int64_t parts = ceil_div(s.C, kRows);
    parallel_for(panels * parts, grain_units(kGrainBytes, 4.0 * kRows * NR * (9 + tiles.elements())),
                 [&](int64_t begin, int64_t end) {
                     for (int64_t unit = begin; unit < end; ++unit) {
                         const int64_t p = unit / parts, c = unit % parts * kRows, rows = std::min(kRows, s.C - c);
                         kernels().winograd_filter(u + p * panel + c * NR, element, s.taps + p * 9 * panel + c * NR,
                                                   panel, rows * NR, tiles.m);
                     }
                 });
    return u;
}

void transform_input(float* v, const Layout& at, const Correlation& s, const Tiles& tiles, int64_t tile) {
    const int64_t n = tile / (tiles.rows * tiles.cols), th = tile / tiles.cols % tiles.rows, tw = tile % tiles.cols;
    const int64_t h = th * tiles.m - s.top, w = tw * tiles.m - s.left, T = tiles.m + 2;
    const Inside rows = inside(h, T, s.H), cols = inside(w, T, s.W);
    kernels().winograd_input({v, at.v_element, kernels().MR * 16, s.in + ((n * s.H + h) * s.W + w) * s.C, s.W * s.C,
                              s.C, rows.begin, rows.end, cols.begin, cols.end},
                             tiles.m);
}

void transform_output(const float* m, const Layout& at, const Correlation& s, const Tiles& tiles, int64_t tile) {
    const int64_t n = tile / (tiles.rows * tiles.cols), th = tile / tiles.cols % tiles.rows, tw = tile % tiles.cols;
    const int64_t h = th * tiles.m, w = tw * tiles.m, half = tiles.m / 2;
    const int64_t rows = std::min(tiles.m, s.OH - h), cols = std::min(tiles.m, s.OW - w);
    const int64_t pool_rows = std::min(half, s.PH - h / 2), pool_cols = std::min(half, s.PW - w / 2);
    const bool pool = s.PH > 0;
    if (pool && (pool_rows <= 0 || pool_cols <= 0)) return;  // the odd last row of a VALID pool
    const int64_t to = pool ? ((n * s.PH + h / 2) * s.PW + w / 2) * s.OC : ((n * s.OH + h) * s.OW + w) * s.OC;
    kernels().winograd_output(
        {m, at.m_element, at.m_panel, s.out + to, s.where ? s.where + to : nullptr, (pool ? s.PW : s.OW) * s.OC, s.OC,
         rows, cols, pool ? pool_rows : 0, pool ? pool_cols : 0, s.epilogue.bias, s.epilogue.relu},
        tiles.m);
}

// Tiles that are computed together: v and m, about 384 KB of them, stay in L2 between their three uses.
int64_t block_size(const Correlation& s, const Tiles& tiles) {
    constexpr int64_t kFloats = 98304;
    const int64_t MR = kernels().MR, tile = tiles.elements() * (round_up(s.C, 16) + round_up(s.OC, kernels().NR));
    return std::max<int64_t>(kFloats / tile / MR, 1) * MR;
}

}  // namespace

void run(const Correlation& s, int64_t m) {
    const Tiles tiles(m, s.N, s.OH, s.OW);
    if (tiles.count() == 0) return;
    const int64_t MR = kernels().MR, NR = kernels().NR, block = block_size(s, tiles), E = tiles.elements();
    const Layout at(s, block);
    const float* u = transform_filter(s, tiles);
    const double flop = 2.0 * MR * E * s.C * s.OC;
    parallel_for(ceil_div(tiles.count(), MR), grain_units(kGrainFlop, flop), [&](int64_t begin, int64_t end) {
        float* v = scratch(Scratch::winograd_v, E * at.v_element);
        float* product = scratch(Scratch::winograd_m, E * at.m_element);
        const int64_t last = std::min(end * MR, tiles.count());
        for (int64_t first = begin * MR; first < last; first += block) {
            const int64_t count = std::min(block, last - first);
            for (int64_t t = 0; t < count; ++t)
                transform_input(v + t / MR * at.v_group + t % MR * 16, at, s, tiles, first + t);
            for (int64_t e = 0; e < E; ++e)
                kernels().winograd_product(product + e * at.m_element, at.m_panel, v + e * at.v_element,
                                           u + e * at.u_element, count, s.C, s.OC);
            for (int64_t t = 0; t < count; ++t) transform_output(product + t * NR, at, s, tiles, first + t);
        }
    });
}

void forward(float* y, const float* x, const float* weight, const Conv2dShape& s, const Epilogue& epilogue) {
    run({x, pack_forward(weight, s), y, nullptr, s.N, s.H, s.W, s.C, s.OH(), s.OW(), s.OC, s.pad.top, s.pad.left, 0, 0,
         epilogue},
        tile_size(s.OH(), s.OW()));
}

void backward_input(float* dx, const float* dy, const float* weight, const Conv2dShape& s) {
    run({dy,
         pack_backward(weight, s, {2, 1, 0}, {2, 1, 0}),
         dx,
         nullptr,
         s.N,
         s.OH(),
         s.OW(),
         s.OC,
         s.H,
         s.W,
         s.C,
         2 - s.pad.top,
         2 - s.pad.left,
         0,
         0,
         {}},
        tile_size(s.H, s.W));
}

}  // namespace winograd
}  // namespace pycnn
