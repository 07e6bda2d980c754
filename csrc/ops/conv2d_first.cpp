// One channel: an image with its zero rim is a few KB, so each thread copies the rows that it needs and walks over
// them, a row of outputs (or of 2 x 2 windows) at a time.

#include "conv2d_first.h"

#include <cstring>
#include <vector>

#include "dispatch.h"
#include "parallel.h"
#include "workspace.h"

namespace pycnn::first {

bool fits(const Conv2dShape& s) { return s.C == 1 && s.taps() <= kMaxFirstTaps; }

namespace {

struct Problem {
    const Conv2dShape& s;
    const float *x, *weight, *bias;
    float* y;
    uint8_t* where;
    bool relu;
    int64_t PH, PW;  // 0: no pool

    int64_t padded_W() const { return s.pad.left + s.W + s.pad.right; }
    int64_t rows() const { return PH ? PH : s.OH(); }  // of y, an image
    int64_t cols() const { return PH ? PW : s.OW(); }
    int64_t rows_each() const { return PH ? 2 : 1; }  // rows of the map that a row of y needs
};

// Padded rows [p0, p1) of image n.
void copy_padded(float* to, const Problem& p, int64_t n, int64_t p0, int64_t p1) {
    const Conv2dShape& s = p.s;
    const int64_t Wp = p.padded_W();
    std::memset(to, 0, sizeof(float) * (p1 - p0) * Wp);
    for (int64_t row = std::max(p0, s.pad.top); row < std::min(p1, s.pad.top + s.H); ++row)
        std::memcpy(to + (row - p0) * Wp + s.pad.left, p.x + (n * s.H + row - s.pad.top) * s.W, sizeof(float) * s.W);
}

// Rows [r0, r1) of y of image n.
void run_image(const Problem& p, const int64_t* offset, int64_t n, int64_t r0, int64_t r1) {
    const Conv2dShape& s = p.s;
    const int64_t Wp = p.padded_W(), each = p.rows_each();
    const int64_t first = r0 * each * s.stride_h, map_rows = std::min(r1 * each, s.OH());
    const int64_t last = (map_rows - 1) * s.stride_h + extent(s.KH, s.dilation_h);
    float* padded = scratch(Scratch::padded, (last - first) * Wp);
    copy_padded(padded, p, n, first, last);
    for (int64_t r = r0; r < r1; ++r) {
        const int64_t to = (n * p.rows() + r) * p.cols() * s.OC;
        kernels().first_layer_row({p.y + to, p.where ? p.where + to : nullptr,
                                   padded + (r * each * s.stride_h - first) * Wp, s.stride_h * Wp, s.stride_w, p.weight,
                                   offset, s.taps(), s.OC, p.cols(), s.OW(),
                                   p.PH ? std::min<int64_t>(2, s.OH() - 2 * r) : 0, p.bias, p.relu});
    }
}

void run(const Problem& p) {
    const Conv2dShape& s = p.s;
    std::vector<int64_t> offset;
    for (int64_t kh = 0; kh < s.KH; ++kh)
        for (int64_t kw = 0; kw < s.KW; ++kw) offset.push_back(kh * s.dilation_h * p.padded_W() + kw * s.dilation_w);
    const int64_t rows = p.rows();
    const double flop = 2.0 * p.rows_each() * s.OW() * s.taps() * s.OC;
    parallel_for(s.N * rows, grain_units(kGrainFlop / 2, flop), [&](int64_t begin, int64_t end) {
        for (int64_t at = begin; at < end;) {
            const int64_t n = at / rows, r0 = at % rows, r1 = std::min(r0 + end - at, rows);
            run_image(p, offset.data(), n, r0, r1);
            at += r1 - r0;
        }
    });
}

}  // namespace

void forward(float* y, const float* x, const float* weight, const Conv2dShape& s, const Epilogue& epilogue) {
    run({s, x, weight, epilogue.bias, y, nullptr, epilogue.relu, 0, 0});
}

void block_forward(float* y, uint8_t* where, const float* x, const float* weight, const float* bias,
                   const BlockShape& b) {
    if (b.PH == 0 || b.PW == 0) return;  // a VALID pool of a map of one row or column
    run({b.conv, x, weight, bias, y, where, b.relu, b.PH, b.PW});
}

}  // namespace pycnn::first
