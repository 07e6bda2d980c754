// Declares the kernels of this instruction set for table.cpp: one line a kernel file.
#pragma once
#include "kernels.h"

namespace pycnn::PYCNN_ISA {

void gemm_pack_a(float*, const Matrix&, int64_t mc, int64_t kc);
void gemm_pack_b(float*, const Matrix&, int64_t kc, int64_t nc);
void gemm_block(const GemmBlock&);
void gemm_dots(const GemmDots&);
void gemm_one_row(const GemmOneRow&);
void linear_row(const LinearRow&);
void indirect_block(const IndirectBlock&);

void few_channels_row(const FewChannelsRow&);
void few_channels_weight(const FewChannelsWeight&);
void tap_sums(const TapSums&);
void depthwise_row(const DepthwiseRow&);
void depthwise_weight_row(const DepthwiseWeightRow&);
void depthwise_tile(const DepthwiseTile&, int64_t kernel, int64_t stride, int64_t rows);
void depthwise_spread(const DepthwiseSpread&, int64_t kernel, int64_t parity);
void depthwise_weight_tile(const DepthwiseWeightTile&, int64_t kernel, int64_t stride, int64_t rows);
void finish_stream();
void grouped_copy(const GroupedCopy&);
void grouped_row(const GroupedRow&);
void grouped_weight(const GroupedWeight&);

void winograd_input(const WinogradInput&, int64_t m);
void winograd_gradient(const WinogradInput&, int64_t m);
void winograd_output(const WinogradOutput&, int64_t m);
void winograd_filter(const WinogradFilter&, int64_t m);
void winograd_filter_gradient(const WinogradFilterGradient&, int64_t m);
void winograd_product(const WinogradProduct&);
void winograd_gradient_product(const WinogradGradientProduct&);

void sparse_sum(const SparseSum&);
void sparse_row(const SparseRow&);
void sparse_channels(const SparseChannels&);
void sparse_pixels(const SparsePixels&);
void picked_taps(const PickedTaps&);
void transpose(const Transpose&);
void conv_pool_row(float*, uint8_t*, const ConvPoolRow&);

void max_pool2d_row(float*, int32_t*, const float*, const PoolRow&);
void avg_pool2d_row(float*, const float*, const PoolRow&);
void avg_pool2d_backward_row(const AvgPoolBackwardRow&, const PoolRow&);

void activate(float*, const float*, int64_t, const Activation&);
void finish(const FinishRows&);
void relu_backward(float*, const float*, const float*, int64_t);
void accumulate(float*, const float*, int64_t);
void combine(const Combination&);
void affine(const Affine&);
void power(const PowerCall&);
void sum_rows(float*, const float*, int64_t, int64_t);
void row_sums(float*, const float*, int64_t, int64_t);
void scale_bytes(float*, const uint8_t*, float, int64_t);
void scale(float*, float, int64_t);

void norm_chunk(const NormChunk&);
void norm_apply(float*, const float*, const NormRows&);
void norm_gradient_sums(float*, const float*, const float*, const NormRows&);
void norm_gradient(const NormGradient&, const NormRows&);
void layer_norm(const LayerNormRows&);
void layer_norm_gradient(const LayerNormGradient&);
void response_norm(float*, const float*, const ResponseNorm&);
void response_norm_gradient(float*, const float*, const float*, const ResponseNorm&);
void dropout(const Dropout&);
void copy_rows(const CopyRows&);
void resample_row(const ResampleRow&);
void map_bytes(float*, const uint8_t*, const PixelMap&, int64_t);
void map_floats(float*, const float*, const PixelMap&, int64_t);

void sample_row(const SampleRow&);
void smooth_row(const SmoothRow&);

void softmax(float*, const float*, int64_t, int64_t);
void log_softmax(float*, const float*, int64_t, int64_t);
void softmax_backward(const SoftmaxBackward&);
void log_softmax_backward(const SoftmaxBackward&);
void cross_entropy(const CrossEntropy&, int64_t, int64_t);
double pointwise_loss(const PointwiseLoss&);

void adam(const AdamStep&);
void sgd(const SgdStep&);
void rmsprop(const RmspropStep&);

double fma_peak(int64_t);

}  // namespace pycnn::PYCNN_ISA
