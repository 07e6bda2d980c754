// Softmax, log-softmax and cross entropy over the last axis. float32 through the vector kernels, float64 plainly.
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

// The mean over the rows of -sum over k of t_k log softmax(logits)_k, with t = (1 - smoothing) * target + smoothing /
// K; dlogits = (softmax - t * sum of target) / rows. 0 for no rows.
template <class T>
struct CrossEntropy {
    T* dlogits;
    const T* logits;        // [rows][K], as dlogits
    const int64_t* labels;  // the targets: [rows], each in 0 .. K; or null
    const T* onehot;        // then weights [rows][K]
    T smoothing;
    int64_t rows, K;
};
template <class T>
double softmax_cross_entropy(const CrossEntropy<T>&);

}  // namespace pycnn
