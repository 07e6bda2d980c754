// Winograd's convolution, forward and gradient of the input: both are correlations with a 3 x 3 weight.
//
//   filter     u [T T][panels][C][NR]              once a call
//   for each block of tiles, so that v and m stay in L2:
//     input    v [T T][tiles / MR][C / 16][MR][16]
//     product  m [T T][panels][tiles][NR]          T T matrix products
//     output   y, or the pooled y and its argmax
//
// Threads own ranges of tiles, and where these are few some output channels of them; a tile is computed by itself, so its bits depend neither on them nor on the batch.

#include "ops/conv2d/winograd.h"

#include "ops/conv2d/pack.h"
#include "ops/runtime/cut.h"
#include "ops/runtime/dispatch.h"
#include "ops/runtime/scratch.h"

namespace pycnn::winograd {
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

void transform_input(float* v, const Layout& at, const Correlation& s, const Tiles& tiles, int64_t tile) {
    const int64_t n = tile / (tiles.rows * tiles.cols), th = tile / tiles.cols % tiles.rows, tw = tile % tiles.cols;
    const int64_t h = th * tiles.m - s.top, w = tw * tiles.m - s.left, T = tiles.m + 2;
    const Inside rows = inside(h, T, s.H), cols = inside(w, T, s.W);
    kernels().winograd_input({v, at.v_element, kernels().MR * 16, s.in + ((n * s.H + h) * s.W + w) * s.C, s.W * s.C,
                              s.C, rows.begin, rows.end, cols.begin, cols.end},
                             tiles.m);
}

// Output channels of the panels [begin, end).
struct Panels {
    int64_t begin, end;

    int64_t first() const { return begin * kernels().NR; }
    int64_t channels(int64_t OC) const { return std::min(end * kernels().NR, OC) - first(); }
};

void transform_output(const float* m, const Layout& at, const Correlation& s, const Tiles& tiles, int64_t tile,
                      const Panels& panels) {
    const int64_t n = tile / (tiles.rows * tiles.cols), th = tile / tiles.cols % tiles.rows, tw = tile % tiles.cols;
    const int64_t h = th * tiles.m, w = tw * tiles.m, half = tiles.m / 2;
    const int64_t rows = std::min(tiles.m, s.OH - h), cols = std::min(tiles.m, s.OW - w);
    const int64_t pool_rows = std::min(half, s.PH - h / 2), pool_cols = std::min(half, s.PW - w / 2);
    const bool pool = s.PH > 0;
    if (pool && (pool_rows <= 0 || pool_cols <= 0)) return;  // the odd last row of a VALID pool
    const int64_t pixel = pool ? (n * s.PH + h / 2) * s.PW + w / 2 : (n * s.OH + h) * s.OW + w;
    const int64_t to = pixel * s.OC + panels.first();
    kernels().winograd_output(
        {m, at.m_element, at.m_panel, s.out + to, s.where ? s.where + to : nullptr, (pool ? s.PW : s.OW) * s.OC, s.OC,
         panels.channels(s.OC), rows, cols, pool ? pool_rows : 0, pool ? pool_cols : 0,
         s.epilogue.bias ? s.epilogue.bias + panels.first() : nullptr, s.epilogue.relu,
         s.epilogue.residual ? s.epilogue.residual + to : nullptr},
        tiles.m);
}

// Tiles that are computed together: v and m, about 384 KB of them, stay in L2 between their three uses.
int64_t block_size(const Correlation& s, const Tiles& tiles) {
    constexpr int64_t kFloats = 98304;
    const int64_t MR = kernels().MR, tile = tiles.elements() * (round_up(s.C, 16) + round_up(s.OC, kernels().NR));
    return std::max<int64_t>(kFloats / tile / MR, 1) * MR;
}

// Tiles [first, last) through some panels, a block after the other.
void run_tiles(const Correlation& s, const Tiles& tiles, const float* u, int64_t first, int64_t last,
               const Panels& panels) {
    const int64_t MR = kernels().MR, NR = kernels().NR, E = tiles.elements(), size = block_size(s, tiles);
    const Layout at(s, size);
    Scratch scratch;
    float* v = scratch.floats(E * at.v_element);
    float* product = scratch.floats(E * at.m_element);
    for (; first < last; first += size) {
        const int64_t count = std::min(size, last - first);
        for (int64_t t = 0; t < count; ++t)
            transform_input(v + t / MR * at.v_group + t % MR * 16, at, s, tiles, first + t);
        for (int64_t e = 0; e < E; ++e)
            kernels().winograd_product(product + e * at.m_element, at.m_panel, v + e * at.v_element,
                                       u + e * at.u_element + panels.begin * s.C * NR, count, s.C,
                                       panels.channels(s.OC));
        for (int64_t t = 0; t < count; ++t) transform_output(product + t * NR, at, s, tiles, first + t, panels);
    }
}

}  // namespace

