// Max and average pooling over a batch. float32 through the vector kernels, float64 through plain loops.
#pragma once
#include "ops/shapes.h"

namespace pycnn {

// y [N][OH][OW][C]; indices likewise, or null. All overwritten.
void max_pool2d_forward(float* y, int32_t* indices, const float* x, const Pool2dShape&);
void max_pool2d_forward(double* y, int32_t* indices, const double* x, const Pool2dShape&);
// dx is overwritten: zero, plus dy at the pixels that indices names, in order. Returns an index outside 0 .. pixels, or
// kNoBadIndex if there is none; rows near one are left out.
template <class T>
struct MaxPool2dBackward {
    T* dx;                   // [N][pixels][C]
    const T* dy;             // [N][outputs][C]
    const int32_t* indices;  // likewise
    int64_t N, pixels, outputs, C;
};
constexpr int64_t kNoBadIndex = INT64_MIN;
template <class T>
int64_t max_pool2d_backward(const MaxPool2dBackward<T>&);

void avg_pool2d_forward(float* y, const float* x, const Pool2dShape&, bool count_include_pad);
void avg_pool2d_forward(double* y, const double* x, const Pool2dShape&, bool count_include_pad);
void avg_pool2d_backward(float* dx, const float* dy, const Pool2dShape&, bool count_include_pad);
void avg_pool2d_backward(double* dx, const double* dy, const Pool2dShape&, bool count_include_pad);

}  // namespace pycnn
