// A 1 x 1 convolution and the batch normalisation behind it as one operator in each direction, in training.
//
//   z = x weight + bias                              (x [rows][C], weight [C][OC], rows = N H W)
//   mean, variance of z over the rows                (norm.h)
//   y = (z - mean) / sqrt(variance + eps) * gamma + beta, then an activation
//
// Forward takes the sums of a chunk of z while it is in L2; backward keeps z only, computes dz a chunk at a time into a
// buffer in L2 and multiplies it there, so dz never travels through memory. y, mean, variance, dx, dgamma and dbeta have
// the bits of the operators one after the other; dweight adds the same terms in another order.
#pragma once
#include "ops/maps/norm.h"
#include "ops/shapes.h"

namespace pycnn {

// 1 x 1, stride 1, no padding, no groups.
bool is_pointwise(const Conv2dShape&);
// Whether fusing pays (by the shape alone); if not, the operators run one after the other.
bool conv2d_norm_pays(const Conv2dShape&);

struct ConvNormForward {
    float *y, *z, *mean, *variance;
    const float *x, *weight, *bias;  // bias: or null
};
// f.mean and f.variance point at mean and variance, which are written.
void conv2d_norm_forward(const ConvNormForward&, const NormFunction<float>& f, const Conv2dShape&);

struct ConvNormBackward {
    float *dx, *dweight, *dgamma, *dbeta;  // dx: or null
    const float *dy, *z, *x, *weight;
};
// The gradient of bias is zero, since the mean takes bias away.
void conv2d_norm_backward(const ConvNormBackward&, const NormFunction<float>& f, const Conv2dShape&);

}  // namespace pycnn
