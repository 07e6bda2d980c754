// The table of this instruction set: constant-initialised, so no code of it runs before the CPU has been probed.

#include "table.h"

#include "kernels.h"
#include "simd.h"

#define PYCNN_QUOTE_(name) #name
#define PYCNN_QUOTE(name) PYCNN_QUOTE_(name)

namespace pycnn::PYCNN_ISA {

extern const Kernels table;
constexpr Kernels table = {
    .isa = PYCNN_QUOTE(PYCNN_ISA),
    .MR = MR,
    .NR = NR,
    .gemm_pack_a = gemm_pack_a,
    .gemm_pack_b = gemm_pack_b,
    .gemm_block = gemm_block,
    .gemm_dots = gemm_dots,
    .gemm_one_row = gemm_one_row,
    .linear_row = linear_row,
    .indirect_block = indirect_block,
    .few_channels_row = few_channels_row,
    .few_channels_weight = few_channels_weight,
    .tap_sums = tap_sums,
    .depthwise_row = depthwise_row,
    .depthwise_weight_row = depthwise_weight_row,
    .depthwise_tile = depthwise_tile,
    .depthwise_spread = depthwise_spread,
    .depthwise_weight_tile = depthwise_weight_tile,
    .grouped_copy = grouped_copy,
    .grouped_row = grouped_row,
    .grouped_weight = grouped_weight,
    .end_stream = finish_stream,
    .winograd_input = winograd_input,
    .winograd_gradient = winograd_gradient,
    .winograd_output = winograd_output,
    .winograd_filter = winograd_filter,
    .winograd_filter_gradient = winograd_filter_gradient,
    .winograd_product = winograd_product,
    .winograd_gradient_product = winograd_gradient_product,
    .sparse_sum = sparse_sum,
    .sparse_row = sparse_row,
    .sparse_channels = sparse_channels,
    .sparse_pixels = sparse_pixels,
    .picked_taps = picked_taps,
    .transpose = transpose,
    .conv_pool_row = conv_pool_row,
    .max_pool2d_row = max_pool2d_row,
    .avg_pool2d_row = avg_pool2d_row,
    .avg_pool2d_backward_row = avg_pool2d_backward_row,
    .activate = activate,
    .finish = finish,
    .relu_backward = relu_backward,
    .accumulate = accumulate,
    .combine = combine,
    .affine = affine,
    .power = power,
    .sum_rows = sum_rows,
    .row_sums = row_sums,
    .scale_bytes = scale_bytes,
    .scale = scale,
    .norm_chunk = norm_chunk,
    .norm_apply = norm_apply,
    .norm_gradient_sums = norm_gradient_sums,
    .norm_gradient = norm_gradient,
    .dropout = dropout,
    .copy_rows = copy_rows,
    .resample_row = resample_row,
    .map_bytes = map_bytes,
    .map_floats = map_floats,
    .sample_row = sample_row,
    .smooth_row = smooth_row,
    .softmax = softmax,
    .log_softmax = log_softmax,
    .softmax_backward = softmax_backward,
    .log_softmax_backward = log_softmax_backward,
    .cross_entropy = cross_entropy,
    .pointwise_loss = pointwise_loss,
    .adam = adam,
    .sgd = sgd,
    .rmsprop = rmsprop,
    .fma_peak = fma_peak,
};

}  // namespace pycnn::PYCNN_ISA
