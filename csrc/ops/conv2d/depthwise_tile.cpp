// Depthwise convolution in tiles of two rows (csrc/kernels/depthwise_tile.cpp): 3x3 and 5x5, stride 1 and 2.
//
// A tile is two rows of y (of dx with stride 1; with stride 2 the two rows of dx that share their rows of dy), all
// columns. Threads take tiles, where these are few some channels of them. For the gradient of the weight they take pairs
// of a slot and a block of channels: a slot is a fixed run of tiles with a dweight of its own, and the slots are added
// up in a fixed tree.
//
// Where pixels lie 2 or 4 KB apart, what one register of channels walks over meets in one or two sets of L1. To copy the
// rows elsewhere first was tried and dropped: docs/kernels.md has the times.

#include <algorithm>
#include <cstring>

#include "ops/conv2d/depthwise.h"
#include "ops/runtime/caches.h"
#include "ops/runtime/cut.h"
#include "ops/runtime/dispatch.h"
#include "ops/runtime/scratch.h"

namespace pycnn::depthwise {

namespace {

constexpr int64_t kRows = 2;   // of a tile
constexpr int64_t kCell = 64;  // channels of a unit, where rows are few or for dweight

// In L1 a tile runs at 0.7 of the FMA peak, and a byte from L3 takes about as long as one of its FLOP, so units are
// FLOP plus bytes: 54 microseconds at 3.8 million (56x56x128, stride 2, AVX-512; 79 with AVX2), where two threads
// begin.
int64_t grain(const Conv2dShape& s, int64_t units) {
    const double bytes = 4.0 * s.N * s.C * (s.H * s.W + s.OH() * s.OW());
    return grain_units(kGrainFlop * 3 / 8, (s.flop() + bytes) / static_cast<double>(units));
}

bool square(const Conv2dShape& s) {
    return s.KH == s.KW && (s.KH == 3 || s.KH == 5) && s.stride_h == s.stride_w && s.stride_h <= 2 &&
           s.dilation_h == 1 && s.dilation_w == 1;
}

struct Image {  // H x W pixels, `pixel` floats apart
    float* data;
    int64_t H, W, pixel;
    int64_t row() const { return W * pixel; }
};
struct ConstImage {
    const float* data;
    int64_t H, W, pixel;
    int64_t row() const { return W * pixel; }
};

// Calls body(image of out, image of in, c, channels, begin, end): tiles [begin, end) of one image, channels
// [c, c + channels), at which both images start.
template <class Body>
void each_image(const Image& out, const ConstImage& in, const Conv2dShape& s, int64_t tiles, const Body& body) {
    const int64_t C = s.C, in_size = in.H * in.W, out_size = out.H * out.W;
    const Cut cut = cut_depthwise(s.N * tiles, ceil_div(C, kCell));
    const auto run = [&](int64_t begin, int64_t end, int64_t first_block, int64_t last_block) {
        const int64_t c = first_block * kCell, channels = std::min(last_block * kCell, C) - c;
        for (int64_t t = begin, next; t < end; t = next) {
            const int64_t n = t / tiles;
            next = std::min(end, (n + 1) * tiles);
            body(Image{out.data + n * out_size * C + c, out.H, out.W, C},
                 ConstImage{in.data + n * in_size * C + c, in.H, in.W, C}, c, channels, t - n * tiles,
                 next - n * tiles);
        }
    };
    parallel_for(cut.units(), grain(s, cut.units()),
                 [&](int64_t begin, int64_t end) { for_rectangles(cut, begin, end, run); });
}

struct Taps {
    const float* w;
    int64_t row, column;  // floats from tap to tap
    int64_t K, stride, top, left;
};

// out = correlation of in with the taps, and the epilogue.
void correlate(const Image& all_out, const ConstImage& all_in, const Taps& p, const Conv2dShape& s,
               const Epilogue& epilogue) {
    const bool stream = streams(all_out.data, s.N * all_out.H * all_out.W * s.C, s.C) && !reads_again(epilogue);
    each_image(all_out, all_in, s, ceil_div(all_out.H, kRows),
               [&](const Image& out, const ConstImage& in, int64_t c, int64_t channels, int64_t begin, int64_t end) {
                   for (int64_t r = begin * kRows; r < std::min(end * kRows, out.H); r += kRows) {
                       const int64_t rows = std::min(kRows, out.H - r), first = r * p.stride - p.top;
                       float* to = out.data + r * out.row();
                       kernels().depthwise_tile({.out = to,
                                                 .out_row = out.row(),
                                                 .out_pixel = out.pixel,
                                                 .in = in.data + first * in.row(),
                                                 .in_row = in.row(),
                                                 .in_pixel = in.pixel,
                                                 .in_begin = std::max<int64_t>(-first, 0),
                                                 .in_end = std::min((rows - 1) * p.stride + p.K, in.H - first),
                                                 .in_columns = in.W,
                                                 .out_columns = out.W,
                                                 .before = p.left,
                                                 .w = p.w + c,
                                                 .w_row = p.row,
                                                 .w_column = p.column,
                                                 .channels = channels,
                                                 .epilogue = part_of(epilogue, c, to - all_out.data),
                                                 .stream = stream},
                                                p.K, p.stride, rows);
                   }
                   if (stream) kernels().end_stream();
               });
}

// dx with stride 2: rows 2 p and 2 p + 1 of the padded dx need rows p - K / 2 to p of dy.
void spread(const Image& all_dx, const ConstImage& all_dy, const float* weight, const Conv2dShape& s) {
    const bool stream = streams(all_dx.data, s.N * s.H * s.W * s.C, s.C);
    each_image(all_dx, all_dy, s, (s.H + s.pad.top + 1) / 2,
               [&](const Image& dx, const ConstImage& dy, int64_t c, int64_t channels, int64_t begin, int64_t end) {
                   for (int64_t u = 2 * begin; u < 2 * end; ++u) {
                       const int64_t h = u - s.pad.top, p = u / 2;
                       if (h < 0 || h >= dx.H) continue;
                       kernels().depthwise_spread({dx.data + h * dx.row(), dy.data + p * dy.row(), weight + c, dy.row(),
                                                   std::max<int64_t>(p + 1 - dy.H, 0), p + 1, dx.pixel, dx.W, dy.pixel,
                                                   dy.W, s.pad.left, s.C, channels, stream},
                                                  s.KH, u % 2);
                   }
                   if (stream) kernels().end_stream();
               });
}

// ---- gradient of the weight ---------------------------------------------------------------------------------------

// dw += tiles [begin, end) of one image.
void weight_tiles(float* dw, const ConstImage& x, const ConstImage& dy, const Conv2dShape& s, int64_t channels,
                  int64_t begin, int64_t end) {
    const int64_t together = s.KH == 3 ? kRows : 1;
    for (int64_t r = begin * kRows; r < std::min(end * kRows, dy.H); r += together) {
        const int64_t rows = std::min(together, dy.H - r), first = r * s.stride_h - s.pad.top;
        kernels().depthwise_weight_tile(
            {dw, s.C, dy.data + r * dy.row(), dy.row(), dy.pixel, x.data + first * x.row(), x.row(), x.pixel,
             std::max<int64_t>(-first, 0), std::min((rows - 1) * s.stride_h + s.KH, x.H - first), x.W, dy.W, s.pad.left,
             channels},
            s.KH, s.stride_h, rows);
    }
}

// A slot is a run of tiles. Their number depends on the shape alone: some 16 units of work for the threads; runs of at
// least 32 pixels, or adding the slots up would show.
struct WeightCut {
    int64_t blocks;  // of kCell channels
    int64_t tiles;   // of all images
    int64_t S;

