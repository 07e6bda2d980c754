// Depthwise convolution of the common shapes (depthwise_tile.cpp), for depthwise.cpp: false, and nothing done, for others.
#pragma once
#include "ops/conv2d/conv2d.h"

namespace pycnn::depthwise {

bool tiled_forward(const Conv2dForward&);
bool tiled_backward_input(const Conv2dBackwardInput&);
bool tiled_backward_weight(float* dweight, const float* x, const float* dy, const Conv2dShape&);

int64_t units(const Conv2dShape&, Direction);  // that threads take, of the common shapes; else rows

}  // namespace pycnn::depthwise