int64_t filter_size(int64_t C, int64_t OC, int64_t m) {
    return (m + 2) * (m + 2) * ceil_div(OC, kernels().NR) * C * kernels().NR;
}

void transform_filter(float* u, const float* taps, int64_t C, int64_t OC, int64_t m) {
    const int64_t NR = kernels().NR, panels = ceil_div(OC, NR), panel = C * NR, element = panels * panel;
    constexpr int64_t kRows = 16;  // channels a unit
    const int64_t parts = ceil_div(C, kRows);
    parallel_for(panels * parts, grain_units(kGrainBytes, 4.0 * kRows * NR * (9 + (m + 2) * (m + 2))),
                 [&](int64_t begin, int64_t end) {
                     for (int64_t unit = begin; unit < end; ++unit) {
                         const int64_t p = unit / parts, c = unit % parts * kRows, rows = std::min(kRows, C - c);
                         kernels().winograd_filter(u + p * panel + c * NR, element, taps + p * 9 * panel + c * NR,
                                                   panel, rows * NR, m);
                     }
                 });
}

void run(const Correlation& s, int64_t m, const float* u) {
    const Tiles tiles(m, s.N, s.OH, s.OW);
    const int64_t MR = kernels().MR, groups = ceil_div(tiles.count(), MR), panels = ceil_div(s.OC, kernels().NR);
    const double flop = 2.0 * tiles.elements() * s.C * s.OC;
    parallel_rectangles(cut_winograd(groups, panels), kGrainFlop, flop * static_cast<double>(tiles.count()),
                        [&](int64_t g0, int64_t g1, int64_t p0, int64_t p1) {
                            run_tiles(s, tiles, u, g0 * MR, std::min(g1 * MR, tiles.count()), {p0, p1});
                        });
}

