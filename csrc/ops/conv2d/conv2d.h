// Convolution in its three directions: checks nothing, chooses the algorithm, runs it.
//
//   y[n][oh][ow][oc]       = sum over kh, kw, c   of x[n][oh*s + kh*d - top][ow*s + kw*d - left][c] * weight[kh][kw][c][oc]
//   dx[n][h][w][c]         = sum over kh, kw, oc  of dy[n][oh][ow][oc] * weight[kh][kw][c][oc],
//                            where h = oh*s + kh*d - top and w = ow*s + kw*d - left
//   dweight[kh][kw][c][oc] = sum over n, oh, ow   of x[n][oh*s + kh*d - top][ow*s + kw*d - left][c] * dy[n][oh][ow][oc]
//
// x [N][H][W][C], weight [KH][KW][C/groups][OC], y and dy [N][OH][OW][OC]; results are overwritten. Group g reads the
// channels [g*C/groups, ...) and writes [g*OC/groups, ...). Pixels outside the image are zero.
#pragma once
#include "ops/shapes.h"

namespace pycnn {

enum class Direction { forward, backward_input, backward_weight };
enum class Algorithm { automatic, naive, im2col, direct, winograd };

struct Choice {
    Algorithm algorithm;
    const char* reason;
};
// filter_kept: the transformed weight is kept from call to call; then the batch does not enter.
Choice choose(const Conv2dShape&, Direction, bool filter_kept = false);

struct Epilogue {                 // of the forward direction
    const float* bias = nullptr;  // [OC]
    bool relu = false;
    const float* residual = nullptr;  // as y, added before relu; may be y itself
};

void conv2d_forward(float* y, const float* x, const float* weight, const Conv2dShape&, Algorithm, const Epilogue&);
void conv2d_backward_input(float* dx, const float* dy, const float* weight, const Conv2dShape&, Algorithm);
void conv2d_backward_weight(float* dweight, const float* x, const float* dy, const Conv2dShape&, Algorithm);

// `exact` keeps Winograd off F(4 x 4), whose error is two to three times that of direct convolution.
void set_exact(bool);
bool is_exact();

// One file an algorithm: conv2d/direct.cpp, conv2d/winograd.cpp, conv2d/im2col.cpp, conv2d/naive.cpp, and one beside
// for the gradient of the weight. A new one is a file of these three functions, a value of Algorithm and a rule in
// choose().
namespace direct {
bool adds_residual(const Conv2dShape&);  // false: forward takes none
// like: decides what is padded as a batch of so many images would, where this one is a part that a thread has cut off.
void forward(float* y, const float* x, const float* weight, const Conv2dShape&, const Epilogue&, int64_t like = 0);
void backward_input(float* dx, const float* dy, const float* weight, const Conv2dShape&);
void backward_weight(float* dweight, const float* x, const float* dy, const Conv2dShape&);
int64_t weight_units(const Conv2dShape&);  // that threads take in backward_weight
}  // namespace direct
namespace winograd {
bool fits(const Conv2dShape&);              // 3 x 3, stride 1, no dilation, no groups
int64_t tile_size(int64_t OH, int64_t OW);  // m of F(m x m, 3 x 3) for a map of this size: 2 or 4
void forward(float* y, const float* x, const float* weight, const Conv2dShape&, const Epilogue&);
void backward_input(float* dx, const float* dy, const float* weight, const Conv2dShape&);
void backward_weight(float* dweight, const float* x, const float* dy, const Conv2dShape&);
}  // namespace winograd
namespace im2col {
void forward(float* y, const float* x, const float* weight, const Conv2dShape&, const Epilogue&);
void backward_input(float* dx, const float* dy, const float* weight, const Conv2dShape&);
void backward_weight(float* dweight, const float* x, const float* dy, const Conv2dShape&);
}  // namespace im2col
namespace naive {  // T: float or double
template <class T>
void forward(T* y, const T* x, const T* weight, const T* bias, bool relu, const Conv2dShape&,
             const T* residual = nullptr);
template <class T>
void backward_input(T* dx, const T* dy, const T* weight, const Conv2dShape&);
template <class T>
void backward_weight(T* dweight, const T* x, const T* dy, const Conv2dShape&);
}  // namespace naive

}  // namespace pycnn
