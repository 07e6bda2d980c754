// Grouped convolution of narrow groups: several groups side by side fill a vector (csrc/kernels/grouped.cpp).
#pragma once
#include "ops/conv2d/conv2d.h"

namespace pycnn::grouped {

// grouped_weight.cpp
void backward_weight(float* dweight, const float* x, const float* dy, const Conv2dShape&);
int64_t weight_units(const Conv2dShape&);  // that threads take in it

}  // namespace pycnn::grouped
