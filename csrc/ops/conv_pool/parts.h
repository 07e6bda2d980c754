// What the files of conv_pool's backward share: backward.cpp calls the ways, sparse.cpp and dense.cpp hold them.
#pragma once
#include "ops/conv_pool/conv_pool.h"

namespace pycnn::conv_pool {

inline int64_t round_up(int64_t n, int64_t unit) { return ceil_div(n, unit) * unit; }

using Arrays = ConvPoolBackward;

// How the sparse way lays out its scratch. Channels come in blocks, so that a block of an image stays in L1:
//
//   image, dx    [blocks][padded_H][padded_W][width]                 with a rim of zeros
//   slot         [blocks][OC][KH][row]   sums of dweight             row: KW * width floats, rounded up to 16
//                [OC]                    sums of dbias
//   weights      [blocks][KH][OC][row]   transposed
//
// The map has 2 PH x 2 PW pixels here: what a pool leaves out has no list, nor has what it lacks.
struct Layout {
    int64_t width, blocks, padded_H, padded_W, row;
    int64_t group;  // images whose lists dweight's sums run through together

    explicit Layout(const ConvPoolShape& b);
    int64_t block_size() const { return padded_H * padded_W * width; }
    int64_t image_size() const { return blocks * block_size(); }
    bool fits_int32(const ConvPoolShape&) const;  // where a list starts, and where a patch starts in a group's images
};

struct SlotImages {
    float* slot;
    const Arrays& arrays;
    const ConvPoolShape& shape;
    int64_t begin, end;
};

// Sums over the images [begin, end) into a zeroed slot; writes dx of these images. `weights` may be null without dx.
void sparse_images(const SlotImages&, const Layout&, const float* weights);
void transpose_weights(float* weights, const float* weight, const Conv2dShape&, const Layout&);

// One input channel: slot [ceil(OC / 16)][KH][KW][16], then [OC] for dbias. No dx.
void one_channel_images(const SlotImages&);

// g = dy of image n where the window passes its relu, else zero: `room` or dy itself.
const float* masked(float* room, const Arrays&, const ConvPoolShape&, int64_t n);

// Un-pools dy and runs the convolution's own gradients, or that of the input alone: every shape.
void dense(const Arrays&, const ConvPoolShape&);
void dense_dx(const Arrays&, const ConvPoolShape&);

}  // namespace pycnn::conv_pool
