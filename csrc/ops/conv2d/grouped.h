// Grouped convolution of narrow groups: several groups side by side fill a vector (csrc/kernels/grouped.cpp).
#pragma once
#include "ops/conv2d/conv2d.h"

namespace pycnn::grouped {

bool fits(const Conv2dShape&);  // more than one group, of at most 32 channels in and out; not depthwise

void forward(float* y, const float* x, const float* weight, const Conv2dShape&, const Epilogue&);
void backward_input(float* dx, const float* dy, const float* weight, const Conv2dShape&);
void backward_weight(float* dweight, const float* x, const float* dy, const Conv2dShape&);

}  // namespace pycnn::grouped
