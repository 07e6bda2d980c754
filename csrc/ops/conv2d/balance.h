// How evenly a convolution of `algorithm="auto"` is cut over threads. For tests.
#pragma once
#include "ops/conv2d/conv2d.h"

namespace pycnn {

// The mean share of the threads over the largest one, counted in the units that the algorithm cuts; what a region must
// have to pay (kGrainFlop and its like) is left out.
double balance(const Conv2dShape&, Direction, int64_t threads);

}  // namespace pycnn
