// Optimizer steps: one pass, in place. The formulas stand in kernels/adam.cpp.
#pragma once
#include <cstdint>

namespace pycnn {

template <class T>
struct Adam {
    double lr, beta1, beta2, eps, weight_decay;
    int64_t step;  // counts from 1
};

template <class T>
void adam_step(T* param, const T* grad, T* m, T* v, int64_t size, const Adam<T>&);
template <class T>
void sgd_step(T* param, const T* grad, T* velocity, int64_t size, double lr, double momentum, bool nesterov,
              double weight_decay);

}  // namespace pycnn
