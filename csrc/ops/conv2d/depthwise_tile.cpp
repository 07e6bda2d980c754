// Depthwise convolution in tiles of two rows (csrc/kernels/depthwise_tile.cpp): 3x3 and 5x5, stride 1 and 2.
//
// A tile is two rows of y (of dx with stride 1; with stride 2 the two rows of dx that share their rows of dy), all
// columns. Threads take tiles, where these are few some channels of them. For the gradient of the weight they take pairs
// of a slot and a block of channels: a slot is a fixed run of tiles with a dweight of its own, and the slots are added
// up in a fixed tree.
//
// Note [Staging]: where pixels lie a multiple of 2 KB apart, the pixels that one register of channels walks over meet
// in one or two sets of L1, and each miss there waits for the one before it (10 cycles a line, Zen 4). So the rows that
// a tile needs are first copied, as they are asked for, to a place where pixels lie 64 bytes further apart.

#include <algorithm>
#include <cstring>
#include <limits>

#include "ops/conv2d/depthwise.h"
#include "ops/runtime/cut.h"
#include "ops/runtime/dispatch.h"
#include "ops/runtime/workspace.h"

namespace pycnn::depthwise {

namespace {

constexpr int64_t kRows = 2;                         // of a tile
constexpr int64_t kStreamFloats = int64_t{1} << 22;  // 16 MB: a larger result goes past the caches
constexpr int64_t kCell = 64;                        // channels of a unit, where rows are few or for dweight
constexpr int64_t kSpread = 16;                      // floats more from pixel to pixel, where they are staged

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

bool staged(const Conv2dShape& s) {
    return s.C % 512 == 0 && s.H * s.W <= 1024 && s.OH() * s.OW() <= 1024;  // each copy fits into L2
}

bool streams(const float* out, int64_t floats, int64_t C) {
    return floats > kStreamFloats && C % 16 == 0 && reinterpret_cast<uintptr_t>(out) % 64 == 0;
}

// Copies pixels of `channels` floats, `from_step` and `to_step` apart.
void copy(float* to, int64_t to_step, const float* from, int64_t from_step, int64_t pixels, int64_t channels) {
    for (int64_t p = 0; p < pixels; ++p) std::memcpy(to + p * to_step, from + p * from_step, sizeof(float) * channels);
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

// Some channels of an image to be read: itself, or a copy of the rows that were asked for (Note [Staging]).
class Rows {
  public:
    Rows(const ConstImage& image, bool copies, int64_t channels, Scratch which) : from_(image), channels_(channels) {
        image_ = image;
        if (!copies) return;
        copied_ = 0;
        image_.pixel = channels + kSpread;
        image_.data = copy_ = scratch(which, image.H * image_.row());
    }
    // The image, of which rows [begin, end) may be read, cut to it; begin never falls.
    const ConstImage& get(int64_t begin, int64_t end) {
        begin = std::max(begin, copied_), end = std::min(end, from_.H);
        if (begin < end) {
            copy(copy_ + begin * image_.row(), image_.pixel, from_.data + begin * from_.row(), from_.pixel,
                 (end - begin) * from_.W, channels_);
            copied_ = end;
        }
        return image_;
    }

  private:
    ConstImage from_, image_;
    int64_t channels_, copied_ = std::numeric_limits<int64_t>::max();  // rows up to here; all, where none is copied
    float* copy_ = nullptr;
};

// The two rows of `out` that a tile writes: themselves, or copies that put() writes back.
class RowPair {
  public:
    RowPair(const Image& out, bool copies, int64_t channels) : out_(out), channels_(channels) {
        if (copies) copy_ = scratch(Scratch::edge, kRows * out.W * (channels + kSpread));
    }
    int64_t pixel() const { return copy_ ? channels_ + kSpread : out_.pixel; }
    int64_t row() const { return out_.W * pixel(); }
    float* at(int64_t h, int64_t first) const {  // row h, of the pair that starts at `first`
        return copy_ ? copy_ + (h - first) * row() : out_.data + h * out_.row();
    }
    void put(int64_t first) const {  // what of the pair lies inside
        const int64_t begin = std::max<int64_t>(first, 0), end = std::min(first + kRows, out_.H);
        if (copy_ && begin < end)
            copy(out_.data + begin * out_.row(), out_.pixel, at(begin, first), pixel(), (end - begin) * out_.W,
                 channels_);
    }

  private:
    const Image& out_;
    int64_t channels_;
    float* copy_ = nullptr;
};

// Calls body(rows to write, rows to read, c, channels, begin, end): tiles [begin, end) of an image, channels
// [c, c + channels).
template <class Body>
void each_image(const Image& out, const ConstImage& in, const Conv2dShape& s, int64_t tiles, const Body& body) {
    const int64_t C = s.C, in_size = in.H * in.W, out_size = out.H * out.W;
    const Cut cut = cut_depthwise(s.N * tiles, ceil_div(C, kCell));
    const auto run = [&](int64_t begin, int64_t end, int64_t first_block, int64_t last_block) {
        const int64_t c = first_block * kCell, channels = std::min(last_block * kCell, C) - c;
        for (int64_t t = begin, next; t < end; t = next) {
            const int64_t n = t / tiles;
            next = std::min(end, (n + 1) * tiles);
            const Image to{out.data + n * out_size * C + c, out.H, out.W, C};
            const RowPair pair(to, staged(s), channels);
            Rows rows({in.data + n * in_size * C + c, in.H, in.W, C}, staged(s), channels, Scratch::padded);
            body(pair, rows, c, channels, t - n * tiles, next - n * tiles);
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
void correlate(const Image& out, const ConstImage& all_in, const Taps& p, const Conv2dShape& s,
               const Epilogue& epilogue) {
    const bool stream = !staged(s) && streams(out.data, s.N * out.H * out.W * s.C, s.C);
    each_image(
        out, all_in, s, ceil_div(out.H, kRows),
        [&](const RowPair& pair, Rows& read, int64_t c, int64_t channels, int64_t begin, int64_t end) {
            for (int64_t r = begin * kRows; r < std::min(end * kRows, out.H); r += kRows) {
                const int64_t rows = std::min(kRows, out.H - r), first = r * p.stride - p.top;
                const int64_t last = first + (rows - 1) * p.stride + p.K;
                const ConstImage& in = read.get(first, last);
                kernels().depthwise_tile(
                    {pair.at(r, r), pair.row(), pair.pixel(), in.data + first * in.row(), in.row(), in.pixel,
                     std::max<int64_t>(-first, 0), std::min(last, in.H) - first, in.W, out.W, p.left, p.w + c, p.row,
                     p.column, channels, epilogue.bias ? epilogue.bias + c : nullptr, epilogue.relu, stream},
                    p.K, p.stride, rows);
                pair.put(r);
            }
            if (stream) kernels().end_stream();
        });
}

// dx with stride 2: rows 2 p and 2 p + 1 of the padded dx need rows p - K / 2 to p of dy.
void spread(const Image& dx, const ConstImage& all_dy, const float* weight, const Conv2dShape& s) {
    const bool stream = !staged(s) && streams(dx.data, s.N * s.H * s.W * s.C, s.C);
    each_image(dx, all_dy, s, (s.H + s.pad.top + 1) / 2,
               [&](const RowPair& pair, Rows& read, int64_t c, int64_t channels, int64_t begin, int64_t end) {
                   for (int64_t p = begin; p < end; ++p) {
                       const int64_t first = 2 * p - s.pad.top;
                       const ConstImage& dy = read.get(p - s.KH / 2, p + 1);
                       for (int64_t h = std::max<int64_t>(first, 0); h < std::min(first + kRows, dx.H); ++h)
                           kernels().depthwise_spread({pair.at(h, first), dy.data + p * dy.row(), dy.row(),
                                                       std::max<int64_t>(p + 1 - dy.H, 0), p + 1, pair.pixel(), dx.W,
                                                       dy.pixel, dy.W, s.pad.left, weight + c, s.C, channels, stream},
                                                      s.KH, h - first);
                       pair.put(first);
                   }
                   if (stream) kernels().end_stream();
               });
}

// ---- gradient of the weight ---------------------------------------------------------------------------------------

// dw += tiles [begin, end) of one image.
void weight_tiles(float* dw, Rows& read_x, Rows& read_dy, const Conv2dShape& s, int64_t channels, int64_t begin,
                  int64_t end) {
    const int64_t together = s.KH == 3 ? kRows : 1;
    for (int64_t r = begin * kRows; r < std::min(end * kRows, s.OH()); r += together) {
        const int64_t rows = std::min(together, s.OH() - r), first = r * s.stride_h - s.pad.top;
        const int64_t last = first + (rows - 1) * s.stride_h + s.KH;
        const ConstImage &x = read_x.get(first, last), &dy = read_dy.get(r, r + rows);
        kernels().depthwise_weight_tile(
            {dw, s.C, dy.data + r * dy.row(), dy.row(), dy.pixel, x.data + first * x.row(), x.row(), x.pixel,
             std::max<int64_t>(-first, 0), std::min(last, x.H) - first, x.W, dy.W, s.pad.left, channels},
            s.KH, s.stride_h, rows);
    }
}

// A slot is a run of tiles. Their number depends on the shape alone: some 16 units of work for the threads; runs of at
// least 32 pixels, or adding the slots up would show.
struct WeightCut {
    int64_t block, blocks;  // channels of a block
    int64_t tiles;          // of all images
    int64_t S;

    explicit WeightCut(const Conv2dShape& s) {
        block = staged(s) ? 2 * kCell : kCell, blocks = ceil_div(s.C, block);
        tiles = s.N * ceil_div(s.OH(), kRows);
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
        Rows read_x({x + n * x_size * s.C + c, s.H, s.W, s.C}, staged(s), channels, Scratch::padded);
        Rows read_dy({dy + n * dy_size * s.C + c, s.OH(), s.OW(), s.C}, staged(s), channels, Scratch::edge);
        weight_tiles(dw + c, read_x, read_dy, s, channels, t - n * tiles, next - n * tiles);
    }
}

}  // namespace

bool tiled_forward(float* y, const float* x, const float* weight, const Conv2dShape& s, const Epilogue& epilogue) {
    if (!square(s)) return false;
    correlate({y, s.OH(), s.OW(), s.C}, {x, s.H, s.W, s.C},
              {weight, s.KW * s.C, s.C, s.KH, s.stride_h, s.pad.top, s.pad.left}, s, epilogue);
    return true;
}

bool tiled_backward_input(float* dx, const float* dy, const float* weight, const Conv2dShape& s) {
    if (!square(s)) return false;
    const Image to{dx, s.H, s.W, s.C};
    const ConstImage from{dy, s.OH(), s.OW(), s.C};
    if (s.stride_h == 2) {
        spread(to, from, weight, s);
    } else {  // a correlation of dy with the taps in reverse order
        const float* last = weight + (s.taps() - 1) * s.C;
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
    const int64_t block = cut.block, blocks = cut.blocks, tiles = cut.tiles, S = cut.S;
    const int64_t size = s.taps() * s.C;
    float* slots = S == 1 ? nullptr : scratch(Scratch::slots, (S - 1) * size);
    const auto slot = [&](int64_t i) { return i ? slots + (i - 1) * size : dweight; };
    parallel_for(S * blocks, grain(s, S * blocks), [&](int64_t begin, int64_t end) {
        for (int64_t u = begin; u < end; ++u) {
            const int64_t i = u / blocks, c = u % blocks * block;
            weight_slot(slot(i), x, dy, s, c, std::min(block, s.C - c), tiles * i / S, tiles * (i + 1) / S);
        }
    });
    for (int64_t step = 1; step < S; step *= 2)
        for (int64_t i = 0; i + step < S; i += 2 * step) kernels().accumulate(slot(i), slot(i + step), size);
    return true;
}

}  // namespace pycnn::depthwise
