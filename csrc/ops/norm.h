// Batch normalisation of x [rows][C], rows = N H W: each channel by its own mean and variance over the rows.
//
//   mean[c] = sum of x / rows        variance[c] = sum of (x - mean)^2 / rows        (biased)
//   y = (x - mean) / sqrt(variance + eps) * weight + bias, then relu on request
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

// y may be x.
template <class T>
void batch_norm_apply(T* y, const T* x, const NormFunction<T>&, int64_t rows, int64_t C);

// The gradient through the statistics of this very x; rows at least 1. dx may be dy, or null.
template <class T>
void batch_norm_backward(T* dx, T* dweight, T* dbias, const T* dy, const T* x, const NormFunction<T>&, int64_t rows,
                         int64_t C);

}  // namespace pycnn
