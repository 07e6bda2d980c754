#include "ops/conv2d/balance.h"

#include <stdexcept>

#include "ops/conv2d/depthwise.h"
#include "ops/conv2d/few_channels.h"
#include "ops/conv2d/winograd.h"
#include "ops/runtime/cut.h"
#include "ops/runtime/dispatch.h"

namespace pycnn {

static Cut units_alone(int64_t units) { return {units, 1, false, false}; }

static Cut cut_of(const Conv2dShape& s, Direction d) {
    const Algorithm algorithm = choose(s, d).algorithm;
    const bool back = d == Direction::backward_input;
    const int64_t NR = kernels().NR, MR = kernels().MR, H = back ? s.H : s.OH(), W = back ? s.W : s.OW();
    if (algorithm == Algorithm::winograd) {
        const winograd::Tiles tiles(winograd::tile_size(H, W), s.N, H, W);
        if (d == Direction::backward_weight) return units_alone(winograd::weight_units(s, tiles.elements()));
        return cut_winograd(ceil_div(tiles.count(), MR), ceil_div(back ? s.C : s.OC, NR));
    }
    if (algorithm != Algorithm::direct)
        throw std::invalid_argument(
            "balance: this shape is computed by plain loops; expected one with vector kernels.");
    if (depthwise::fits(s)) return units_alone(depthwise::units(s, d));
    if (back ? few_channels::fits_backward_input(s) : few_channels::fits(s))
        return units_alone(d == Direction::backward_weight ? few_channels::weight_slots(s) : s.N * H);
    if (d == Direction::backward_weight) return units_alone(direct::weight_units(s));
    return cut_direct(s.N * (back ? ceil_div(s.H, s.stride_h) : s.OH()),
                      s.groups * ceil_div(back ? s.group_C() : s.group_OC(), NR));
}

double balance(const Conv2dShape& s, Direction d, int64_t threads) { return cut_of(s, d).balance(threads); }

}  // namespace pycnn
