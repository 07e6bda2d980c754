// Losses and their gradients, each in one pass. float32 through the vector kernels, float64 plainly.
#pragma once
#include <cstdint>

#include "kernels/kernels_maps.h"

namespace pycnn {

// The cross entropies of all rows over the sum of their weights (kernels/cross_entropy.cpp); the fields `divisor` and
// `losses` are filled in. That sum counts, beside `weights`, the class weights of labels, as PyTorch does, but not those
// of rows of targets. Ignored rows weigh nothing; where nothing weighs anything, loss and gradient are 0.
template <class T>
double softmax_cross_entropy(CrossEntropyOf<T>);

// The mean of one of the losses of kernels/pointwise_loss.cpp, over elements that weigh weight[i / repeat] each.
template <class T>
struct LossCall {
    T* dx;
    const T *x, *target;  // [size], as dx
    const T* weight;      // [size / repeat], or null
    const T* positive;    // [period]: of element i, positive[i % period]; or null
    int64_t size, repeat, period;
    T delta;
    PointwiseKind kind;
};
template <class T>
double pointwise_loss(const LossCall<T>&);

}  // namespace pycnn