    explicit WeightCut(const Conv2dShape& s) {
        blocks = ceil_div(s.C, kCell), tiles = s.N * ceil_div(s.OH(), kRows);
        S = std::min({ceil_div(16, blocks), tiles, s.N * s.OH() * s.OW() / 32});
        S = std::max<int64_t>(S, 1);
    }
};

// dw[taps][C], channels from c on = the sum of tiles [begin, end), counted over all images.
void weight_slot(float* dw, const float* x, const float* dy, const Conv2dShape& s, int64_t c, int64_t channels,
                 int64_t begin, int64_t end) {
    const int64_t tiles = ceil_div(s.OH(), kRows), x_size = s.H * s.W, dy_size = s.OH() * s.OW();
    for (int64_t t = 0; t < s.taps(); ++t) std::memset(dw + t * s.C + c, 0, sizeof(float) * channels);
    for (int64_t t = begin, next; t < end; t = next) {
        const int64_t n = t / tiles;
        next = std::min(end, (n + 1) * tiles);
        weight_tiles(dw + c, {x + n * x_size * s.C + c, s.H, s.W, s.C},
                     {dy + n * dy_size * s.C + c, s.OH(), s.OW(), s.C}, s, channels, t - n * tiles, next - n * tiles);
    }
}

}  // namespace

bool tiled_forward(const Conv2dForward& call) {
    const Conv2dShape& s = call.shape;
    if (!square(s)) return false;
    correlate({call.y, s.OH(), s.OW(), s.C}, {call.x, s.H, s.W, s.C},
              {call.packed, s.KW * s.C, s.C, s.KH, s.stride_h, s.pad.top, s.pad.left}, s, call.epilogue);
    return true;
}

bool tiled_backward_input(const Conv2dBackwardInput& call) {
    const Conv2dShape& s = call.shape;
    if (!square(s)) return false;
    const Image to{call.dx, s.H, s.W, s.C};
    const ConstImage from{call.dy, s.OH(), s.OW(), s.C};
    if (s.stride_h == 2) {
        spread(to, from, call.weight, s);
    } else {  // a correlation of dy with the taps in reverse order
        const float* last = call.weight + (s.taps() - 1) * s.C;
        correlate(to, from, {last, -s.KW * s.C, -s.C, s.KH, 1, s.KH - 1 - s.pad.top, s.KW - 1 - s.pad.left}, s, {});
    }
    return true;
}

int64_t units(const Conv2dShape& s, Direction d) {
    const bool back = d == Direction::backward_input;
    if (d == Direction::backward_weight) {
        const WeightCut cut(s);
        return cut.S * cut.blocks;
    }
    const int64_t tiles = back && s.stride_h == 2 ? (s.H + s.pad.top + 1) / 2 : ceil_div(back ? s.H : s.OH(), kRows);
    return cut_depthwise(s.N * tiles, ceil_div(s.C, kCell)).units();
}

bool tiled_backward_weight(float* dweight, const float* x, const float* dy, const Conv2dShape& s) {
    if (!square(s)) return false;
    const WeightCut cut(s);
    const int64_t blocks = cut.blocks, tiles = cut.tiles, S = cut.S;
    const int64_t size = s.taps() * s.C;
    Scratch scratch;
    float* slots = S == 1 ? nullptr : scratch.floats((S - 1) * size);
    const auto slot = [&](int64_t i) { return i ? slots + (i - 1) * size : dweight; };
    parallel_for(S * blocks, grain(s, S * blocks), [&](int64_t begin, int64_t end) {
        for (int64_t u = begin; u < end; ++u) {
            const int64_t i = u / blocks, c = u % blocks * kCell;
            weight_slot(slot(i), x, dy, s, c, std::min(kCell, s.C - c), tiles * i / S, tiles * (i + 1) / S);
        }
    });
    for (int64_t step = 1; step < S; step *= 2)
        for (int64_t i = 0; i + step < S; i += 2 * step) kernels().accumulate(slot(i), slot(i + step), size);
    return true;
}

}  // namespace pycnn::depthwise
