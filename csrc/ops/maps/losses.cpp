// Losses: threads take rows, or blocks of elements; what each found is added in order, for any number of threads.

#include "ops/maps/losses.h"

#include <algorithm>
#include <cmath>
#include <type_traits>
#include <vector>

#include "ops/runtime/dispatch.h"
#include "ops/runtime/parallel.h"

namespace pycnn {
namespace {

// The sum of many numbers, a thousand at a time: of 131072 in one chain a tenth of a segmentation's loss would be waiting.
double sum_in_blocks(const std::vector<double>& values) {
    constexpr std::size_t kBlock = 1024;
    double total = 0.0;
    for (std::size_t first = 0; first < values.size(); first += kBlock * 4) {
        double sums[4] = {};
        for (std::size_t i = 0; i < kBlock; ++i)
            for (std::size_t b = 0; b < 4; ++b)
                if (const std::size_t at = first + b * kBlock + i; at < values.size()) sums[b] += values[at];
        for (const double sum : sums) total += sum;
    }
    return total;
}

// The kernels for float, the formulas for double.
void rows_of_cross_entropy(const CrossEntropyOf<float>& s, int64_t begin, int64_t end) {
    kernels().cross_entropy(s, begin, end);
}

double target_of(const CrossEntropyOf<double>& s, int64_t row, int64_t k) {
    const double given = s.labels ? s.labels[row] == k : s.targets[row * s.K + k];
    const double smooth = given * (1.0 - s.smoothing) + s.smoothing / static_cast<double>(s.K);
    return s.class_weights ? smooth * s.class_weights[k] : smooth;
}

void rows_of_cross_entropy(const CrossEntropyOf<double>& s, int64_t begin, int64_t end) {
    const int64_t K = s.K;
    for (int64_t row = begin; row < end; ++row) {
        const double *x = s.logits + row * K, weight = s.weights ? s.weights[row / s.repeat] : 1.0;
        double *dx = s.dlogits + row * K, max = x[0], sum = 0.0, total = 0.0, loss = 0.0;
        const bool ignored = s.labels && s.labels[row] < 0;
        for (int64_t k = 0; k < K; ++k)
            if (x[k] > max || x[k] != x[k]) max = x[k];
        for (int64_t k = 0; k < K; ++k) sum += dx[k] = std::exp(x[k] - max);
        for (int64_t k = 0; k < K; ++k) {
            const double t = target_of(s, row, k);
            total += t;
            // 0 times log 0 = -Inf counts as 0: a class that is not the target may have probability 0.
            if (t != 0.0) loss -= t * (x[k] - max - std::log(sum));
        }
        for (int64_t k = 0; k < K; ++k)
            dx[k] = ignored ? 0.0 : (dx[k] / sum * total - target_of(s, row, k)) * weight / s.divisor;
        s.losses[row] = ignored ? 0.0 : weight * loss;
    }
}

// What a mean over the rows is divided by.
template <class T>
double sum_of_weights(const CrossEntropyOf<T>& s) {
    if (!s.weights && !(s.labels && s.class_weights)) {
        int64_t ignored = 0;
        for (int64_t row = 0; s.labels && row < s.rows; ++row) ignored += s.labels[row] < 0;
        return static_cast<double>(s.rows - ignored);
    }
    double sum = 0.0;
    for (int64_t row = 0; row < s.rows; ++row) {
        if (s.labels && s.labels[row] < 0) continue;
        double weight = s.weights ? s.weights[row / s.repeat] : 1.0;
        if (s.labels && s.class_weights) weight *= s.class_weights[s.labels[row]];
        sum += weight;
    }
    return sum;
}

constexpr int64_t kBlock = 1024;  // elements that are added in float32; then blocks are, in float64

double block_of_losses(const PointwiseLossOf<float>& s) { return kernels().pointwise_loss(s); }

double block_of_losses(const PointwiseLossOf<double>& s) {
    double sum = 0.0;
    for (int64_t i = 0; i < s.size; ++i) {
        const double x = s.x[i], t = s.target[i], d = x - t, a = std::abs(d);
        const double sign = d > 0 ? 1.0 : d < 0 ? -1.0 : d, weight = s.weight ? s.weight[i] : 1.0;
        double value = d * d, slope = 2 * d;
        if (s.kind == PointwiseKind::absolute) {
            value = a, slope = sign;
        } else if (s.kind == PointwiseKind::huber) {
            value = a > s.delta ? s.delta * (a - 0.5 * s.delta) : 0.5 * d * d;
            slope = a > s.delta ? s.delta * sign : d;
        } else if (s.kind == PointwiseKind::cross_entropy) {
            const double e = std::exp(-std::abs(x)), log = std::log1p(e), yes = (s.positive ? s.positive[i] : 1.0) * t;
            const double right = x > 0 ? 1 / (1 + e) : e / (1 + e), left = x > 0 ? e / (1 + e) : 1 / (1 + e);
            value = yes * (std::max(-x, 0.0) + log) + (1 - t) * (std::max(x, 0.0) + log);
            slope = (1 - t) * right - yes * left;
        }
        s.dx[i] = slope * weight * s.scale;
        sum += value * weight;
    }
    return sum;
}

}  // namespace

template <class T>
double softmax_cross_entropy(CrossEntropyOf<T> s) {
    const double weights = sum_of_weights(s);
    if (weights == 0) {
        std::fill(s.dlogits, s.dlogits + s.rows * s.K, T(0));
        return 0.0;
    }
    std::vector<double> losses(s.rows);
    s.losses = losses.data();
    s.divisor = static_cast<T>(weights);
    // In float32 a number takes as long as a plain step, as in softmax; in float64 some four.
    const double steps = std::is_same_v<T, float> ? 1.0 : 4.0;
    parallel_for(s.rows, grain_units(kGrainPlain, steps * s.K),
                 [&](int64_t begin, int64_t end) { rows_of_cross_entropy(s, begin, end); });
    return sum_in_blocks(losses) / weights;
}

template <class T>
double pointwise_loss(const LossCall<T>& s) {
    double weights = static_cast<double>(s.size);
    if (s.weight) {
        weights = 0.0;
        for (int64_t i = 0; i < s.size / s.repeat; ++i) weights += static_cast<double>(s.weight[i]);
        weights *= static_cast<double>(s.repeat);
    }
    if (weights == 0) {
        std::fill(s.dx, s.dx + s.size, T(0));
        return 0.0;
    }
    std::vector<double> losses((s.size + kBlock - 1) / kBlock);
    const double steps = std::is_same_v<T, float> ? 0.5 : 4.0;
    parallel_for(static_cast<int64_t>(losses.size()), grain_units(kGrainPlain, steps * kBlock),
                 [&](int64_t begin, int64_t end) {
                     T weight[kBlock], positive[kBlock];
                     for (int64_t block = begin; block < end; ++block) {
                         const int64_t first = block * kBlock, size = std::min(kBlock, s.size - first);
                         for (int64_t i = 0; s.weight && i < size; ++i) weight[i] = s.weight[(first + i) / s.repeat];
                         for (int64_t i = 0; s.positive && i < size; ++i)
                             positive[i] = s.positive[(first + i) % s.period];
                         losses[block] = block_of_losses(PointwiseLossOf<T>{.dx = s.dx + first,
                                                                            .x = s.x + first,
                                                                            .target = s.target + first,
                                                                            .weight = s.weight ? weight : nullptr,
                                                                            .positive = s.positive ? positive : nullptr,
                                                                            .size = size,
                                                                            .scale = static_cast<T>(1.0 / weights),
                                                                            .delta = s.delta,
                                                                            .kind = s.kind});
                     }
                 });
    return sum_in_blocks(losses) / weights;
}

template double softmax_cross_entropy(CrossEntropyOf<float>);
template double softmax_cross_entropy(CrossEntropyOf<double>);
template double pointwise_loss(const LossCall<float>&);
template double pointwise_loss(const LossCall<double>&);

}  // namespace pycnn
