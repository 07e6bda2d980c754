// Optimizer steps: one pass, in place, over every parameter.
//
//   adam   p -= lr * weight_decay * p                     (decoupled: Loshchilov & Hutter)
//          m = beta1 * m + (1 - beta1) * g
//          v = beta2 * v + (1 - beta2) * g * g
//          p -= lr * (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)      Kingma & Ba, algorithm 1
//
//   sgd    g += weight_decay * p
//          u = momentum * u + g                           (velocity u may be null: then the step is g)
//          p -= lr * (nesterov ? g + momentum * u : u)
//
//   rmsprop  g += weight_decay * p
//            s = alpha * s + (1 - alpha) * g * g
//            b = momentum * b + g / (sqrt(s) + eps)        (buffer b may be null: then momentum is 0)
//            p -= lr * b
//
//   param, m, v, velocity, square, buffer   [size]  updated        grad   [size]  only read

#include "kernels.h"
#include "simd.h"
#include "table.h"

namespace pycnn::PYCNN_ISA {
namespace {

PYCNN_INLINE void adam_vec(float* param, const float* grad, float* m_, float* v_, const AdamStep& s, int64_t lanes) {
    const vec g = load_first(grad, lanes);
    const vec m = fma(splat(s.beta1), load_first(m_, lanes), splat(s.rest1) * g);
    const vec v = fma(splat(s.beta2), load_first(v_, lanes), splat(s.rest2) * g * g);
    const vec m_hat = m / splat(s.correction1), v_hat = v / splat(s.correction2);
    vec p = load_first(param, lanes);
    p = p - splat(s.lr * s.weight_decay) * p;
    p = p - splat(s.lr) * m_hat / (square_root(v_hat) + splat(s.eps));
    store_first(m_, m, lanes);
    store_first(v_, v, lanes);
    store_first(param, p, lanes);
}

PYCNN_INLINE void sgd_vec(float* param, const float* grad, float* velocity, float lr, float momentum, bool nesterov,
                          float weight_decay, int64_t lanes) {
    const vec p = load_first(param, lanes);
    const vec g = fma(splat(weight_decay), p, load_first(grad, lanes));
    vec step = g;
    if (velocity) {
        const vec u = fma(splat(momentum), load_first(velocity, lanes), g);
        store_first(velocity, u, lanes);
        step = nesterov ? fma(splat(momentum), u, g) : u;
    }
    store_first(param, p - splat(lr) * step, lanes);
}

PYCNN_INLINE void rmsprop_vec(float* param, const float* grad, float* square, float* buffer, const RmspropStep& s,
                              int64_t lanes) {
    const vec p = load_first(param, lanes);
    const vec g = fma(splat(s.weight_decay), p, load_first(grad, lanes));
    const vec v = fma(splat(s.alpha), load_first(square, lanes), splat(s.rest) * g * g);
    vec step = g / (square_root(v) + splat(s.eps));
    store_first(square, v, lanes);
    if (buffer) {
        step = fma(splat(s.momentum), load_first(buffer, lanes), step);
        store_first(buffer, step, lanes);
    }
    store_first(param, p - splat(s.lr) * step, lanes);
}

}  // namespace

void adam(float* param, const float* grad, float* m, float* v, int64_t size, const AdamStep& s) {
    int64_t i = 0;
    for (; i + VL <= size; i += VL) adam_vec(param + i, grad + i, m + i, v + i, s, VL);
    if (i < size) adam_vec(param + i, grad + i, m + i, v + i, s, size - i);
}

void sgd(float* param, const float* grad, float* velocity, int64_t size, float lr, float momentum, bool nesterov,
         float weight_decay) {
    for (int64_t i = 0; i < size; i += VL)
        sgd_vec(param + i, grad + i, velocity ? velocity + i : nullptr, lr, momentum, nesterov, weight_decay,
                size - i < VL ? size - i : VL);
}

void rmsprop(float* param, const float* grad, float* square, float* buffer, int64_t size, const RmspropStep& s) {
    for (int64_t i = 0; i < size; i += VL)
        rmsprop_vec(param + i, grad + i, square + i, buffer ? buffer + i : nullptr, s, size - i < VL ? size - i : VL);
}

}  // namespace pycnn::PYCNN_ISA
