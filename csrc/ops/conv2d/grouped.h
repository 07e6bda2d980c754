// Grouped convolution of narrow groups: several groups side by side fill a vector (csrc/kernels/grouped.cpp).
#pragma once
#include "ops/conv2d/conv2d.h"

namespace pycnn::grouped {

void backward_weight(float* dweight, const float* x, const float* dy, const Conv2dShape&);  // grouped_weight.cpp

}  // namespace pycnn::grouped
