#include "ops/conv2d/pack.h"

#include "ops/runtime/dispatch.h"
#include "ops/runtime/parallel.h"
#include "ops/runtime/scratch.h"

namespace pycnn {

int64_t packed_forward_floats(const Conv2dShape& s) {
    const int64_t NR = kernels().NR;
    return s.groups * ceil_div(s.group_OC(), NR) * s.taps() * s.group_C() * NR;
}

void pack_forward(float* packed, const float* weight, const Conv2dShape& s) {
    const int64_t NR = kernels().NR, panels = ceil_div(s.group_OC(), NR), K = s.taps() * s.group_C();
    parallel_for(s.groups * panels, grain_units(kGrainBytes, 8.0 * K * NR), [&](int64_t begin, int64_t end) {
        for (int64_t p = begin; p < end; ++p) {
            const int64_t g = p / panels, jr = p % panels * NR;
            kernels().gemm_pack_b(packed + p * K * NR, {weight + g * s.group_OC() + jr, s.OC, 1}, K,
                                  std::min(NR, s.group_OC() - jr));
        }
    });
}

void pack_backward(float* packed, const PackBackward& a) {
    const Conv2dShape& s = a.shape;
    const int64_t NR = kernels().NR, Cg = s.group_C(), OCg = s.group_OC(), panels = ceil_div(Cg, NR);
    const int64_t across = static_cast<int64_t>(a.kw.size()), T = static_cast<int64_t>(a.kh.size()) * across,
                  K = T * OCg;
    parallel_for(s.groups * panels * T, grain_units(kGrainBytes, 16.0 * OCg * NR), [&](int64_t begin, int64_t end) {
        for (int64_t unit = begin; unit < end; ++unit) {
            const int64_t t = unit % T, p = unit / T, g = p / panels, jr = p % panels * NR;
            const float* tap = a.weight + ((a.kh[t / across] * s.KW + a.kw[t % across]) * Cg + jr) * s.OC + g * OCg;
            kernels().gemm_pack_b(packed + p * K * NR + t * OCg * NR, {tap, 1, s.OC}, OCg, std::min(NR, Cg - jr));
        }
    });
}

const float* pack_backward(Scratch& scratch, const PackBackward& a) {
    const Conv2dShape& s = a.shape;
    const int64_t NR = kernels().NR, taps = static_cast<int64_t>(a.kh.size() * a.kw.size());
    float* packed =
        scratch.floats(std::max<int64_t>(taps * s.groups * ceil_div(s.group_C(), NR) * NR * s.group_OC(), 1));
    pack_backward(packed, a);
    return packed;
}

}  // namespace pycnn
