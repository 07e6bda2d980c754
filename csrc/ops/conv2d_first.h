// Convolution of images with one or a few channels: the first layer of a network on grey or coloured images.
#pragma once
#include "block.h"
#include "conv2d.h"

namespace pycnn::first {

bool fits(const Conv2dShape&);  // C = 1, at most 7 x 7 taps
void forward(float* y, const float* x, const float* weight, const Conv2dShape&, const Epilogue&);
void block_forward(float* y, uint8_t* where, const float* x, const float* weight, const float* bias, const BlockShape&);

// Gradient of the input: conv2d_first_input.cpp.
bool fits_backward_input(const Conv2dShape&);
void backward_input(float* dx, const float* dy, const float* weight, const Conv2dShape&);

}  // namespace pycnn::first
