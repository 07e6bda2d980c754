// The gradients of a block with the map in between: dy un-pooled, then the convolution's own gradients. For strides,
// dilations and groups. And those of a convolution with relu and no pool.

#include <cstring>

#include "block_parts.h"
#include "elementwise.h"
#include "parallel.h"
#include "workspace.h"

namespace pycnn::block {

void dense(const Arrays& a, const BlockShape& b) {
    const Conv2dShape& s = b.conv;
    const int64_t OH = s.OH(), OW = s.OW(), pooled = b.PH * b.PW * s.OC, map = OH * OW * s.OC;
    float* dmap = scratch(Scratch::block_slots, s.N * (map + pooled));
    float* room = dmap + s.N * map;
    parallel_for(s.N, grain_units(kGrainBytes, 4.0 * (map + 3 * pooled)), [&](int64_t begin, int64_t end) {
        for (int64_t n = begin; n < end; ++n) {
            float* to = dmap + n * map;
            std::memset(to, 0, sizeof(float) * map);
            const float* g = masked(room + n * pooled, a, b, n, 1);
            const uint8_t* where = a.where + n * pooled;
            for (int64_t ph = 0; ph < b.PH; ++ph)
                for (int64_t pw = 0; pw < b.PW; ++pw, g += s.OC, where += s.OC)
                    for (int64_t oc = 0; oc < s.OC; ++oc)
                        to[((2 * ph + where[oc] / 2) * OW + 2 * pw + where[oc] % 2) * s.OC + oc] = g[oc];
        }
    });
    if (a.dbias) sum_rows(a.dbias, b.relu ? room : a.dy, s.N * b.PH * b.PW, s.OC);
    conv2d_backward_weight(a.dweight, a.x, dmap, s, Algorithm::automatic);
    if (a.dx) conv2d_backward_input(a.dx, dmap, a.weight, s, Algorithm::automatic);
}

}  // namespace pycnn::block

namespace pycnn {

void conv2d_relu_backward(float* dweight, float* dbias, float* dx, const float* dy, const float* y, const float* x,
                          const float* weight, const Conv2dShape& s, Algorithm algorithm) {
    const int64_t pixels = s.N * s.OH() * s.OW();
    float* g = scratch(Scratch::block_slots, pixels * s.OC);
    relu_backward(g, dy, y, pixels * s.OC);
    if (dbias) sum_rows(dbias, g, pixels, s.OC);
    conv2d_backward_weight(dweight, x, g, s, algorithm);
    if (dx) conv2d_backward_input(dx, g, weight, s, algorithm);
}

}  // namespace pycnn
