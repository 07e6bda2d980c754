// conv_pool: convolution, bias, relu on request, and a 2 x 2 max pool of stride 2, as one operator in each direction. The
// map between convolution and pool is never written: forward keeps the pooled values and one byte a window.
//
//   y[n][ph][pw][oc]      = relu(max over i, j of conv(x)[n][2 ph + i][2 pw + j][oc] + bias[oc])
//   where[n][ph][pw][oc]  = 2 i + j of that maximum: the first one wins, NaN wins over numbers
//
// The maximum comes first: rounding and relu never decrease, so it commutes with bias and relu, at a quarter of their
// work. A window is cut to the map where OH or OW is odd and the pool is SAME (PH = ceil(OH / 2)).
#pragma once
#include "ops/conv2d/conv2d.h"
#include "ops/shapes.h"

namespace pycnn {

struct ConvPoolShape {
    Conv2dShape conv;
    int64_t PH, PW;  // floor (VALID) or ceil (SAME) of OH / 2, OW / 2
    bool relu = false;

    int64_t window_rows(int64_t ph) const { return std::min<int64_t>(2, conv.OH() - 2 * ph); }
    int64_t window_cols(int64_t pw) const { return std::min<int64_t>(2, conv.OW() - 2 * pw); }
};

struct ConvPoolForward {
    float* y;
    uint8_t* where;                  // null: nobody goes back
    const float *x, *weight, *bias;  // bias: or null
};
// The algorithm must fit.
void conv_pool_forward(const ConvPoolForward&, const ConvPoolShape&, std::string_view algorithm);

// The same of a call with a pool, for an algorithm that has none.
void pool_in_chunks(const Algorithm&, const Conv2dForward&);

struct ConvPoolBackward {  // dbias and dx may be null; results are overwritten
    float *dweight, *dbias, *dx;
    const float *dy, *y;   // [N][PH][PW][OC]
    const uint8_t* where;  // likewise
    const float *x, *weight;
};

// With relu, windows with y <= 0 have no gradient. Every byte of `where` must point into its window; one that does not,
// since another thread wrote it after bad_window looked, gives other gradients but leaves all memory alone: the dense way
// compares it, the lists take its last two bits.
void conv_pool_backward(const ConvPoolBackward&, const ConvPoolShape&);

// The same without a pool: the gradients of y = activation(conv(x) + bias), one that reads_y, whose map [N][OH][OW][OC] is y
// itself; without `where`.
void conv2d_activation_backward(const ConvPoolBackward&, const Conv2dShape&, const Activation&,
                                std::string_view algorithm);

// How its gradients are computed: "sparse", "sparse_dweight", "one_channel" or "dense". For tests.
const char* conv_pool_way(const ConvPoolShape&, bool wants_dx);

// The position of a byte of `where` that does not point into its window, or -1.
int64_t bad_window(const uint8_t* where, const ConvPoolShape&);

}  // namespace pycnn
