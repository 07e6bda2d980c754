// Weights in the order in which a convolution kernel streams through them: panels [groups][panels][taps][K][NR], K the
// channels that are summed, zeros past the last column.
#pragma once
#include <cstdint>
#include <vector>

#include "ops/runtime/scratch.h"
#include "ops/shapes.h"

namespace pycnn {

// Columns are output channels, K the input channels; taps in the order of the weight.
int64_t packed_forward_floats(const Conv2dShape&);
void pack_forward(float* packed, const float* weight, const Conv2dShape&);

// Columns are input channels, K the output channels; only the taps kh x kw, in this order.
struct PackBackward {
    const float* weight;
    const Conv2dShape& shape;
    std::vector<int64_t> kh, kw;
};
void pack_backward(float* packed, const PackBackward&);
// The same into scratch memory of the caller.
const float* pack_backward(Scratch&, const PackBackward&);

}  // namespace pycnn
