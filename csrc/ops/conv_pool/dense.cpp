// The gradients of conv_pool with the map in between: dy un-pooled, then the convolution's own gradients. For strides,
// dilations and groups, and dx where Winograd is faster than lists. And those of a convolution with relu and no pool.

#include <cstring>

#include "ops/conv_pool/parts.h"
#include "ops/maps/combine.h"
#include "ops/maps/elementwise.h"
#include "ops/runtime/parallel.h"
#include "ops/runtime/scratch.h"

namespace pycnn::conv_pool {

// to = g where `where` is p, else zero: without branches, which a random `where` would mispredict.
static void pick(float* __restrict to, const float* __restrict g, const uint8_t* __restrict where, uint8_t p,
                 int64_t OC) {
    for (int64_t oc = 0; oc < OC; ++oc) {
        const float value = g[oc];
        to[oc] = where[oc] == p ? value : 0.0f;
    }
}

// The map [OH][OW][OC] of one image: g at the pixels that `where` names, zero elsewhere.
static void unpool(float* map, const float* g, const uint8_t* where, const ConvPoolShape& b) {
    const int64_t OH = b.conv.OH(), OW = b.conv.OW(), OC = b.conv.OC;
    if (OH > 2 * b.PH || OW > 2 * b.PW) std::memset(map, 0, sizeof(float) * OH * OW * OC);  // what no window covers
    for (int64_t ph = 0; ph < b.PH; ++ph)
        for (int64_t pw = 0; pw < b.PW; ++pw, g += OC, where += OC)
            for (int64_t i = 0; i < b.window_rows(ph); ++i)
                for (int64_t j = 0; j < b.window_cols(pw); ++j)
                    pick(map + ((2 * ph + i) * OW + 2 * pw + j) * OC, g, where, static_cast<uint8_t>(2 * i + j), OC);
}

// The maps of all images in scratch memory; behind them g, masked, if there is a relu.
static float* unpooled(Scratch& scratch, const Arrays& a, const ConvPoolShape& b) {
    const Conv2dShape& s = b.conv;
    const int64_t pooled = b.PH * b.PW * s.OC, map = s.OH() * s.OW() * s.OC;
    float* maps = scratch.floats(s.N * (map + pooled));
    float* room = maps + s.N * map;
    parallel_for(s.N, grain_units(kGrainBytes, 4.0 * (map + 3 * pooled)), [&](int64_t begin, int64_t end) {
        for (int64_t n = begin; n < end; ++n)
            unpool(maps + n * map, masked(room + n * pooled, a, b, n), a.where + n * pooled, b);
    });
    return maps;
}

void dense_dx(const Arrays& a, const ConvPoolShape& b) {
    Scratch scratch;
    conv2d_backward_input({.dx = a.dx, .dy = unpooled(scratch, a, b), .weight = a.weight, .shape = b.conv});
}

void dense(const Arrays& a, const ConvPoolShape& b) {
    const Conv2dShape& s = b.conv;
    Scratch scratch;
    const float* maps = unpooled(scratch, a, b);
    const float* g = b.relu ? maps + s.N * s.OH() * s.OW() * s.OC : a.dy;
    if (a.dbias) sum_rows(a.dbias, g, s.N * b.PH * b.PW, s.OC);
    conv2d_backward_weight({.dweight = a.dweight, .x = a.x, .dy = maps, .shape = s});
    if (a.dx) conv2d_backward_input({.dx = a.dx, .dy = maps, .weight = a.weight, .shape = s});
}

}  // namespace pycnn::conv_pool

namespace pycnn {

void conv2d_activation_backward(const ConvPoolBackward& a, const Conv2dShape& s, const Activation& activation,
                                std::string_view algorithm) {
    const int64_t pixels = s.N * s.OH() * s.OW();
    Scratch scratch;
    float* g = scratch.floats(pixels * s.OC);
    activation_gradient<float>({.dx = g, .dy = a.dy, .v = a.y, .size = pixels * s.OC, .activation = activation});
    if (a.dbias) sum_rows(a.dbias, g, pixels, s.OC);
    conv2d_backward_weight({.dweight = a.dweight, .x = a.x, .dy = g, .shape = s}, algorithm);
    if (a.dx) conv2d_backward_input({.dx = a.dx, .dy = g, .weight = a.weight, .shape = s}, algorithm);
}

}  // namespace pycnn
