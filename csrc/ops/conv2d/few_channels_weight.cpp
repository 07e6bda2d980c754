// Few input channels, gradient of the weight: dweight is a few registers, so a thread copies some rows of x with their
// zero rim and lets one call of the kernel add all their outputs to it.
//
//   dweight[(kh, kw, c)][oc] = sum over n, oh, ow of padded[n][oh*s + kh*d][ow*s + kw*d][c] * dy[n][oh][ow][oc]
//
// The rows of dy, of all images, are cut into slots with sums of their own, which are added in order. Their number
// depends on the shape alone, so the bits do not depend on threads.

#include <cstring>

#include "ops/conv2d/few_channels.h"
#include "ops/runtime/dispatch.h"
#include "ops/runtime/parallel.h"
#include "ops/runtime/scratch.h"

namespace pycnn::few_channels {
namespace {

double padded_flop(const Conv2dShape& s) { return s.flop() / static_cast<double>(s.OC) * lanes(s); }

// A power of two, so that a few threads get equal shares, each with some 260,000 products (5 microseconds) or more.
int64_t slot_count(const Conv2dShape& s) {
    constexpr int64_t kMost = 64;
    constexpr double kFlop = 1 << 19;
    int64_t S = 1;
    while (2 * S <= std::min(kMost, s.N * s.OH()) && kFlop * 2 * S <= padded_flop(s)) S *= 2;
    return S;
}

// Rows [begin, end) of dy, of all images.
void add_rows(float* dw, const float* x, const float* dy, const Conv2dShape& s, const int64_t* offset, int64_t begin,
              int64_t end) {
    const int64_t OH = s.OH(), OW = s.OW(), Wp = padded_row(s), taps = s.taps() * s.C, most = rows_at_once(s, 1);
    // Where dy is read once for each of several tiles, it should be in L1 from the second on.
    constexpr int64_t kFloats = 4096;
    const bool one_tile = taps <= kernels().MR && s.OC <= kernels().NR;
    const int64_t together = one_tile ? most : std::max<int64_t>(kFloats / std::max<int64_t>(OW * s.OC, 1), 1);
    for (int64_t at = begin, last; at < end; at = last) {
        const int64_t n = at / OH, r0 = at % OH;
        last = std::min({end, (n + 1) * OH, at + most});
        const int64_t rows = last - at, needed = (rows - 1) * s.stride_h + extent(s.KH, s.dilation_h);
        const float* image = x + (n * s.H + r0 * s.stride_h) * Wp;  // in place, if there is no rim
        Scratch scratch;
        if (s.padded()) {
            float* padded = scratch.floats(needed * Wp);
            copy_padded(
                {.to = padded, .x = x, .shape = s, .n = n, .p0 = r0 * s.stride_h, .p1 = r0 * s.stride_h + needed});
            image = padded;
        }
        for (int64_t r = 0; r < rows; r += together)
            kernels().few_channels_weight({dw, image + r * s.stride_h * Wp, s.stride_h * Wp, s.stride_w * s.C, offset,
                                           taps, s.OC, dy + (at + r) * OW * s.OC, std::min(together, rows - r), OW});
    }
}

}  // namespace

int64_t weight_slots(const Conv2dShape& s) { return slot_count(s); }

void backward_weight(float* dweight, const float* x, const float* dy, const Conv2dShape& s) {
    const int64_t size = s.taps() * s.C * s.OC, S = slot_count(s), rows = s.N * s.OH();
    const int64_t step = (size + 15) / 16 * 16;  // no two slots share a cache line
    Scratch scratch;
    float* slots = S == 1 ? dweight : scratch.floats(S * step);
    const std::vector<int64_t> offset = tap_offsets(s);
    parallel_for(
        S, grain_units(kGrainFlop / 2, padded_flop(s) / static_cast<double>(S)), [&](int64_t begin, int64_t end) {
            for (int64_t slot = begin; slot < end; ++slot) {
                std::memset(slots + slot * step, 0, sizeof(float) * size);
                if (s.OW() > 0)
                    add_rows(slots + slot * step, x, dy, s, offset.data(), slot * rows / S, (slot + 1) * rows / S);
            }
        });
    if (S == 1) return;
    std::memcpy(dweight, slots, sizeof(float) * size);
    for (int64_t slot = 1; slot < S; ++slot) kernels().accumulate(dweight, slots + slot * step, size);
}

}  // namespace pycnn::few_channels
