// Batch normalisation of x [rows][C], rows = N H W: each channel by its own mean and variance over the rows.
//
//   mean[c] = sum of x / rows        variance[c] = sum of (x - mean)^2 / rows        (biased)
//   y = f((x - mean) / sqrt(variance + eps) * weight + bias + residual), f an activation
#pragma once
#include <cmath>
#include <cstdint>

#include "kernels/epilogue.h"

namespace pycnn {

template <class T>
struct NormFunction {  // what stays the same from forward to backward; all [C]
    const T *mean, *variance, *weight, *bias;
    double eps;
    Activation activation = {};
    const T* scale = nullptr;  // weight / sqrt(variance + eps), computed before: then batch_norm_apply reads no others
};

inline float norm_scale(const NormFunction<float>& f, int64_t c) {
    return static_cast<float>(f.weight[c] / std::sqrt(f.variance[c] + f.eps));
}

template <class T>
struct BatchStatistics {
    T *mean, *variance;  // [C]; no variance is negative
    const T* x;
    int64_t rows, C;  // rows at least 1
};
template <class T>
void batch_statistics(const BatchStatistics<T>&);

// running = (1 - momentum) * running + momentum * that of the batch, whose variance is unbiased here.
template <class T>
struct RunningStatistics {
    T *mean, *variance;  // [C]
    double momentum;
    int64_t rows, C;  // of the batch; rows at least 2
};
template <class T>
void update_running_statistics(const RunningStatistics<T>&, const NormFunction<T>& batch);

template <class T>
struct NormForward {
    T* y;  // may be x or residual
    const T* x;
    int64_t rows, C;
    const T* residual = nullptr;
};
template <class T>
void batch_norm_apply(const NormForward<T>&, const NormFunction<T>&);

template <class T>
struct NormBackward {
    T *dx, *dweight, *dbias;  // dx may be dy, or null
    const T *dy, *x;
    int64_t rows, C;  // rows at least 1
    // Where forward had a residual.
    const T* y = nullptr;            // what it gave, from which f' follows (reads_y); x alone does not tell it then
    T* residual_gradient = nullptr;  // dy f'; may be dy, if dx is not; with an activation y must be there
};
// The gradient through the statistics of this very x.
template <class T>
void batch_norm_backward(const NormBackward<T>&, const NormFunction<T>&);

}  // namespace pycnn
