// The gradients of conv_pool: chooses the way, gives threads their slots of images, adds the slots up.
//
//   g[n][ph][pw][oc]         = dy where y > 0 (with relu), at pixel (2 ph + i, 2 pw + j) of the map, where = 2 i + j
//   dbias[oc]                = sum of g
//   dweight[kh][kw][c][oc]   = sum of g * x at the pixel's patch          } products with zero are skipped
//   dx                       = sum of g * weight, into the pixel's patch  }
//
// A slot is a range of images with sums of its own. Their number depends on N alone, and they are added in order, so
// the bits do not depend on threads. The kernels give the same bits on every machine with FMA.

#include <atomic>
#include <cstring>

#include "ops/conv_pool/parts.h"
#include "ops/runtime/dispatch.h"
#include "ops/runtime/parallel.h"
#include "ops/runtime/scratch.h"

namespace pycnn {
namespace conv_pool {
namespace {

// Behind a 2 x 2 pool at most a quarter of the map has a gradient (a third of 7 x 7). Lists against the dense time, all
// windows active: conv2 0.43 (AVX2 0.50), conv3 0.59 (0.72); half of them 0.27 to 0.45. So the way depends on the shape
// alone. Where few products hang on an element of a list, dense wins at some share, but never by half: dweight of
// 32x32x3->64 from three quarters of the windows on, 1 x 1 kernels 64->64 near all; dx of 28x28x8->16 takes 2.3 instead
// of 1.7 ms (50 images) at half of them, dx of 14x14x6->16 with 5 x 5 kernels and AVX2 1.3 instead of 1.0.
//
// Without a relu every window has its gradient, as where normalisation comes between pool and relu. Then dx by Winograd
// over the un-pooled map takes less than lists, dweight does not. Both, 100 images, one thread, ms, lists for both ->
// lists for dweight alone: 14x14x16->16 1.02 -> 0.92 (AVX2 1.11 -> 1.01), 7x7x16->64 0.97 -> 0.88 (1.05 -> 0.94),
// 7x7x32->64 1.70 -> 1.60 (2.14 -> 1.72), but 14x14x16->32 1.70 -> 1.74 (1.86 -> 1.87).
//
// Lists walk through a whole image for each output channel (dweight), and for each row of the kernel (dx), so they lose
// where an image lies in no L2. Both, half of the windows active, two threads, AVX-512, ms: lists for both, for dweight
// alone, dense; and dweight alone, lists and dense (3x3, 8 images unless said; a busy machine in its slow state):
//
//   28x28x64->64, 64 images     11.9  14.0  26.9      5.5  18.9
//   56x56x64->64, 64 images     53.5  64.7  78.7     21.9  47.7     all windows active, 8 images: 9.6  8.7  9.5
//   64x64x64->64, 64 images     66.7  79.9   109     28.8  60.1     107  101  159
//   112x112x16->16               3.9   4.2   5.4      1.4   3.4     4.6  4.7  7.7
//   112x112x32->32 (1.6 MB)      8.5  10.5  12.9      4.4   8.1     12.5  12.0  18.5
//   112x112x64->64 (3.2 MB)     32.5  33.1  35.6     15.5  21.6     46.1  40.4  55.5;  AVX2, half: 40.0  35.2  37.4
//   224x224x16->16, one image    3.8   2.4   2.6      1.1   1.5
//   224x224x32->64, one image   19.6  17.7  13.8      9.3  10.6
//   224x224x64->64, two images  91.7  52.1  40.0     28.0  25.0
//
// So by the floats of an image, where the dense way has Winograd, which was measured: direct convolution takes longer.
// One image of 112x112x64 alone is dense at best (7.0, 6.2, 5.0).
enum class Way { sparse, sparse_dweight, one_channel, dense };

Way choose_way(const ConvPoolShape& b, bool wants_dx) {
    const Conv2dShape& s = b.conv;
    if (s.stride_h != 1 || s.stride_w != 1 || s.dilation_h != 1 || s.dilation_w != 1 || s.groups != 1)
        return Way::dense;
    if (s.C == 1 && !wants_dx) return Way::one_channel;
    if (!Layout(b).fits_int32(b)) return Way::dense;
    constexpr int64_t kDx = 524288, kDweight = 1048576;
    const int64_t image = s.H * s.W * s.C;
    const auto winograd = [&](Direction d) { return std::string_view(choose(s, d).name) == "winograd"; };
    if (image > kDweight && winograd(Direction::backward_weight)) return Way::dense;
    const bool fast_dx = wants_dx && (!b.relu || image > kDx) && winograd(Direction::backward_input);
    return fast_dx ? Way::sparse_dweight : Way::sparse;
}

// A power of two, so that a few threads get equal shares; some images in each, or adding slots up would weigh too much.
int64_t slot_count(int64_t N) {
    constexpr int64_t kMost = 16, kImages = 4;
    if (N < 2 * kImages) return std::min<int64_t>(std::max<int64_t>(N, 1), 2);
    int64_t S = 1;
    while (2 * S <= std::min(kMost, N / kImages)) S *= 2;
    return S;
}

// dweight of 16 output channels and one block of input channels: adds the slots up, then turns [oc][c] to [c][oc].
void add_slots(const Arrays& a, const Conv2dShape& s, const Layout& l, float* slots, int64_t S, int64_t slot_size,
               int64_t block, int64_t oc) {
    const int64_t each = s.KH * l.row, count = std::min<int64_t>(16, s.OC - oc);
    float* sums = slots + (block * s.OC + oc) * each;
    for (int64_t slot = 1; slot < S; ++slot) kernels().accumulate(sums, sums + slot * slot_size, count * each);
    const int64_t c = block * l.width, channels = std::min(l.width, s.C - c);
    for (int64_t kh = 0; kh < s.KH; ++kh)
        for (int64_t kw = 0; kw < s.KW; ++kw)
            kernels().transpose({.to = a.dweight + ((kh * s.KW + kw) * s.C + c) * s.OC + oc,
                                 .to_row = s.OC,
                                 .from = sums + kh * l.row + kw * l.width,
                                 .from_row = each,
                                 .rows = count,
                                 .columns = channels});
}

void add_bias_slots(float* dbias, const float* first, int64_t S, int64_t slot_size, int64_t OC) {
    if (!dbias) return;
    std::memcpy(dbias, first, sizeof(float) * OC);
    for (int64_t slot = 1; slot < S; ++slot) kernels().accumulate(dbias, first + slot * slot_size, OC);
}

// Runs images(slot, begin, end) for every slot, zeroed.
template <class Images>
void run_slots(float* slots, int64_t S, int64_t slot_size, int64_t N, double flop, Images&& images) {
    parallel_for(S, grain_units(kGrainFlop, flop / S), [&](int64_t begin, int64_t end) {
        for (int64_t slot = begin; slot < end; ++slot) {
            std::memset(slots + slot * slot_size, 0, sizeof(float) * slot_size);
            images(slots + slot * slot_size, slot * N / S, (slot + 1) * N / S);
        }
    });
}

void sparse(const Arrays& a, const ConvPoolShape& b) {
    const Conv2dShape& s = b.conv;
    const Layout l(b);
    const int64_t S = slot_count(s.N), sums = l.blocks * s.OC * s.KH * l.row, slot_size = round_up(sums + s.OC, 16);
    Scratch scratch;
    float* slots = scratch.floats(S * slot_size + sums + 16);
    float* weights = a.dx ? slots + S * slot_size : nullptr;
    if (a.dx) transpose_weights(weights, a.weight, s, l);
    // An eighth of the products: half of the windows, one pixel of four.
    run_slots(slots, S, slot_size, s.N, s.flop() / 8, [&](float* slot, int64_t begin, int64_t end) {
        sparse_images({.slot = slot, .arrays = a, .shape = b, .begin = begin, .end = end}, l, weights);
    });
    const int64_t tiles = ceil_div(s.OC, 16);
    parallel_for(l.blocks * tiles, grain_units(kGrainBytes, 4.0 * S * sums / (l.blocks * tiles)),
                 [&](int64_t begin, int64_t end) {
                     for (int64_t at = begin; at < end; ++at)
                         add_slots(a, s, l, slots, S, slot_size, at / tiles, at % tiles * 16);
                 });
    add_bias_slots(a.dbias, slots + sums, S, slot_size, s.OC);
}

void one_channel(const Arrays& a, const ConvPoolShape& b) {
    const Conv2dShape& s = b.conv;
    const int64_t S = slot_count(s.N), taps = s.taps(), sums = round_up(s.OC, 16) * taps;
    const int64_t slot_size = round_up(sums + s.OC, 16);
    Scratch scratch;
    float* slots = scratch.floats(S * slot_size);
    // A quarter of the products, each of which takes as long as four: 28x28x1->16, 100 images, one thread of a Zen 4: 22.6
    // MFLOP in 230 microseconds, with 5 x 5 kernels 62.7 in 500.
    run_slots(slots, S, slot_size, s.N, s.flop(), [&](float* slot, int64_t begin, int64_t end) {
        one_channel_images({.slot = slot, .arrays = a, .shape = b, .begin = begin, .end = end});
    });
    for (int64_t slot = 1; slot < S; ++slot) kernels().accumulate(slots, slots + slot * slot_size, sums);
    for (int64_t oc = 0; oc < s.OC; oc += 16)
        for (int64_t tap = 0; tap < taps; ++tap)
            std::memcpy(a.dweight + tap * s.OC + oc, slots + oc * taps + tap * 16,
                        sizeof(float) * std::min<int64_t>(16, s.OC - oc));
    add_bias_slots(a.dbias, slots + sums, S, slot_size, s.OC);
}

}  // namespace

const float* masked(float* room, const Arrays& a, const ConvPoolShape& b, int64_t n) {
    const int64_t image = b.PH * b.PW * b.conv.OC;
    const float* dy = a.dy + n * image;
    if (!b.relu) return dy;
    kernels().activation_gradient({.dx = room, .dy = dy, .v = a.y + n * image, .size = image, .activation = kRelu});
    return room;
}

}  // namespace conv_pool

int64_t bad_window(const uint8_t* where, const ConvPoolShape& b) {
    std::atomic<int64_t> bad{-1};
    const int64_t OC = b.conv.OC;
    // Bits that no pixel of a window has; whole rows at once, but for the last window where it is narrower.
    const auto look = [&](int64_t begin, int64_t end, int64_t rows, int64_t cols) {
        const uint8_t outside = static_cast<uint8_t>(~((rows - 1) * 2 + cols - 1));
        uint8_t found = 0;
        for (int64_t at = begin; at < end; ++at) found |= where[at] & outside;
        if (!found) return;
        for (int64_t at = begin; at < end; ++at)
            if (where[at] & outside) bad = at;
    };
    const int64_t wide = b.window_cols(b.PW - 1) == 2 ? b.PW : b.PW - 1;
    parallel_for(b.conv.N * b.PH, grain_units(kGrainBytes, b.PW * OC), [&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row) {
            const int64_t rows = b.window_rows(row % b.PH), at = row * b.PW * OC;
            look(at, at + wide * OC, rows, 2);
            look(at + wide * OC, at + b.PW * OC, rows, 1);
        }
    });
    return bad;
}

const char* conv_pool_way(const ConvPoolShape& b, bool wants_dx) {
    switch (conv_pool::choose_way(b, wants_dx)) {
        case conv_pool::Way::sparse:
            return "sparse";
        case conv_pool::Way::sparse_dweight:
            return "sparse_dweight";
        case conv_pool::Way::one_channel:
            return "one_channel";
        default:
            return "dense";
    }
}

void conv_pool_backward(const ConvPoolBackward& given, const ConvPoolShape& b) {
    ConvPoolBackward a = given;
    switch (conv_pool::choose_way(b, a.dx != nullptr)) {
        case conv_pool::Way::sparse:
            return conv_pool::sparse(a, b);
        case conv_pool::Way::sparse_dweight:
            conv_pool::dense_dx(a, b);
            a.dx = nullptr;
            return conv_pool::sparse(a, b);
        case conv_pool::Way::one_channel:
            return conv_pool::one_channel(a, b);
        default:
            return conv_pool::dense(a, b);
    }
}

}  // namespace pycnn
