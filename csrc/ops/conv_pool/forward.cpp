// conv_pool forward. 3 x 3 of stride 1 runs as Winograd, whose tiles end at windows, images of one channel have a kernel
// of their own; both pool in registers. Any other convolution: images in chunks whose map stays in L2, then one pass
// over it.

#include "ops/conv2d/few_channels.h"
#include "ops/conv2d/pack.h"
#include "ops/conv2d/winograd.h"
#include "ops/conv_pool/conv_pool.h"
#include "ops/runtime/dispatch.h"
#include "ops/runtime/parallel.h"
#include "ops/runtime/workspace.h"

namespace pycnn {
namespace {

void in_chunks(float* y, uint8_t* where, const float* x, const float* weight, const float* bias, const ConvPoolShape& b,
               Algorithm algorithm) {
    const Conv2dShape& s = b.conv;
    const int64_t OH = s.OH(), OW = s.OW(), map = OH * OW * s.OC, row = b.PW * s.OC;
    constexpr int64_t kFloats = 65536;  // 256 KB
    const int64_t chunk = std::max<int64_t>(std::min(kFloats / map, s.N), 1);
    parallel_for(s.N, grain_units(kGrainFlop, s.flop() / std::max<int64_t>(s.N, 1)), [&](int64_t begin, int64_t end) {
        float* room = scratch(Scratch::block, std::min(chunk, end - begin) * map);
        for (int64_t first = begin; first < end; first += chunk) {
            Conv2dShape part = s;
            part.N = std::min(chunk, end - first);
            const float* images = x + first * s.H * s.W * s.C;
            if (algorithm == Algorithm::direct)
                direct::forward(room, images, weight, part, {}, chunk);
            else
                conv2d_forward(room, images, weight, part, algorithm, {});
            for (int64_t r = 0; r < part.N * b.PH; ++r) {
                const int64_t n = r / b.PH, ph = r % b.PH, at = (first * b.PH + r) * row;
                kernels().conv_pool_row(
                    y + at, where ? where + at : nullptr,
                    {room + n * map + 2 * ph * OW * s.OC, OW, s.OC, b.PW, b.window_rows(ph), bias, b.relu});
            }
        }
    });
}

}  // namespace

void conv_pool_forward(float* y, uint8_t* where, const float* x, const float* weight, const float* bias,
                       const ConvPoolShape& b, Algorithm algorithm) {
    const Conv2dShape& s = b.conv;
    if (algorithm == Algorithm::automatic) algorithm = choose(s, Direction::forward).algorithm;
    if (algorithm == Algorithm::winograd) {
        const int64_t m = winograd::tile_size(s.OH(), s.OW());
        winograd::run(
            {x, y, where, s.N, s.H, s.W, s.C, s.OH(), s.OW(), s.OC, s.pad.top, s.pad.left, b.PH, b.PW, {bias, b.relu}},
            m, winograd::filter(pack_forward(weight, s), s.C, s.OC, m));
    } else if (algorithm == Algorithm::direct && few_channels::fits(s)) {
        few_channels::conv_pool_forward(y, where, x, weight, bias, b);
    } else {
        in_chunks(y, where, x, weight, bias, b, algorithm);
    }
}

}  // namespace pycnn
