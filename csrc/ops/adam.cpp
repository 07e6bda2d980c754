// Optimizer steps over ranges of parameters.

#include "adam.h"

#include <cmath>
#include <type_traits>

#include "dispatch.h"
#include "parallel.h"

namespace pycnn {
namespace {

// b^n by squaring: multiplications alone, so the same bits on every machine (libm's pow is not).
double power(double b, int64_t n) {
    double result = 1.0;
    for (; n > 0; n /= 2, b *= b)
        if (n % 2) result *= b;
    return result;
}

}  // namespace

template <class T>
void adam_step(T* param, const T* grad, T* m, T* v, int64_t size, const Adam<T>& s) {
    const double correction1 = 1.0 - power(s.beta1, s.step), correction2 = 1.0 - power(s.beta2, s.step);
    parallel_for(size, grain_units(kGrainBytes, 7.0 * sizeof(T)), [&](int64_t begin, int64_t end) {
        if constexpr (std::is_same_v<T, float>) {
            const auto f = [](double value) { return static_cast<float>(value); };
            kernels().adam(param + begin, grad + begin, m + begin, v + begin, end - begin,
                           {f(s.lr), f(s.beta1), f(s.beta2), f(s.eps), f(s.weight_decay), f(1.0 - s.beta1),
                            f(1.0 - s.beta2), f(correction1), f(correction2)});
        } else {
            for (int64_t i = begin; i < end; ++i) {
                const T g = grad[i];
                param[i] -= s.lr * s.weight_decay * param[i];
                m[i] = s.beta1 * m[i] + (1 - s.beta1) * g;
                v[i] = s.beta2 * v[i] + (1 - s.beta2) * g * g;
                param[i] -= s.lr * (m[i] / correction1) / (std::sqrt(v[i] / correction2) + s.eps);
            }
        }
    });
}

template <class T>
void sgd_step(T* param, const T* grad, T* velocity, int64_t size, double lr, double momentum, bool nesterov,
              double weight_decay) {
    parallel_for(size, grain_units(kGrainBytes, 5.0 * sizeof(T)), [&](int64_t begin, int64_t end) {
        if constexpr (std::is_same_v<T, float>) {
            kernels().sgd(param + begin, grad + begin, velocity ? velocity + begin : nullptr, end - begin,
                          static_cast<float>(lr), static_cast<float>(momentum), nesterov,
                          static_cast<float>(weight_decay));
        } else {
            for (int64_t i = begin; i < end; ++i) {
                const T g = grad[i] + weight_decay * param[i];
                T step = g;
                if (velocity) {
                    velocity[i] = momentum * velocity[i] + g;
                    step = nesterov ? g + momentum * velocity[i] : velocity[i];
                }
                param[i] -= lr * step;
            }
        }
    });
}

template void adam_step(float*, const float*, float*, float*, int64_t, const Adam<float>&);
template void adam_step(double*, const double*, double*, double*, int64_t, const Adam<double>&);
template void sgd_step(float*, const float*, float*, int64_t, double, double, bool, double);
template void sgd_step(double*, const double*, double*, int64_t, double, double, bool, double);

}  // namespace pycnn
