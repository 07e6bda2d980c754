// Shapes of convolutions and pools: the one home of OH = (H + padding - dilation * (KH - 1) - 1) / stride + 1.
#pragma once
#include <algorithm>
#include <cstdint>

namespace pycnn {

struct Padding {
    int64_t top = 0, bottom = 0, left = 0, right = 0;
};

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Pixels that a window of `kernel` taps covers.
inline int64_t extent(int64_t kernel, int64_t dilation) { return dilation * (kernel - 1) + 1; }

// Outputs along one axis; 0 or less where the window does not fit.
inline int64_t output_size(int64_t size, int64_t before, int64_t after, int64_t kernel, int64_t stride,
                           int64_t dilation) {
    const int64_t room = size + before + after - extent(kernel, dilation);
    return room < 0 ? 0 : room / stride + 1;
}

// TensorFlow's SAME: ceil(size / stride) outputs; of an odd total the extra pixel comes after.
inline int64_t same_padding_total(int64_t size, int64_t kernel, int64_t stride, int64_t dilation) {
    return std::max<int64_t>((ceil_div(size, stride) - 1) * stride + extent(kernel, dilation) - size, 0);
}

struct Conv2dShape {
    int64_t N, H, W, C, OC, KH, KW;  // x [N][H][W][C], weight [KH][KW][C / groups][OC], y [N][OH][OW][OC]
    int64_t stride_h, stride_w, dilation_h, dilation_w, groups;
    Padding pad;

    int64_t OH() const { return output_size(H, pad.top, pad.bottom, KH, stride_h, dilation_h); }
    int64_t OW() const { return output_size(W, pad.left, pad.right, KW, stride_w, dilation_w); }
    int64_t group_C() const { return C / groups; }
    int64_t group_OC() const { return OC / groups; }
    int64_t taps() const { return KH * KW; }
    bool padded() const { return pad.top || pad.bottom || pad.left || pad.right; }
    double flop() const { return 2.0 * N * OH() * OW() * taps() * group_C() * OC; }  // padding counted
};

struct Pool2dShape {
    int64_t N, H, W, C, KH, KW, stride_h, stride_w;
    Padding pad;

    int64_t OH() const { return output_size(H, pad.top, pad.bottom, KH, stride_h, 1); }
    int64_t OW() const { return output_size(W, pad.left, pad.right, KW, stride_w, 1); }
};

}  // namespace pycnn
