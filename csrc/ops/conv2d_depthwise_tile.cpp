// Depthwise convolution in tiles of two rows (csrc/kernels/depthwise_tile.cpp): 3x3 and 5x5, stride 1 and 2.
//
// A tile is two rows of y (of dx with stride 1; with stride 2 the two rows of dx that share their rows of dy), all
// columns and channels. Threads take tiles. For the gradient of the weight they take pairs of a slot and a block of
// channels: a slot is a fixed run of tiles with a dweight of its own, and the slots are added up in a fixed tree.

#include <cstring>

#include "conv2d_depthwise.h"
#include "dispatch.h"
#include "parallel.h"
#include "workspace.h"

namespace pycnn::depthwise {

namespace {

constexpr int64_t kRows = 2;                // of a tile
constexpr int64_t kStreamFloats = 1 << 22;  // a larger result goes past the caches, which it would only sweep: 16 MB
// In L1 a tile runs at 0.7 of the FMA peak, from further away slower, so half of the FLOP take as long.
constexpr int64_t kGrain = kGrainFlop / 2;

bool square(const Conv2dShape& s) {
    return s.KH == s.KW && s.stride_h == s.stride_w && s.stride_h <= 2 && s.dilation_h == 1 && s.dilation_w == 1;
}

bool streams(const float* out, int64_t floats, int64_t C) {
    return floats > kStreamFloats && C % 16 == 0 && reinterpret_cast<uintptr_t>(out) % 64 == 0;
}

struct Map {  // [N][H][W][C]
    int64_t H, W;
};

// out [N][to.H][to.W][C] from in [N][from.H][from.W][C]; w: where tap (0, 0) lies and how far the next ones are.
struct Correlation {
    float* out;
    const float* in;
    Map to, from;
    int64_t N, C, K, stride, top, left;
    const float* w;
    int64_t w_row, w_column;
    Epilogue epilogue;
};

void run(const Correlation& p) {
    const int64_t tiles = ceil_div(p.to.H, kRows);
    const bool stream = streams(p.out, p.N * p.to.H * p.to.W * p.C, p.C);
    const double flop = 2.0 * p.K * p.K * kRows * p.to.W * p.C;
    parallel_for(p.N * tiles, grain_units(kGrain, flop), [&](int64_t begin, int64_t end) {
        for (int64_t t = begin; t < end; ++t) {
            const int64_t n = t / tiles, r = t % tiles * kRows, rows = std::min(kRows, p.to.H - r);
            const int64_t first = r * p.stride - p.top, size = (rows - 1) * p.stride + p.K;
            kernels().depthwise_tile({p.out + (n * p.to.H + r) * p.to.W * p.C, p.to.W * p.C,
                                      p.in + (n * p.from.H + first) * p.from.W * p.C, p.from.W * p.C,
                                      std::max<int64_t>(-first, 0), std::min(size, p.from.H - first), p.from.W, p.to.W,
                                      p.left, p.w, p.w_row, p.w_column, p.C, p.C, p.epilogue.bias, p.epilogue.relu,
                                      stream},
                                     p.K, p.stride, rows);
        }
        if (stream) kernels().end_stream();
    });
}

// dx of a 3x3 kernel with stride 2: rows 2 p and 2 p + 1 of the padded dx need rows p - 1 and p of dy.
void spread(float* dx, const float* dy, const float* weight, const Conv2dShape& s) {
    const int64_t OH = s.OH(), OW = s.OW(), pairs = (s.H + s.pad.top + 1) / 2, row = s.W * s.C;
    const bool stream = streams(dx, s.N * s.H * row, s.C);
    const double flop = 2.0 * s.taps() * OW * s.C;
    parallel_for(s.N * pairs, grain_units(kGrain, flop), [&](int64_t begin, int64_t end) {
        for (int64_t t = begin; t < end; ++t) {
            const int64_t n = t / pairs, p = t % pairs, h = 2 * p - s.pad.top;
            float* even = dx + (n * s.H + h) * row;
            const float* here = dy + (n * OH + p) * OW * s.C;
            kernels().depthwise_spread({h >= 0 && h < s.H ? even : nullptr,
                                        h >= -1 && h + 1 < s.H ? even + row : nullptr,
                                        p >= 1 && p <= OH ? here - OW * s.C : nullptr, p < OH ? here : nullptr, s.W, OW,
                                        s.pad.left, weight, s.C, s.C, stream});
        }
        if (stream) kernels().end_stream();
    });
}

constexpr int64_t kBlock = 64;  // channels: 256 bytes of each pixel

// Depends on the shape alone. Some 16 units of work for the threads; 32 pixels, or adding the slots up would show.
int64_t slot_count(const Conv2dShape& s, int64_t blocks, int64_t tiles) {
    const int64_t most = std::min(tiles, s.N * s.OH() * s.OW() / 32);
    return std::max<int64_t>(std::min(ceil_div(16, blocks), most), 1);
}

void weight_tiles(float* dw, const float* x, const float* dy, const Conv2dShape& s, int64_t c, int64_t begin,
                  int64_t end) {
    const int64_t OH = s.OH(), OW = s.OW(), tiles = ceil_div(OH, kRows), channels = std::min(kBlock, s.C - c);
    for (int64_t t = 0; t < s.taps(); ++t) std::memset(dw + t * s.C + c, 0, sizeof(float) * channels);
    for (int64_t t = begin; t < end; ++t) {
        const int64_t n = t / tiles, r = t % tiles * kRows, rows = std::min(kRows, OH - r);
        const int64_t first = r * s.stride_h - s.pad.top, size = (rows - 1) * s.stride_h + s.KH;
        kernels().depthwise_weight_tile(
            {dw + c, s.C, dy + (n * OH + r) * OW * s.C + c, OW * s.C, x + (n * s.H + first) * s.W * s.C + c, s.W * s.C,
             std::max<int64_t>(-first, 0), std::min(size, s.H - first), s.W, OW, s.pad.left, s.C, channels},
            s.stride_h, rows);
    }
}

}  // namespace

bool tiled_forward(float* y, const float* x, const float* weight, const Conv2dShape& s, const Epilogue& epilogue) {
    if (!square(s) || (s.KH != 3 && s.KH != 5)) return false;
    run({y, x, {s.OH(), s.OW()}, {s.H, s.W}, s.N, s.C, s.KH, s.stride_h, s.pad.top, s.pad.left, weight, s.KW * s.C, s.C,
         epilogue});
    return true;
}

bool tiled_backward_input(float* dx, const float* dy, const float* weight, const Conv2dShape& s) {
    if (!square(s) || (s.KH != 3 && (s.KH != 5 || s.stride_h != 1))) return false;
    if (s.stride_h == 2) {
        spread(dx, dy, weight, s);
        return true;
    }
    // A correlation of dy with the taps in reverse order.
    run({dx, dy, {s.H, s.W}, {s.OH(), s.OW()}, s.N, s.C, s.KH, 1, s.KH - 1 - s.pad.top, s.KW - 1 - s.pad.left,
         weight + (s.taps() - 1) * s.C, -s.KW * s.C, -s.C, {}});
    return true;
}

bool tiled_backward_weight(float* dweight, const float* x, const float* dy, const Conv2dShape& s) {
    if (!square(s) || s.KH != 3) return false;
    const int64_t blocks = ceil_div(s.C, kBlock), tiles = s.N * ceil_div(s.OH(), kRows), size = s.taps() * s.C;
    const int64_t S = slot_count(s, blocks, tiles);
    float* slots = S == 1 ? nullptr : scratch(Scratch::slots, (S - 1) * size);
    const auto slot = [&](int64_t i) { return i ? slots + (i - 1) * size : dweight; };
    parallel_for(S * blocks, grain_units(kGrain, s.flop() / (S * blocks)), [&](int64_t begin, int64_t end) {
        for (int64_t u = begin; u < end; ++u) {
            const int64_t i = u / blocks;
            weight_tiles(slot(i), x, dy, s, u % blocks * kBlock, tiles * i / S, tiles * (i + 1) / S);
        }
    });
    for (int64_t step = 1; step < S; step *= 2)
        for (int64_t i = 0; i + step < S; i += 2 * step) kernels().accumulate(slot(i), slot(i + step), size);
    return true;
}

}  // namespace pycnn::depthwise
