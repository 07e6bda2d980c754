// Losses that compare number with number, with their gradients in the same pass. d = x - t:
//
//   squared        value d^2                                             slope 2 d
//   absolute       |d|                                                   the sign of d, 0 for 0
//   huber          d^2 / 2 up to |d| = delta, then delta (|d| - delta/2) d, then delta sign(d)
//   cross_entropy  positive t softplus(-x) + (1 - t) softplus(x)         (1 - t) sigmoid(x) - positive t sigmoid(-x)
//
//   returns the sum of weight * value; dx = slope * weight * scale, overwritten
//
//   x, t, dx, weight, positive  [size]; no weight, no positive: ones. A NaN shows in both.
//
// With e = exp(-|x|), softplus(x) = max(x, 0) + log(1 + e), and sigmoid is 1 / (1 + e) on the one side and e / (1 + e) on the
// other. So nothing is taken away from a nearly equal number, and what is small keeps its digits: PyTorch's (1 - t) x + (1 +
// (p - 1) t) (log(1 + e) + max(-x, 0)) has x - x in it.

#include "exp.h"
#include "kernels.h"
#include "simd_maps.h"
#include "table.h"

namespace pycnn::PYCNN_ISA {
namespace {

struct Both {
    vec value, slope;
};

PYCNN_INLINE vec negative(vec v) { return splat(0.0f) - v; }
// The larger of v and 0; NaN stays NaN.
PYCNN_INLINE vec above_zero(vec v) { return larger(splat(0.0f), v); }
PYCNN_INLINE vec magnitude(vec v) { return larger(negative(v), v); }
PYCNN_INLINE vec sign(vec v) {
    return select(greater(v, splat(0.0f)), splat(1.0f), select(greater(splat(0.0f), v), splat(-1.0f), v));
}

struct Squared {
    PYCNN_INLINE Both at(vec x, vec t, vec, float) {
        const vec d = x - t;
        return {d * d, d + d};
    }
};
struct Absolute {
    PYCNN_INLINE Both at(vec x, vec t, vec, float) {
        const vec d = x - t;
        return {magnitude(d), sign(d)};
    }
};
struct Huber {
    PYCNN_INLINE Both at(vec x, vec t, vec, float delta) {
        const vec d = x - t, a = magnitude(d), limit = splat(delta);
        const ivec far = greater(a, limit);
        return {select(far, limit * (a - splat(0.5f * delta)), splat(0.5f) * d * d), select(far, limit * sign(d), d)};
    }
};
struct BinaryCrossEntropy {
    PYCNN_INLINE Both at(vec x, vec t, vec positive, float) {
        const vec e = exp_of_negative(negative(magnitude(x))), log = log1p_of(e);
        const vec larger_half = splat(1.0f) / (splat(1.0f) + e), smaller_half = e * larger_half;
        const ivec right = greater(x, splat(0.0f));
        const vec yes = positive * t, no = splat(1.0f) - t;
        return {yes * (above_zero(negative(x)) + log) + no * (above_zero(x) + log),
                no * select(right, larger_half, smaller_half) - yes * select(right, smaller_half, larger_half)};
    }
};

template <class Loss>
double run(const PointwiseLoss& s) {
    vec sum = splat(0.0f);
    for (int64_t i = 0; i < s.size; i += VL) {
        const int64_t lanes = s.size - i < VL ? s.size - i : VL;
        const vec one = splat(1.0f), weight = s.weight ? load_first(s.weight + i, lanes) : one;
        const vec positive = s.positive ? load_first(s.positive + i, lanes) : one;
        const Both both = Loss::at(load_first(s.x + i, lanes), load_first(s.target + i, lanes), positive, s.delta);
        store_first(s.dx + i, both.slope * weight * splat(s.scale), lanes);
        float values[VL] = {};
        store_first(values, both.value * weight, lanes);
        sum = sum + load(values);
    }
    return sum_lanes(sum);
}

}  // namespace

double pointwise_loss(const PointwiseLoss& s) {
    switch (s.kind) {
        case PointwiseKind::squared:
            return run<Squared>(s);
        case PointwiseKind::absolute:
            return run<Absolute>(s);
        case PointwiseKind::huber:
            return run<Huber>(s);
        default:
            return run<BinaryCrossEntropy>(s);
    }
}

}  // namespace pycnn::PYCNN_ISA
