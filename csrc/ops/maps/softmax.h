// Softmax and log-softmax over the last axis. float32 through the vector kernels, float64 plainly.
#pragma once
#include <cstdint>

#include "kernels/kernels_maps.h"

namespace pycnn {

template <class T>
void softmax_forward(T* y, const T* x, int64_t rows, int64_t K);
template <class T>
void log_softmax_forward(T* y, const T* x, int64_t rows, int64_t K);
template <class T>
void softmax_backward(const SoftmaxBackwardOf<T>&);
template <class T>
void log_softmax_backward(const SoftmaxBackwardOf<T>&);

}  // namespace pycnn
