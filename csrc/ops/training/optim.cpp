// Optimizer steps, and the clipping of gradients. All parameters are one range for the threads: a model has many small
// ones, and elements do not depend on each other.

#include "ops/training/optim.h"

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "ops/runtime/dispatch.h"
#include "ops/runtime/parallel.h"

namespace pycnn {
namespace {

// b^n by squaring: multiplications alone, so the same bits on every machine (libm's pow is not).
double power(double b, int64_t n) {
    double result = 1.0;
    for (; n > 0; n /= 2, b *= b)
        if (n % 2) result *= b;
    return result;
}

float f(double value) { return static_cast<float>(value); }

// Calls body(item, from, to) for the elements of each item that lie in a thread's range.
template <class Items, class Body>
void for_elements(const Items& items, double bytes, Body&& body) {
    int64_t total = 0;
    for (const auto& item : items) total += item.size;
    parallel_for(total, grain_units(kGrainBytes, bytes), [&](int64_t begin, int64_t end) {
        int64_t first = 0;
        for (const auto& item : items) {
            const int64_t from = std::max(begin - first, int64_t{0}), to = std::min(end - first, item.size);
            if (from < to) body(item, from, to);
            first += item.size;
        }
    });
}

}  // namespace

template <class T>
void adam_steps(const Updates<T>& updates, const Adam& s) {
    const double correction1 = 1.0 - power(s.beta1, s.step), correction2 = 1.0 - power(s.beta2, s.step);
    for_elements(updates, 7.0 * sizeof(T), [&](const Update<T>& u, int64_t from, int64_t to) {
        T *param = u.param, *m = u.first, *v = u.second;
        if constexpr (std::is_same_v<T, float>) {
            kernels().adam({.param = param + from,
                            .grad = u.grad + from,
                            .m = m + from,
                            .v = v + from,
                            .size = to - from,
                            .lr = f(s.lr),
                            .beta1 = f(s.beta1),
                            .beta2 = f(s.beta2),
                            .eps = f(s.eps),
                            .weight_decay = f(u.weight_decay),
                            .rest1 = f(1.0 - s.beta1),
                            .rest2 = f(1.0 - s.beta2),
                            .correction1 = f(correction1),
                            .correction2 = f(correction2)});
        } else {
            for (int64_t i = from; i < to; ++i) {
                const T g = u.grad[i];
                param[i] -= s.lr * u.weight_decay * param[i];
                m[i] = s.beta1 * m[i] + (1 - s.beta1) * g;
                v[i] = s.beta2 * v[i] + (1 - s.beta2) * g * g;
                param[i] -= s.lr * (m[i] / correction1) / (std::sqrt(v[i] / correction2) + s.eps);
            }
        }
    });
}

template <class T>
void sgd_steps(const Updates<T>& updates, const Sgd& s) {
    for_elements(updates, 5.0 * sizeof(T), [&](const Update<T>& u, int64_t from, int64_t to) {
        T *param = u.param, *velocity = u.first;
        if constexpr (std::is_same_v<T, float>) {
            kernels().sgd({.param = param + from,
                           .grad = u.grad + from,
                           .velocity = velocity ? velocity + from : nullptr,
                           .size = to - from,
                           .lr = f(s.lr),
                           .momentum = f(s.momentum),
                           .weight_decay = f(u.weight_decay),
                           .nesterov = s.nesterov});
        } else {
            for (int64_t i = from; i < to; ++i) {
                const T g = u.grad[i] + u.weight_decay * param[i];
                T step = g;
                if (velocity) {
                    velocity[i] = s.momentum * velocity[i] + g;
                    step = s.nesterov ? g + s.momentum * velocity[i] : velocity[i];
                }
                param[i] -= s.lr * step;
            }
        }
    });
}

template <class T>
void rmsprop_steps(const Updates<T>& updates, const Rmsprop& s) {
    for_elements(updates, 7.0 * sizeof(T), [&](const Update<T>& u, int64_t from, int64_t to) {
        T *param = u.param, *square = u.first, *buffer = u.second;
        if constexpr (std::is_same_v<T, float>) {
            kernels().rmsprop({.param = param + from,
                               .grad = u.grad + from,
                               .square = square + from,
                               .buffer = buffer ? buffer + from : nullptr,
                               .size = to - from,
                               .lr = f(s.lr),
                               .alpha = f(s.alpha),
                               .rest = f(1.0 - s.alpha),
                               .eps = f(s.eps),
                               .momentum = f(s.momentum),
                               .weight_decay = f(u.weight_decay)});
        } else {
            for (int64_t i = from; i < to; ++i) {
                const T g = u.grad[i] + u.weight_decay * param[i];
                square[i] = s.alpha * square[i] + (1 - s.alpha) * g * g;
                T step = g / (std::sqrt(square[i]) + s.eps);
                if (buffer) step = buffer[i] = s.momentum * buffer[i] + step;
                param[i] -= s.lr * step;
            }
        }
    });
}

template <class T>
double square_sum(const std::vector<Piece<T>>& pieces) {
    constexpr int64_t kChunk = 4096, kLanes = 8;
    std::vector<Piece<T>> chunks;
    for (const Piece<T>& piece : pieces)
        for (int64_t at = 0; at < piece.size; at += kChunk)
            chunks.push_back({piece.data + at, std::min(kChunk, piece.size - at)});
    std::vector<double> sums(chunks.size());
    const int64_t count = static_cast<int64_t>(chunks.size());
    parallel_for(count, grain_units(kGrainPlain, kChunk / 4.0), [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
            double lane[kLanes] = {};
            const T* x = chunks[i].data;
            const int64_t size = chunks[i].size, whole = size / kLanes * kLanes;
            for (int64_t at = 0; at < whole; at += kLanes)
                for (int64_t l = 0; l < kLanes; ++l) {
                    const double value = x[at + l];
                    lane[l] += value * value;
                }
            for (int64_t at = whole; at < size; ++at) lane[at - whole] += static_cast<double>(x[at]) * x[at];
            for (const double sum : lane) sums[i] += sum;
        }
    });
    double total = 0.0;
    for (const double sum : sums) total += sum;
    return total;
}

template <class T>
void scale_all(const std::vector<Piece<T>>& pieces, double factor) {
    for_elements(pieces, 2.0 * sizeof(T), [&](const Piece<T>& piece, int64_t from, int64_t to) {
        if constexpr (std::is_same_v<T, float>)
            kernels().scale(piece.data + from, f(factor), to - from);
        else
            for (int64_t i = from; i < to; ++i) piece.data[i] *= factor;
    });
}

template void adam_steps(const Updates<float>&, const Adam&);
template void adam_steps(const Updates<double>&, const Adam&);
template void sgd_steps(const Updates<float>&, const Sgd&);
template void sgd_steps(const Updates<double>&, const Sgd&);
template void rmsprop_steps(const Updates<float>&, const Rmsprop&);
template void rmsprop_steps(const Updates<double>&, const Rmsprop&);
template double square_sum(const std::vector<Piece<float>>&);
template double square_sum(const std::vector<Piece<double>>&);
template void scale_all(const std::vector<Piece<float>>&, double);
template void scale_all(const std::vector<Piece<double>>&, double);

}  // namespace pycnn
