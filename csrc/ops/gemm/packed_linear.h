// y [N][out] = x [N][in] weight [in][out] and an epilogue, with a weight that is packed once.
//
//   packed   panels [in][NR] of NR columns, the last one [in][16] where 16 or fewer columns are left
//
// An element adds its products in order, so a row of y has the same bits for any N. Many rows: a panel's KC rows stay
// in L2 while all of x passes by. One row: each panel is read once, from its beginning to its end, as fast as memory
// gives it; threads take panels.
#pragma once
#include <cstdint>
#include <memory>

#include "kernels/kernels.h"

namespace pycnn {

class PackedLinear {
  public:
    PackedLinear(const float* weight, int64_t in, int64_t out);

    void run(float* y, const float* x, int64_t N, const Epilogue&) const;  // without a residual
    const Kernels* isa() const { return isa_; }                            // whose panels these are

  private:
    int64_t panels() const;
    int64_t width(int64_t panel) const;  // floats in a row of it

    const Kernels* isa_;
    int64_t in_, out_;
    std::shared_ptr<float> packed_;
};

}  // namespace pycnn
