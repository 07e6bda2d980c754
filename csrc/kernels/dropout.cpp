// Dropout: y = x * (draw(position) >= least ? scale : 0). A draw is 24 bits of a hash of the position and two keys, so
// it depends on neither threads nor vectors, and backward draws it again instead of reading a mask.
//
//   mix(h)            h ^= h >> 16, h *= 0x7feb352d, h ^= h >> 15, h *= 0x846ca68b, h ^= h >> 16
//   draw(position)    mix(mix(position + key0) ^ key1) >> 8
//
// mix is lowbias32 of C. Wellons' hash prospector. x, y [size]; may run in place; NaN and Inf that are dropped give
// NaN.

#include "kernels.h"
#include "simd.h"
#include "table.h"

namespace pycnn::PYCNN_ISA {
namespace {

PYCNN_INLINE uvec mix(uvec h) {
    h = (h ^ shift_right(h, 16)) * usplat(0x7feb352du);
    h = (h ^ shift_right(h, 15)) * usplat(0x846ca68bu);
    return h ^ shift_right(h, 16);
}

const uint32_t kLane[VL] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

PYCNN_INLINE void dropout_vec(const Dropout& s, int64_t i, int64_t lanes) {
    const uint32_t first = s.first + static_cast<uint32_t>(i);
    const uvec draw = shift_right(mix(mix(load(kLane) + usplat(first + s.key0)) ^ usplat(s.key1)), 8);
    const vec mask = select(at_least(draw, usplat(s.least)), splat(s.scale), splat(0.0f));
    store_first(s.y + i, load_first(s.x + i, lanes) * mask, lanes);
}

}  // namespace

void dropout(const Dropout& s) {
    int64_t i = 0;
    for (; i + VL <= s.size; i += VL) dropout_vec(s, i, VL);
    if (i < s.size) dropout_vec(s, i, s.size - i);
}

}  // namespace pycnn::PYCNN_ISA
