// The machine's own limit: independent FMAs on registers, nothing else. What every share of peak is a share of.

#include "kernels.h"
#include "simd.h"
#include "table.h"

namespace pycnn::PYCNN_ISA {

// 12 vecs of accumulators hide an FMA latency of 4 at two a cycle on every register width.
double fma_peak(int64_t rounds) {
    constexpr int CHAINS = REG == 64 ? 12 : (REG == 32 ? 6 : 3);
    constexpr int64_t STEPS = 1024;
    vec acc[CHAINS];
    vec a = splat(0.999f), b = splat(0.001f);
    volatile float seed[CHAINS * VL] = {};  // volatile: registers that start alike would be merged into one
    float start[CHAINS * VL];
    for (int i = 0; i < CHAINS * VL; ++i) start[i] = seed[i];
    PYCNN_UNROLL for (int i = 0; i < CHAINS; ++i) acc[i] = load(start + i * VL);
    for (int64_t round = 0; round < rounds; ++round)
        for (int64_t step = 0; step < STEPS; ++step) {
            PYCNN_UNROLL for (int i = 0; i < CHAINS; ++i) acc[i] = fma(acc[i], a, b);
        }
    float sink[CHAINS];
    PYCNN_UNROLL for (int i = 0; i < CHAINS; ++i) sink[i] = sum_lanes(acc[i]);
    double total = 0.0;
    for (int i = 0; i < CHAINS; ++i) total += sink[i];
    // Adding zero times the result keeps the compiler from dropping the loop.
    return 2.0 * VL * CHAINS * static_cast<double>(STEPS * rounds) + 0.0 * total;
}

}  // namespace pycnn::PYCNN_ISA