namespace {

struct Map {  // what tiles cut: y, or dx
    int64_t H, W;
};
Map map_of(const Conv2dShape& s, Direction direction) {
    if (direction == Direction::backward_input) return {s.H, s.W};
    return {s.OH(), s.OW()};
}

bool large_tiles_pay(const Map& map) {
    return !is_exact() && 36 * ceil_div(map.H, 4) * ceil_div(map.W, 4) < 16 * ceil_div(map.H, 2) * ceil_div(map.W, 2);
}

template <int M>
bool fits(const Conv2dShape& s, Direction direction) {
    const bool can = s.KH == 3 && s.KW == 3 && s.stride_h == 1 && s.stride_w == 1 && s.dilation_h == 1 &&
                     s.dilation_w == 1 && s.groups == 1;
    return can && large_tiles_pay(map_of(s, direction)) == (M == 4);
}

// T^2 products a tile for each input and output channel, and the two transforms, whose sparse rows of B^T (20 operations
// of 6 x 6) and A^T (14 of 4 x 4) are applied to T columns and to T or m rows; once a call, the transform of the weight
// or of its gradient, which moves much memory. Transforms and the shorter products run at about half of the FMA peak,
// direct convolution at 0.9 to 1.0 of it (docs/kernels.md), hence the factor 2 and the margin. The cost of the weight's
// transform is fitted to a sweep over 10 shapes and 1 to 16 images on Zen 4 with two threads: direct convolution wins
// below some 16 tiles in all, for the gradient of the weight below some 64. Fewer channels than a vector has lanes leave
// them empty in every transform.
template <int M>
double cost(const Conv2dShape& s, Direction direction, bool packed) {
    constexpr double kMargin = 1.15, kNever = 1e300;
    if (s.C < 16 || s.OC < 16) return kNever;
    const Map map = map_of(s, direction);
    const double tiles = static_cast<double>(s.N) * ceil_div(map.H, M) * ceil_div(map.W, M);
    const double input = M == 4 ? 240 : 32, output = M == 4 ? 140 : 24, products = M == 4 ? 36 : 16;
    const double filter = packed ? 0 : direction == Direction::backward_weight ? 1200 : 400;
    const double lanes = static_cast<double>(ceil_div(s.OC, 16) * 16) / static_cast<double>(s.OC);
    return kMargin * lanes *
           (tiles * (products * s.C * s.OC + 2 * (input * s.C + output * s.OC)) + filter * s.C * s.OC);
}

const float* filter(Scratch& scratch, const float* taps, int64_t C, int64_t OC, int64_t m) {
    float* u = scratch.floats(filter_size(C, OC, m));
    transform_filter(u, taps, C, OC, m);
    return u;
}

template <int M>
Cut cut(const Conv2dShape& s, Direction direction) {
    const Map map = map_of(s, direction);
    const Tiles tiles(M, s.N, map.H, map.W);
    if (direction == Direction::backward_weight) return cut_units(weight_units(s, tiles.elements()));
    const int64_t channels = direction == Direction::forward ? s.OC : s.C;
    return cut_winograd(ceil_div(tiles.count(), kernels().MR), ceil_div(channels, kernels().NR));
}

template <int M>
int64_t packed_floats(const Conv2dShape& s) {
    return filter_size(s.C, s.OC, M);
}

template <int M>
void pack(float* u, const float* weight, const Conv2dShape& s) {
    Scratch scratch;
    float* taps = scratch.floats(packed_forward_floats(s));
    pack_forward(taps, weight, s);
    transform_filter(u, taps, s.C, s.OC, M);
}

template <int M>
void forward(const Conv2dForward& call) {
    const Conv2dShape& s = call.shape;
    run({.in = call.x,
         .out = call.y,
         .where = call.where,
         .N = s.N,
         .H = s.H,
         .W = s.W,
         .C = s.C,
         .OH = s.OH(),
         .OW = s.OW(),
         .OC = s.OC,
         .top = s.pad.top,
         .left = s.pad.left,
         .PH = call.PH,
         .PW = call.PW,
         .epilogue = call.epilogue},
        M, call.packed);
}

// The correlation of dy with the weight turned upside down.
template <int M>
void backward_input(float* dx, const float* dy, const float* weight, const Conv2dShape& s) {
    Scratch scratch;
    run({.in = dy,
         .out = dx,
         .where = nullptr,
         .N = s.N,
         .H = s.OH(),
         .W = s.OW(),
         .C = s.OC,
         .OH = s.H,
         .OW = s.W,
         .OC = s.C,
         .top = 2 - s.pad.top,
         .left = 2 - s.pad.left,
         .PH = 0,
         .PW = 0,
         .epilogue = {}},
        M, filter(scratch, pack_backward(scratch, weight, s, {2, 1, 0}, {2, 1, 0}), s.OC, s.C, M));
}

template <int M>
constexpr Algorithm entry(const char* reason) {
    return {.name = "winograd",
            .reason = reason,
            .computes = "3 x 3 windows with stride 1, dilation 1 and groups = 1",
            .fits = fits<M>,
            .cost = cost<M>,
            .cut = cut<M>,
            .forward = forward<M>,
            .backward_input = backward_input<M>,
            .backward_weight = [](float* dweight, const float* x, const float* dy,
                                  const Conv2dShape& s) { winograd::backward_weight(dweight, x, dy, s, M); },
            .adds_residual = true,
            .pools = true,
            .packed_floats = packed_floats<M>,
            .pack = pack<M>};
}

}  // namespace

constinit const Algorithm large_tiles = entry<4>("F(4x4, 3x3) needs fewer operations, its transforms included");
constinit const Algorithm small_tiles = entry<2>("F(2x2, 3x3) needs fewer operations, its transforms included");

}  // namespace pycnn::winograd
