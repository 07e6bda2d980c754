// Few channels: some rows of an image with its zero rim are a few KB, so each thread copies the rows that it needs and
// walks over them, a row of outputs (or of 2 x 2 windows) at a time.

#include "ops/conv2d/few_channels.h"

#include <cstring>

#include "ops/conv2d/pack.h"
#include "ops/runtime/dispatch.h"
#include "ops/runtime/parallel.h"
#include "ops/runtime/scratch.h"

namespace pycnn::few_channels {

// Measured against conv2d/direct.cpp on Zen 4 with two threads (microseconds, direct -> here; AVX-512, 16 images unless
// said): 32x32x3->16 3x3 forward 111 -> 96, 100 images 629 -> 473, gradient of the weight 124 -> 83, 100 images 604 ->
// 450; 224x224x3->64 3x3 forward 17,200 -> 14,000, gradient of the weight 17,300 -> 15,300; 32x32x4->32 3x3 forward 218
// -> 206, gradient of the weight 250 -> 238. More taps do not gain: 14x14x6->16 5x5 (150), 100 images, gradient of the
// weight 267 -> 338.
static bool fits(const Conv2dShape& s, Direction direction) {
    if (direction == Direction::backward_input) return fits_backward_input(s);
    return s.groups == 1 && s.C <= 4 && s.taps() * s.C <= kMaxFewChannelsTaps;
}

int64_t padded_row(const Conv2dShape& s) { return (s.pad.left + s.W + s.pad.right) * s.C; }

void copy_padded(const PaddedRows& rows) {
    const Conv2dShape& s = rows.shape;
    float* to = rows.to;
    const int64_t row = padded_row(s), before = s.pad.left * s.C, inside = s.W * s.C;
    for (int64_t p = rows.p0; p < rows.p1; ++p, to += row) {
        const int64_t h = p - s.pad.top;
        if (h < 0 || h >= s.H) {
            std::memset(to, 0, sizeof(float) * row);
            continue;
        }
        for (int64_t i = 0; i < before; ++i) to[i] = 0;
        std::memcpy(to + before, rows.x + (rows.n * s.H + h) * inside, sizeof(float) * inside);
        for (int64_t i = before + inside; i < row; ++i) to[i] = 0;
    }
}

std::vector<int64_t> tap_offsets(const Conv2dShape& s) {
    std::vector<int64_t> offset;
    for (int64_t kh = 0; kh < s.KH; ++kh)
        for (int64_t kw = 0; kw < s.KW; ++kw)
            for (int64_t c = 0; c < s.C; ++c)
                offset.push_back(kh * s.dilation_h * padded_row(s) + kw * s.dilation_w * s.C + c);
    return offset;
}

int64_t lanes(const Conv2dShape& s) { return ceil_div(s.OC, 16) * 16; }

int64_t rows_at_once(const Conv2dShape& s, int64_t rows_each) {
    constexpr int64_t kFloats = 16384;
    return std::max<int64_t>(kFloats / std::max<int64_t>(padded_row(s) * s.stride_h * rows_each, 1), 1);
}

namespace {

// Of y, an image: its rows and columns, and the rows of the map that each needs.
int64_t rows_of(const Conv2dForward& p) { return p.pooled() ? p.PH : p.shape.OH(); }
int64_t cols_of(const Conv2dForward& p) { return p.pooled() ? p.PW : p.shape.OW(); }
int64_t rows_each(const Conv2dForward& p) { return p.pooled() ? 2 : 1; }

// Rows [r0, r1) of y of image n.
void run_image(const Conv2dForward& p, const int64_t* offset, int64_t n, int64_t r0, int64_t r1) {
    const Conv2dShape& s = p.shape;
    const int64_t Wp = padded_row(s), each = rows_each(p);
    const int64_t first = r0 * each * s.stride_h, map_rows = std::min(r1 * each, s.OH());
    const int64_t last = (map_rows - 1) * s.stride_h + extent(s.KH, s.dilation_h);
    Scratch scratch;
    float* padded = scratch.floats((last - first) * Wp);
    copy_padded({.to = padded, .x = p.x, .shape = s, .n = n, .p0 = first, .p1 = last});
    for (int64_t r = r0; r < r1; ++r) {
        const int64_t to = (n * rows_of(p) + r) * cols_of(p) * s.OC;
        kernels().few_channels_row({.y = p.y + to,
                                    .where = p.where ? p.where + to : nullptr,
                                    .x = padded + (r * each * s.stride_h - first) * Wp,
                                    .step_h = s.stride_h * Wp,
                                    .step_w = s.stride_w * s.C,
                                    .w = p.packed,
                                    .offset = offset,
                                    .taps = s.taps() * s.C,
                                    .OC = s.OC,
                                    .outputs = cols_of(p),
                                    .cols = s.OW(),
                                    .pool_rows = p.pooled() ? std::min<int64_t>(2, s.OH() - 2 * r) : 0,
                                    .epilogue = part_of(p.epilogue, 0, to)});
    }
}

void forward(const Conv2dForward& p) {
    const Conv2dShape& s = p.shape;
    const int64_t rows = rows_of(p), most = rows_at_once(s, rows_each(p));
    if (s.N * rows * cols_of(p) == 0) return;
    const std::vector<int64_t> offset = tap_offsets(s);
    const double flop = 2.0 * rows_each(p) * s.OW() * s.taps() * s.C * lanes(s);
    parallel_for(s.N * rows, grain_units(kGrainFlop / 2, flop), [&](int64_t begin, int64_t end) {
        for (int64_t at = begin; at < end;) {
            const int64_t n = at / rows, r0 = at % rows, r1 = std::min({r0 + end - at, rows, r0 + most});
            run_image(p, offset.data(), n, r0, r1);
            at += r1 - r0;
        }
    });
}

// By the measurements above, the least of them. The gradient of the input adds up taps whatever OC is, and interleaves
// phases where there is a stride. Fitted to 28x28, 16 images and one, 3x3 with stride 1 and 2 and 5x5, two threads of a
// Zen 4, AVX-512; measured, direct / here, 16 images, 3x3 (3x3/2): C = 8, OC = 4 0.48 (0.48), 8 0.67 (0.59), 16 0.90
// (0.73), 32 1.12 (0.91); C = 6 0.63 (0.63), 0.90 (0.77), 1.21 (0.95), 1.56 (1.24); C = 4 0.91 (0.80), 1.25 (1.03), 1.67
// (1.30), 2.10 (1.53).
double cost(const Conv2dShape& s, Direction direction, bool packed) {
    const double plain = direct::algorithm.cost(s, direction, packed);
    if (direction != Direction::backward_input) return 0.9 * plain;
    const bool strided = s.stride_h * s.stride_w > 1;
    const double OC = static_cast<double>(s.OC), here = strided ? 36 : 14, there = strided ? 9 : 2;
    return plain * static_cast<double>(s.C) * (OC + here) / (12 * (OC + there));
}

Cut cut(const Conv2dShape& s, Direction direction) {
    if (direction == Direction::backward_weight) return cut_units(weight_slots(s));
    return cut_units(s.N * (direction == Direction::forward ? s.OH() : s.H));
}

}  // namespace

const Algorithm algorithm = {
    .name = "few_channels",
    .reason = "few input channels: all taps in one short loop over the image",
    .computes = "one group of at most 4 input channels (8 for the gradient of the input) and 49 taps times channels",
    .fits = fits,
    .cost = cost,
    .cut = cut,
    .forward = forward,
    .backward_input = backward_input,
    .backward_weight = backward_weight,
    .pools = true,
    .packed_floats = packed_forward_floats,
    .pack = pack_forward};

}  // namespace pycnn::few_channels
