// Convolution of images with one or a few channels: the first layer of a network on grey or coloured images.
#pragma once
#include <vector>

#include "ops/conv2d/conv2d.h"

namespace pycnn::few_channels {

// Gradient of the input: few_channels_input.cpp.
bool fits_backward_input(const Conv2dShape&);
void backward_input(const Conv2dBackwardInput&);

// Gradient of the weight: few_channels_weight.cpp.
void backward_weight(float* dweight, const float* x, const float* dy, const Conv2dShape&);
int64_t weight_slots(const Conv2dShape&);  // that threads take

// Images with their zero rim, a few rows at a time: a row is `padded_row` floats, [left + W + right][C].
int64_t padded_row(const Conv2dShape&);
struct PaddedRows {  // rows [p0, p1) of image n
    float* to;
    const float* x;
    const Conv2dShape& shape;
    int64_t n, p0, p1;
};
void copy_padded(const PaddedRows&);
std::vector<int64_t> tap_offsets(const Conv2dShape&);  // of each tap (kh, kw, c) from an output's first tap
int64_t lanes(const Conv2dShape&);                     // that compute OC channels: what a grain counts
// Rows of outputs (or of windows, of two rows each) whose padded rows fill at most 64 KB.
int64_t rows_at_once(const Conv2dShape&, int64_t rows_each);

}  // namespace pycnn::few_channels
