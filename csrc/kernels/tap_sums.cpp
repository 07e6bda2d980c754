// Rows that overlap, added up: the last step of the gradient of an input with few channels (conv2d/few_channels_input.cpp).
//
//   out[j] = sum over taps t with begin_t <= j < end_t of at_t[j]        j < n, out overwritten
//
// Terms are added in the order of the list, starting from zero. Lanes of a row outside its range are loaded and
// dropped, so a NaN there is never seen; up to 15 floats on either side of the range are read.

#include "kernels.h"
#include "simd.h"
#include "table.h"

namespace pycnn::PYCNN_ISA {
namespace {

alignas(64) constexpr float kLane[VL] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

// Outputs [j, j + V * VL); of the last vec `last` lanes exist.
template <int V>
PYCNN_INLINE void sum_vecs(const TapSums& s, int64_t j, int64_t last) {
    const vec zero = splat(0.0f), lane = load(kLane);
    vec acc[V];
    PYCNN_UNROLL for (int v = 0; v < V; ++v) acc[v] = zero;
    for (int64_t t = 0; t < s.count; ++t) {
        const float* at = s.taps[t].at + j;
        const int64_t begin = s.taps[t].begin - j, end = s.taps[t].end - j;
        if (begin <= 0 && end >= V * VL) {
            PYCNN_UNROLL for (int v = 0; v < V; ++v) acc[v] = acc[v] + load(at + v * VL);
            continue;
        }
        PYCNN_UNROLL for (int v = 0; v < V; ++v) {
            const int64_t from = begin - v * VL, to = end - v * VL;
            if (from >= VL || to <= 0) continue;
            const vec before = splat(static_cast<float>(from)), after = splat(static_cast<float>(to));
            vec term = select(greater(before, lane), zero, load(at + v * VL));
            term = select(greater(after, lane), term, zero);
            acc[v] = acc[v] + term;
        }
    }
    PYCNN_UNROLL for (int v = 0; v < V; ++v) store_first(s.out + j + v * VL, acc[v], v == V - 1 ? last : VL);
}

}  // namespace

void tap_sums(const TapSums& s) {
    constexpr int V = 4;
    int64_t j = 0;
    for (; j + V * VL <= s.n; j += V * VL) sum_vecs<V>(s, j, VL);
    for (; j + VL <= s.n; j += VL) sum_vecs<1>(s, j, VL);
    if (j < s.n) sum_vecs<1>(s, j, s.n - j);
}

}  // namespace pycnn::PYCNN_ISA
