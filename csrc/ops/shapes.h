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

// The same where the last window may reach past the rim, if it begins before the rim behind the image: the ceil_mode of
// PyTorch's pools (pooling_output_shape in ATen/native/Pool.h) and ONNX's.
inline int64_t ceil_output_size(const AxisWindow& w) {
    const int64_t room = w.size + w.before + w.after - extent(w.kernel, w.dilation);
    if (room <= -w.stride) return 0;
    const int64_t outputs = ceil_div(room, w.stride) + 1;
    return (outputs - 1) * w.stride >= w.size + w.before ? outputs - 1 : outputs;
}

// Pixels that a transposed convolution makes of `size` along one axis: each is spread over a window, `stride` apart; the
// rim is cut off, and `added` more follow. Relationship 14 of Dumoulin & Visin 2016, "A guide to convolution arithmetic
// for deep learning", with the dilation and output_padding of torch.nn.ConvTranspose2d.
inline int64_t transposed_size(const AxisWindow& w, int64_t added) {
    return (w.size - 1) * w.stride - w.before - w.after + extent(w.kernel, w.dilation) + added;
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
    // The last pixels are read by no window: that of a transposed convolution with much output_padding.
    bool crops() const { return pad.bottom < 0 || pad.right < 0; }
    double flop() const { return 2.0 * N * OH() * OW() * taps() * group_C() * OC; }  // padding counted
};

// The gradient of the input of `mirror`: its x [N][H][W][C] is that convolution's dy, its y the dx, so OC = mirror.C and
// the weight is [KH][KW][OC / groups][C].
struct ConvTranspose2dShape {
    Conv2dShape mirror;
};

// Windows of a pool: a window that moves, or as many as there are outputs, which share the image (an adaptive pool:
// window o begins at floor(o size / outputs) and ends before ceil((o + 1) size / outputs)).
struct PoolAxis {
    AxisWindow window;
    int64_t outputs;
    bool adaptive = false;
};

struct Pool2dShape {
    int64_t N, C;
    PoolAxis h, w;

    int64_t H() const { return h.window.size; }
    int64_t W() const { return w.window.size; }
    int64_t OH() const { return h.outputs; }
    int64_t OW() const { return w.outputs; }
};

}  // namespace pycnn
