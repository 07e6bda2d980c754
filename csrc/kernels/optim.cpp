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

PYCNN_INLINE void adam_vec(const AdamStep& s, int64_t i, int64_t lanes) {
    const vec g = load_first(s.grad + i, lanes);
    const vec m = fma(splat(s.beta1), load_first(s.m + i, lanes), splat(s.rest1) * g);
    const vec v = fma(splat(s.beta2), load_first(s.v + i, lanes), splat(s.rest2) * g * g);
    const vec m_hat = m / splat(s.correction1), v_hat = v / splat(s.correction2);
    vec p = load_first(s.param + i, lanes);
    p = p - splat(s.lr * s.weight_decay) * p;
    p = p - splat(s.lr) * m_hat / (square_root(v_hat) + splat(s.eps));
    store_first(s.m + i, m, lanes);
    store_first(s.v + i, v, lanes);
    store_first(s.param + i, p, lanes);
}

PYCNN_INLINE void sgd_vec(const SgdStep& s, int64_t i, int64_t lanes) {
    const vec p = load_first(s.param + i, lanes);
    const vec g = fma(splat(s.weight_decay), p, load_first(s.grad + i, lanes));
    vec step = g;
    if (s.velocity) {
        const vec u = fma(splat(s.momentum), load_first(s.velocity + i, lanes), g);
        store_first(s.velocity + i, u, lanes);
        step = s.nesterov ? fma(splat(s.momentum), u, g) : u;
    }
    store_first(s.param + i, p - splat(s.lr) * step, lanes);
}

PYCNN_INLINE void rmsprop_vec(const RmspropStep& s, int64_t i, int64_t lanes) {
    const vec p = load_first(s.param + i, lanes);
    const vec g = fma(splat(s.weight_decay), p, load_first(s.grad + i, lanes));
    const vec v = fma(splat(s.alpha), load_first(s.square + i, lanes), splat(s.rest) * g * g);
    vec step = g / (square_root(v) + splat(s.eps));
    store_first(s.square + i, v, lanes);
    if (s.buffer) {
        step = fma(splat(s.momentum), load_first(s.buffer + i, lanes), step);
        store_first(s.buffer + i, step, lanes);
    }
    store_first(s.param + i, p - splat(s.lr) * step, lanes);
}

// step(i, lanes) for each vec; by value, so that stores do not make the compiler read the numbers of a step again.
template <class Step>
PYCNN_INLINE void each_vec(int64_t size, const Step& step) {
    int64_t i = 0;
    for (; i + VL <= size; i += VL) step(i, static_cast<int64_t>(VL));
    if (i < size) step(i, size - i);
}

}  // namespace

void adam(const AdamStep& s) {
    each_vec(s.size, [s](int64_t i, int64_t lanes) __attribute__((always_inline)) { adam_vec(s, i, lanes); });
}

void sgd(const SgdStep& s) {
    each_vec(s.size, [s](int64_t i, int64_t lanes) __attribute__((always_inline)) { sgd_vec(s, i, lanes); });
}

void rmsprop(const RmspropStep& s) {
    each_vec(s.size, [s](int64_t i, int64_t lanes) __attribute__((always_inline)) { rmsprop_vec(s, i, lanes); });
}

}  // namespace pycnn::PYCNN_ISA
