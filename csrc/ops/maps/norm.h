// Batch normalisation of x [rows][C], rows = N H W: each channel by its own mean and variance over the rows.
//
//   mean[c] = sum of x / rows        variance[c] = sum of (x - mean)^2 / rows        (biased)
//   y = (x - mean) / sqrt(variance + eps) * weight + bias + residual, then relu on request
#pragma once
#include <cstdint>

namespace pycnn {

template <class T>
struct NormFunction {  // what stays the same from forward to backward; all [C]
    const T *mean, *variance, *weight, *bias;
    double eps;
    bool relu;
};

// rows at least 1. No variance is negative.
template <class T>
void batch_statistics(T* mean, T* variance, const T* x, int64_t rows, int64_t C);

// running = (1 - momentum) * running + momentum * that of the batch, whose variance is unbiased here; rows at least 2.
template <class T>
void update_running_statistics(T* mean, T* variance, const NormFunction<T>& batch, double momentum, int64_t rows,
                               int64_t C);

// residual, of x's shape, or null. y may be x or residual.
template <class T>
void batch_norm_apply(T* y, const T* x, const NormFunction<T>&, int64_t rows, int64_t C, const T* residual = nullptr);

// What backward reads and writes where forward had a residual; all of x's shape, or null.
template <class T>
struct NormResidual {
    const T* y = nullptr;   // what forward gave: relu's mask, which x alone does not tell then
    T* gradient = nullptr;  // of the residual: dy behind the mask; may be dy, if dx is not; with relu y must be there
};

// The gradient through the statistics of this very x; rows at least 1. dx may be dy, or null.
template <class T>
void batch_norm_backward(T* dx, T* dweight, T* dbias, const T* dy, const T* x, const NormFunction<T>&, int64_t rows,
                         int64_t C, const NormResidual<T>& = {});

}  // namespace pycnn
