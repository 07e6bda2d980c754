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

// A window that moves along one axis of an image.
struct AxisWindow {
    int64_t size;           // of the image
    int64_t before, after;  // pixels of the rim
    int64_t kernel, stride, dilation;
};

// Outputs along one axis; 0 or less where the window does not fit.
inline int64_t output_size(const AxisWindow& w) {
    const int64_t room = w.size + w.before + w.after - extent(w.kernel, w.dilation);
    return room < 0 ? 0 : room / w.stride + 1;
}

// TensorFlow's SAME: ceil(size / stride) outputs; of an odd total the extra pixel comes after.
inline int64_t same_padding_total(int64_t size, int64_t kernel, int64_t stride, int64_t dilation) {
    return std::max<int64_t>((ceil_div(size, stride) - 1) * stride + extent(kernel, dilation) - size, 0);
}

struct Conv2dShape {
    int64_t N, H, W, C, OC, KH, KW;  // x [N][H][W][C], weight [KH][KW][C / groups][OC], y [N][OH][OW][OC]
    int64_t stride_h, stride_w, dilation_h, dilation_w, groups;
    Padding pad;

    AxisWindow along_h() const {
        return {.size = H,
                .before = pad.top,
                .after = pad.bottom,
                .kernel = KH,
                .stride = stride_h,
                .dilation = dilation_h};
    }
    AxisWindow along_w() const {
        return {.size = W,
                .before = pad.left,
                .after = pad.right,
                .kernel = KW,
                .stride = stride_w,
                .dilation = dilation_w};
    }
    int64_t OH() const { return output_size(along_h()); }
    int64_t OW() const { return output_size(along_w()); }
    int64_t group_C() const { return C / groups; }
    int64_t group_OC() const { return OC / groups; }
    int64_t taps() const { return KH * KW; }
    bool padded() const { return pad.top || pad.bottom || pad.left || pad.right; }
    double flop() const { return 2.0 * N * OH() * OW() * taps() * group_C() * OC; }  // padding counted
};

struct Pool2dShape {
    int64_t N, H, W, C, KH, KW, stride_h, stride_w;
    Padding pad;

    int64_t OH() const {
        return output_size(
            {.size = H, .before = pad.top, .after = pad.bottom, .kernel = KH, .stride = stride_h, .dilation = 1});
    }
    int64_t OW() const {
        return output_size(
            {.size = W, .before = pad.left, .after = pad.right, .kernel = KW, .stride = stride_w, .dilation = 1});
    }
};

}  // namespace pycnn
