// The weight of a convolution as one algorithm reads it: made in each call of a training (packed_in_scratch), once by a
// compiled network, which holds it here.
#pragma once
#include <memory>

#include "ops/conv2d/conv2d.h"
#include "ops/runtime/dispatch.h"
#include "ops/runtime/memory.h"

namespace pycnn {

class PackedConv2d {
  public:
    PackedConv2d(const Algorithm& a, std::shared_ptr<const float> weight, const Conv2dShape& s, Direction direction)
        : algorithm_(&a), isa_(&kernels()), data_(std::move(weight)) {
        const bool forward = direction == Direction::forward;
        const auto floats = forward ? a.packed_floats : a.packed_input_floats;
        const auto pack = forward ? a.pack : a.pack_input;
        if (!pack) return;
        const std::shared_ptr<float> packed = aligned_floats(floats(s));
        pack(packed.get(), data_.get(), s);
        data_ = packed;
    }

    bool is(const Algorithm& a) const { return algorithm_ == &a && isa_ == &kernels(); }
    const float* data() const { return data_.get(); }

  private:
    const Algorithm* algorithm_;
    const Kernels* isa_;  // whose panels they are
    std::shared_ptr<const float> data_;
};

}  // namespace pycnn
