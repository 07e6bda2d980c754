// Normalisation of each image by itself, so that a batch changes nothing: each pixel over its channels (layer
// normalisation, local response normalisation), or groups of channels over all pixels. x, y, dx, dy are [rows][C] or
// [N][rows][C].
#pragma once
#include <cstdint>

namespace pycnn {

// y = (x - mean) * inverse * weight + bias, inverse = 1 / sqrt(variance + eps), of each row.
template <class T>
struct LayerNorm {
    T* y;                        // may be x
    const T *x, *weight, *bias;  // [C]; bias may be null
    T* kept;                     // [rows][2]: mean and inverse, or null
    int64_t rows, C;
    double eps;
};
template <class T>
void layer_norm(const LayerNorm<T>&);

template <class T>
struct LayerNormBackward {
    T *dx, *dweight, *dbias;  // dx: may be dy, or null; dbias: or null
    const T *dy, *x, *weight, *kept;
    int64_t rows, C;
};
template <class T>
void layer_norm_backward(const LayerNormBackward<T>&);

// The same with mean and variance of each group of C / groups channels over the rows of each image.
template <class T>
struct GroupNorm {
    T* y;                        // may be x
    const T *x, *weight, *bias;  // [C]
    T* kept;                     // [N][groups][2]: mean and inverse
    int64_t N, rows, C, groups;  // rows at least 1
    double eps;
};
template <class T>
void group_norm(const GroupNorm<T>&);

template <class T>
struct GroupNormBackward {
    T *dx, *dweight, *dbias;  // dx may be dy, or null
    const T *dy, *x, *weight, *kept;
    int64_t N, rows, C, groups;
};
template <class T>
void group_norm_backward(const GroupNormBackward<T>&);

// y = x * (k + alpha / size * sum of x^2 over the channels c - size / 2 .. c + (size - 1) / 2)^-beta
struct ResponseNormShape {
    int64_t rows, C, size;
    double alpha, beta, k;
};
template <class T>
void response_norm(T* y, const T* x, const ResponseNormShape&);  // y may be x
template <class T>
void response_norm_backward(T* dx, const T* dy, const T* x, const ResponseNormShape&);  // dx may be dy

}  // namespace pycnn
