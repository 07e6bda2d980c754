// A block forward: images in chunks whose map stays in L2; convolution, then pool, bias and relu in one pass.

#include "block.h"
#include "dispatch.h"
#include "parallel.h"
#include "workspace.h"

namespace pycnn {

void block_forward(float* y, uint8_t* where, const float* x, const float* weight, const float* bias,
                   const BlockShape& b, Algorithm algorithm) {
    const Conv2dShape& s = b.conv;
    const int64_t OH = s.OH(), OW = s.OW(), map = OH * OW * s.OC, row = b.PW * s.OC;
    constexpr int64_t kFloats = 65536;  // 256 KB
    const int64_t chunk = std::max<int64_t>(std::min(kFloats / map, s.N), 1);
    parallel_for(s.N, grain_units(kGrainFlop, s.flop() / std::max<int64_t>(s.N, 1)), [&](int64_t begin, int64_t end) {
        float* room = scratch(Scratch::block, std::min(chunk, end - begin) * map);
        for (int64_t first = begin; first < end; first += chunk) {
            Conv2dShape part = s;
            part.N = std::min(chunk, end - first);
            conv2d_forward(room, x + first * s.H * s.W * s.C, weight, part, algorithm, {});
            for (int64_t r = 0; r < part.N * b.PH; ++r) {
                const int64_t n = r / b.PH, ph = r % b.PH, at = (first * b.PH + r) * row;
                kernels().block_pool_row(
                    y + at, where ? where + at : nullptr,
                    {room + n * map + 2 * ph * OW * s.OC, OW, s.OC, b.PW, b.window_rows(ph), bias, b.relu});
            }
        }
    });
}

}  // namespace pycnn
