// What conv2d/direct.cpp computes, and the pixels that it hands to the kernel.
#pragma once
#include <vector>

#include "ops/conv2d/axis.h"
#include "ops/conv2d/conv2d.h"
#include "ops/runtime/dispatch.h"

namespace pycnn::direct {

struct Correlation {
    const float* in;  // [N][h.size][w.size][C]
    int64_t N, C;
    Axis h, w;

    float* out;  // [N][out_H][out_W][out_C]
    int64_t out_H, out_W, out_C, out_step_h, out_step_w, out_row, out_col;

    int64_t groups;       // input channels and output channels are cut into this many equal parts
    const float* packed;  // [groups][panels][K][NR]
    Epilogue epilogue;
    bool stream;  // out is larger than the caches

    int64_t taps() const { return h.taps_count() * w.taps_count(); }
    int64_t group_in() const { return C / groups; }
    int64_t group_out() const { return out_C / groups; }
    int64_t K() const { return taps() * group_in(); }
    // Floats between pixels of a copied block. Where more than 7 pixels of a tile lie multiples of 4 KB apart they
    // push each other out of L1 (7x7x1024->1024 ran at 0.64 of the FMA peak so, AVX-512), and a line more helps.
    int64_t pitch() const { return collide() ? C + 16 : C; }
    bool collide() const {
        const int64_t apart = w.step * C;  // 1024 floats are 4 KB
        for (int64_t lines = 1; lines <= 1024; lines *= 2)
            if (apart * lines % 1024 == 0) return ceil_div(kernels().MR, lines) > 7;
        return false;
    }
    int64_t panels() const { return ceil_div(group_out(), kernels().NR); }
    float* out_at(int64_t n, int64_t r, int64_t q) const {
        return out + ((n * out_H + r * out_step_h + out_row) * out_W + q * out_step_w + out_col) * out_C;
    }
};

// offset[k] of tap (i, j), channel c in an image of rows of W pixels, `pitch` floats each.
inline std::vector<int64_t> tap_offsets(const Correlation& s, int64_t W, int64_t pitch) {
    std::vector<int64_t> offset;
    for (const Tap& i : s.h.taps)
        for (const Tap& j : s.w.taps)
            for (int64_t c = 0; c < s.group_in(); ++c) offset.push_back((i.d * W + j.d) * pitch + c);
    return offset;
}

struct Pixels {  // of one sort in one block: where each reads its first tap and where it writes
    std::vector<const float*> in;
    std::vector<float*> out;
    std::vector<const float*> a;  // the same for one panel
    std::vector<float*> c;

    void clear() { in.clear(), out.clear(); }
    int64_t count() const { return static_cast<int64_t>(in.size()); }

    // A run of them. Written through pointers: with few steps to a pixel, one push_back each shows.
    void add(int64_t more, const float* first_in, int64_t in_step, float* first_out, int64_t out_step) {
        const std::size_t before = in.size();
        in.resize(before + more), out.resize(before + more);
        const float** to_in = in.data() + before;
        float** to_out = out.data() + before;
        for (int64_t i = 0; i < more; ++i) to_in[i] = first_in + i * in_step;
        for (int64_t i = 0; i < more; ++i) to_out[i] = first_out + i * out_step;
    }
};

}  // namespace pycnn::direct
