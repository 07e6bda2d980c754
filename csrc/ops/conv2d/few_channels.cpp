// Few channels: some rows of an image with its zero rim are a few KB, so each thread copies the rows that it needs and
// walks over them, a row of outputs (or of 2 x 2 windows) at a time.

#include "ops/conv2d/few_channels.h"

#include <cstring>

#include "ops/conv2d/pack.h"
#include "ops/runtime/dispatch.h"
#include "ops/runtime/parallel.h"
#include "ops/runtime/workspace.h"

namespace pycnn::few_channels {

// Measured against conv2d/direct.cpp on Zen 4 with two threads (microseconds, direct -> here; AVX-512, 16 images unless
// said): 32x32x3->16 3x3 forward 111 -> 96, 100 images 629 -> 473, gradient of the weight 124 -> 83, 100 images 604 ->
// 450; 224x224x3->64 3x3 forward 17,200 -> 14,000, gradient of the weight 17,300 -> 15,300; 32x32x4->32 3x3 forward 218
// -> 206, gradient of the weight 250 -> 238. More taps do not gain: 14x14x6->16 5x5 (150), 100 images, gradient of the
// weight 267 -> 338.
bool fits(const Conv2dShape& s) { return s.groups == 1 && s.C <= 4 && s.taps() * s.C <= kMaxFewChannelsTaps; }

int64_t padded_row(const Conv2dShape& s) { return (s.pad.left + s.W + s.pad.right) * s.C; }

void copy_padded(float* to, const float* x, const Conv2dShape& s, int64_t n, int64_t p0, int64_t p1) {
    const int64_t row = padded_row(s), before = s.pad.left * s.C, inside = s.W * s.C;
    for (int64_t p = p0; p < p1; ++p, to += row) {
        const int64_t h = p - s.pad.top;
        if (h < 0 || h >= s.H) {
            std::memset(to, 0, sizeof(float) * row);
            continue;
        }
        for (int64_t i = 0; i < before; ++i) to[i] = 0;
        std::memcpy(to + before, x + (n * s.H + h) * inside, sizeof(float) * inside);
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

struct Problem {
    const Conv2dShape& s;
    const float *x, *packed, *bias;
    float* y;
    uint8_t* where;
    bool relu;
    int64_t PH, PW;  // 0: no pool

    int64_t rows() const { return PH ? PH : s.OH(); }  // of y, an image
    int64_t cols() const { return PH ? PW : s.OW(); }
    int64_t rows_each() const { return PH ? 2 : 1; }  // rows of the map that a row of y needs
};

// Rows [r0, r1) of y of image n.
void run_image(const Problem& p, const int64_t* offset, int64_t n, int64_t r0, int64_t r1) {
    const Conv2dShape& s = p.s;
    const int64_t Wp = padded_row(s), each = p.rows_each();
    const int64_t first = r0 * each * s.stride_h, map_rows = std::min(r1 * each, s.OH());
    const int64_t last = (map_rows - 1) * s.stride_h + extent(s.KH, s.dilation_h);
    float* padded = scratch(Scratch::padded, (last - first) * Wp);
    copy_padded(padded, p.x, s, n, first, last);
    for (int64_t r = r0; r < r1; ++r) {
        const int64_t to = (n * p.rows() + r) * p.cols() * s.OC;
        kernels().few_channels_row({p.y + to, p.where ? p.where + to : nullptr,
                                    padded + (r * each * s.stride_h - first) * Wp, s.stride_h * Wp, s.stride_w * s.C,
                                    p.packed, offset, s.taps() * s.C, s.OC, p.cols(), s.OW(),
                                    p.PH ? std::min<int64_t>(2, s.OH() - 2 * r) : 0, p.bias, p.relu});
    }
}

void run(const Problem& p) {
    const Conv2dShape& s = p.s;
    if (s.N * p.rows() * p.cols() == 0) return;
    const std::vector<int64_t> offset = tap_offsets(s);
    const int64_t rows = p.rows(), most = rows_at_once(s, p.rows_each());
    const double flop = 2.0 * p.rows_each() * s.OW() * s.taps() * s.C * lanes(s);
    parallel_for(s.N * rows, grain_units(kGrainFlop / 2, flop), [&](int64_t begin, int64_t end) {
        for (int64_t at = begin; at < end;) {
            const int64_t n = at / rows, r0 = at % rows, r1 = std::min({r0 + end - at, rows, r0 + most});
            run_image(p, offset.data(), n, r0, r1);
            at += r1 - r0;
        }
    });
}

}  // namespace

void forward(float* y, const float* x, const float* weight, const Conv2dShape& s, const Epilogue& epilogue) {
    run({s, x, pack_forward(weight, s), epilogue.bias, y, nullptr, epilogue.relu, 0, 0});
}

void conv_pool_forward(float* y, uint8_t* where, const float* x, const float* weight, const float* bias,
                       const ConvPoolShape& b) {
    if (b.PH == 0 || b.PW == 0) return;  // a VALID pool of a map of one row or column
    run({b.conv, x, pack_forward(weight, b.conv), bias, y, where, b.relu, b.PH, b.PW});
}

}  // namespace pycnn::few_channels
