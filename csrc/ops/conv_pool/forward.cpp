// conv_pool forward. Winograd, whose tiles end at windows, and few channels pool in registers. Any other algorithm: images
// in chunks whose map stays in L2, then one pass over it.

#include "ops/conv_pool/conv_pool.h"
#include "ops/runtime/dispatch.h"
#include "ops/runtime/parallel.h"
#include "ops/runtime/scratch.h"

namespace pycnn {

void pool_in_chunks(const Algorithm& a, const Conv2dForward& call) {
    const Conv2dShape& s = call.shape;
    const ConvPoolShape b{.conv = s, .PH = call.PH, .PW = call.PW};
    const int64_t OH = s.OH(), OW = s.OW(), map = OH * OW * s.OC, row = b.PW * s.OC;
    constexpr int64_t kFloats = 65536;  // 256 KB
    const int64_t chunk = std::max<int64_t>(std::min(kFloats / map, s.N), 1);
    parallel_for(s.N, grain_units(kGrainFlop, s.flop() / std::max<int64_t>(s.N, 1)), [&](int64_t begin, int64_t end) {
        Scratch scratch;
        float* room = scratch.floats(std::min(chunk, end - begin) * map);
        for (int64_t first = begin; first < end; first += chunk) {
            Conv2dShape part = s;
            part.N = std::min(chunk, end - first);
            a.forward({.y = room,
                       .x = call.x + first * s.H * s.W * s.C,
                       .packed = call.packed,
                       .weight = call.weight,
                       .shape = part,
                       .like = chunk});
            for (int64_t r = 0; r < part.N * b.PH; ++r) {
                const int64_t n = r / b.PH, ph = r % b.PH, at = (first * b.PH + r) * row;
                kernels().conv_pool_row(call.y + at, call.where ? call.where + at : nullptr,
                                        {.map = room + n * map + 2 * ph * OW * s.OC,
                                         .OW = OW,
                                         .C = s.OC,
                                         .PW = b.PW,
                                         .rows = b.window_rows(ph),
                                         .epilogue = call.epilogue});
            }
        }
    });
}

void conv_pool_forward(const ConvPoolForward& call, const ConvPoolShape& b, std::string_view algorithm) {
    if (b.PH == 0 || b.PW == 0) return;  // a VALID pool of a map of one row or column
    const Algorithm& a = *find_algorithm(algorithm, b.conv, Direction::forward);
    Scratch scratch;
    run_forward(a, {.y = call.y,
                    .x = call.x,
                    .packed = packed_in_scratch(scratch, a, call.weight, b.conv),
                    .weight = call.weight,
                    .shape = b.conv,
                    .epilogue = {.bias = call.bias, .activation = b.relu ? kRelu : Activation{}},
                    .PH = b.PH,
                    .PW = b.PW,
                    .where = call.where});
}

}  // namespace pycnn
