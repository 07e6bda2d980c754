// Softmax, log-softmax and cross entropy over the last axis. float32 through the vector kernels, float64 plainly.
#pragma once
#include <cstdint>

namespace pycnn {

template <class T>
void softmax_forward(T* y, const T* x, int64_t rows, int64_t K);
template <class T>
void log_softmax_forward(T* y, const T* x, int64_t rows, int64_t K);
template <class T>
void softmax_backward(T* dx, const T* dy, const T* y, int64_t rows, int64_t K);
template <class T>
void log_softmax_backward(T* dx, const T* dy, const T* y, int64_t rows, int64_t K);

// The mean over the rows of -sum over k of t_k log softmax(logits)_k, with t = (1 - smoothing) * target + smoothing /
// K; dlogits [rows][K] = (softmax - t * sum of target) / rows. Targets: labels [rows], each in 0 .. K, or, where labels
// is null, rows of weights onehot [rows][K]. 0 for no rows.
template <class T>
double softmax_cross_entropy(T* dlogits, const T* logits, const int64_t* labels, const T* onehot, T smoothing,
                             int64_t rows, int64_t K);

}  // namespace pycnn
