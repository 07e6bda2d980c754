// The parts of batch normalisation in float32 that norm.cpp and ../conv_norm/ share: how rows are cut into chunks, and
// what is done between the passes. Sums are taken a chunk at a time and added in order, so whoever runs the chunks, in
// whatever order, gets the same bits.
#pragma once
#include <algorithm>
#include <cstdint>
#include <limits>

#include "kernels/kernels.h"
#include "ops/epilogue.h"
#include "ops/maps/norm.h"
#include "ops/runtime/parallel.h"
#include "ops/shapes.h"

namespace pycnn::norm {

// Fewer than 16 channels share a vector: `fold` rows become one of 16 numbers, where rows and channels allow it. Lane l
// then belongs to channel l % channels.
struct Layout {
    int64_t all_rows, channels, fold, rows, C, chunk, chunks;

    Layout(int64_t all, int64_t all_channels) : all_rows(all), channels(all_channels) {
        constexpr int64_t kFloats = 4096;  // 16 KB: a chunk of x, and one of dy beside it, stay in L1
        const int64_t shared = channels < 16 && 16 % channels == 0 ? 16 / channels : 1;
        fold = all_rows % shared == 0 ? shared : 1;
        rows = all_rows / fold, C = channels * fold;
        chunk = std::min<int64_t>(std::max<int64_t>(kFloats / C, 32), 256);
        chunks = ceil_div(rows, chunk);
    }
    int64_t first(int64_t i) const { return i * chunk; }
    int64_t rows_of(int64_t i) const { return std::min(chunk, rows - first(i)); }
    int64_t at(int64_t i) const { return first(i) * C; }  // floats before chunk i
};

// In training a BatchNorm runs right behind a convolution, whose threads still spin, so a region pays early.
constexpr int64_t kGrainNorm = kGrainBytes / 8;

template <class Body>
void for_chunks(const Layout& l, double arrays, Body&& body) {
    parallel_for(l.chunks, grain_units(kGrainNorm, arrays * 4 * l.chunk * l.C), [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) body(i);
    });
}

// The coefficients of the kernels, in memory of the caller: [5][C], one for each lane. gradient_coefficients fills the
// last two.
struct Coefficients {
    float *mean, *scale, *shift, *constant, *slope;

    Coefficients(float* room, const NormFunction<float>& f, const Layout& l)
        : mean(room), scale(mean + l.C), shift(scale + l.C), constant(shift + l.C), slope(constant + l.C) {
        for (int64_t c = 0; c < l.channels; ++c) {
            mean[c] = f.mean[c], shift[c] = f.bias[c];
            scale[c] = f.scale ? f.scale[c] : norm_scale(f, c);
        }
        for (int64_t lane = l.channels; lane < l.C; ++lane) {
            const int64_t c = lane - l.channels;
            mean[lane] = mean[c], scale[lane] = scale[c], shift[lane] = shift[c];
        }
    }
    NormRows rows(int64_t count, int64_t C) const { return {count, C, mean, scale, shift}; }
};

// The kernels do relu and clip from 0 on themselves; other activations are a pass of their own over a chunk in L1.
inline bool is_late(const Activation& a) {
    return a.kind != Activation::none && a.kind != Activation::relu && !(a.kind == Activation::clip && a.a == 0);
}
inline NormRows activated(NormRows rows, const Activation& a) {
    rows.clips = a.kind != Activation::none && !is_late(a);
    rows.high = a.kind == Activation::relu ? std::numeric_limits<float>::quiet_NaN() : static_cast<float>(a.b);
    return rows;
}
// dy f' of a chunk, for the kernels to go on with: to `g`, from the rows of x and y = nullptr, or from y.
struct LateGradient {
    float* g;
    const float *dy, *x, *y;
};
void late_gradient(const LateGradient&, const NormRows& plain, const Activation&);

struct ChunkStatistics {
    float* parts;    // [chunks][near, sum, squares][C]
    const float* x;  // where chunk i lies
    int64_t i;
    float* copy = nullptr;  // where the chunk is written past the caches, or null
};
// Sums of a chunk to its parts; and mean and variance from all of them.
void chunk_statistics(const ChunkStatistics&, const Layout&);
void merge_statistics(float* mean, float* variance, const float* parts, const Layout&);

// The first pass of backward, with parts [chunks][g, g (x - mean)][C]: dweight, dbias, and the coefficients of dx.
void gradient_coefficients(const NormBackward<float>&, const NormFunction<float>&, const Coefficients&, float* parts);

}  // namespace pycnn::norm
