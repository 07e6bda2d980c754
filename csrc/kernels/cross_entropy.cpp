// Softmax cross entropy of rows of K logits, and its gradient, in one pass.
//
//   t = (onehot (1 - smoothing) + smoothing / K) class_weight      onehot: of the label, or the row of `targets`
//   loss = -weight sum of t log softmax(x)                         dx = (softmax(x) sum of t - t) weight / divisor
//
//   x, dx, targets  [rows][K]    labels, losses  [rows]    class_weight  [K]    weight: one for `repeat` rows
//
// dx and losses are overwritten. A label below 0 is ignored: its loss and its row of dx are 0, whatever its logits are. 0 times
// log 0 counts as 0. A NaN or +Inf in a row makes it NaN. How rows lie in the vectors: softmax_rows.h.

#include "kernels.h"
#include "softmax_rows.h"
#include "table.h"

namespace pycnn::PYCNN_ISA {
namespace {

PYCNN_INLINE bool is_ignored(const CrossEntropy& s, int64_t row) { return s.labels && s.labels[row] < 0; }
PYCNN_INLINE float weight_of(const CrossEntropy& s, int64_t row) {
    return s.weights ? s.weights[row / s.repeat] : 1.0f;
}
// Without smoothing a label is the only class with a target.
PYCNN_INLINE bool one_class(const CrossEntropy& s) { return s.labels && s.smoothing == 0.0f; }

// The targets of sixteen rows across the lanes, and their sums.
PYCNN_INLINE vec targets_of_lanes(float (&t)[kNarrow * VL], const CrossEntropy& s, int64_t row, int64_t count) {
    if (s.labels) {
        memset(t, 0, sizeof(float) * s.K * VL);
        for (int64_t r = 0; r < count; ++r)
            if (s.labels[row + r] >= 0) t[s.labels[row + r] * VL + r] = 1.0f;
    } else {
        to_lanes(t, s.targets + row * s.K, count, s.K);
    }
    const vec rest = splat(1.0f - s.smoothing), share = splat(s.smoothing / static_cast<float>(s.K));
    vec total = splat(0.0f);
    for (int64_t k = 0; k < s.K; ++k) {
        vec target = load(t + k * VL) * rest + share;
        if (s.class_weights) target = target * splat(s.class_weights[k]);
        store(t + k * VL, target);
        total = total + target;
    }
    return total;
}

// The loss of one of them, in float64: x holds the logits without their maxima.
PYCNN_INLINE double loss_of_lane(const CrossEntropy& s, const float* t, const float* x, float log_sum, int64_t row) {
    const bool one = one_class(s);
    const int64_t first = one ? s.labels[row] : 0, last = one ? first + 1 : s.K;
    double loss = 0.0;
    for (int64_t k = first; k < last; ++k)
        if (t[k * VL] != 0.0f) loss -= static_cast<double>(t[k * VL]) * static_cast<double>(x[k * VL] - log_sum);
    return loss;
}

PYCNN_INLINE void sixteen_rows(const CrossEntropy& s, int64_t row, int64_t count) {
    const int64_t K = s.K;
    float x[kNarrow * VL], t[kNarrow * VL], e[kNarrow * VL], log_sums[VL], weights[VL];
    to_lanes(x, s.logits + row * K, count, K);
    const vec total = targets_of_lanes(t, s, row, count), max = lane_maxima(x, K);
    vec sum = splat(0.0f);
    for (int64_t k = 0; k < K; ++k) {
        const vec below = load(x + k * VL) - max, power = exp_of_negative(below);
        store(x + k * VL, below);
        store(e + k * VL, power);
        sum = sum + power;
    }
    for (int64_t r = 0; r < VL; ++r) weights[r] = r < count ? weight_of(s, row + r) : 0.0f;
    const vec factor = splat(1.0f) / sum, divisor = splat(s.divisor), weight = load(weights);
    for (int64_t k = 0; k < K; ++k) {
        const vec d = load(e + k * VL) * factor * total - load(t + k * VL);
        store(e + k * VL, d * weight / divisor);
    }
    from_lanes(s.dlogits + row * K, e, count, K);
    store(log_sums, log_of_sum(sum));
    for (int64_t r = 0; r < count; ++r) {
        const bool ignored = is_ignored(s, row + r);
        s.losses[row + r] = ignored ? 0.0 : weights[r] * loss_of_lane(s, t + r, x + r, log_sums[r], row + r);
        if (ignored) memset(s.dlogits + (row + r) * K, 0, sizeof(float) * K);
    }
}

// Sixteen targets of a row, zeros past its end.
PYCNN_INLINE vec targets_from(const CrossEntropy& s, int64_t row, int64_t k) {
    const int64_t lanes = lanes_from(k, s.K), label = s.labels ? s.labels[row] - k : -1;
    float t[VL] = {};
    if (s.targets) store(t, load_first(s.targets + row * s.K + k, lanes));
    if (label >= 0 && label < VL) t[label] = 1.0f;
    vec target = load(t) * splat(1.0f - s.smoothing) + splat(s.smoothing / static_cast<float>(s.K));
    if (s.class_weights) target = target * load_first(s.class_weights + k, lanes);
    float first[VL] = {};
    store_first(first, target, lanes);
    return load(first);
}

PYCNN_INLINE void one_row(const CrossEntropy& s, int64_t row) {
    const int64_t K = s.K;
    const float* x = s.logits + row * K;
    float* dx = s.dlogits + row * K;
    s.losses[row] = 0.0;
    if (is_ignored(s, row)) {
        memset(dx, 0, sizeof(float) * K);
        return;
    }
    const float max = row_maximum(x, K), sum = exponentials(dx, x, K, max), weight = weight_of(s, row);
    const vec log_sum = log_of_sum(splat(sum)), factor = splat(1.0f / sum);
    float log_sums[VL];
    store(log_sums, log_sum);
    if (one_class(s)) {
        const int64_t label = s.labels[row];
        const float t = s.class_weights ? s.class_weights[label] : 1.0f;
        const float p = dx[label] * (1.0f / sum);
        for (int64_t k = 0; k < K; k += VL) {
            const int64_t lanes = lanes_from(k, K);
            const vec d = load_first(dx + k, lanes) * factor * splat(t);
            store_first(dx + k, d * splat(weight) / splat(s.divisor), lanes);
        }
        dx[label] = (p * t - t) * weight / s.divisor;
        if (t != 0.0f) s.losses[row] = -static_cast<double>(weight) * t * (x[label] - max - log_sums[0]);
        return;
    }
    vec total = splat(0.0f), loss = splat(0.0f);
    for (int64_t k = 0; k < K; k += VL) {
        const vec t = targets_from(s, row, k);
        const vec log_p = load_first(x + k, lanes_from(k, K)) - splat(max) - log_sum;
        const ivec counts = greater(t, splat(0.0f)) | greater(splat(0.0f), t) | is_nan(t);
        loss = loss + select(counts, t * log_p, splat(0.0f));
        total = total + t;
    }
    const vec total_of_all = splat(sum_lanes(total));
    for (int64_t k = 0; k < K; k += VL) {
        const int64_t lanes = lanes_from(k, K);
        const vec d = load_first(dx + k, lanes) * factor * total_of_all - targets_from(s, row, k);
        store_first(dx + k, d * splat(weight) / splat(s.divisor), lanes);
    }
    s.losses[row] = -static_cast<double>(weight) * sum_lanes(loss);
}

}  // namespace

void cross_entropy(const CrossEntropy& s, int64_t begin, int64_t end) {
    if (s.K > kNarrow) {
        for (int64_t row = begin; row < end; ++row) one_row(s, row);
        return;
    }
    for (int64_t row = begin; row < end; row += VL) sixteen_rows(s, row, end - row < VL ? end - row : VL);
}

}  // namespace pycnn::PYCNN_ISA
