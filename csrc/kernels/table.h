// Declares the kernels of this instruction set for table.cpp: one line a kernel file.
#pragma once
#include "kernels.h"

namespace pycnn::PYCNN_ISA {

void gemm_pack_a(float*, const Matrix&, int64_t mc, int64_t kc);
void gemm_pack_b(float*, const Matrix&, int64_t kc, int64_t nc);
void gemm_block(const GemmBlock&);
void gemm_dots(float*, int64_t, int64_t, const float*, int64_t, const float*, int64_t, int64_t, int64_t, int64_t);
void gemm_one_row(float*, const float*, int64_t, const float*, int64_t, int64_t, int64_t);
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
void winograd_filter(float*, int64_t, const float*, int64_t, int64_t size, int64_t m);
void winograd_filter_gradient(float*, int64_t, const float*, int64_t, int64_t size, int64_t m);
void winograd_product(float*, int64_t, const float*, const float*, int64_t tiles, int64_t K, int64_t columns);

void sparse_sum(const SparseSum&);
void sparse_row(const SparseRow&);
void sparse_channels(const SparseChannels&);
void sparse_pixels(const SparsePixels&);
void picked_taps(const PickedTaps&);
void transpose(float*, int64_t, const float*, int64_t, int64_t, int64_t);
void conv_pool_row(float*, uint8_t*, const ConvPoolRow&);

void max_pool2d_row(float*, int32_t*, const float*, const PoolRow&);
void avg_pool2d_row(float*, const float*, const PoolRow&, int64_t);
void avg_pool2d_backward_row(float*, const float*, const PoolRow&, int64_t, bool);

void relu(float*, const float*, int64_t);
void relu_backward(float*, const float*, const float*, int64_t);
void add_bias(float*, const float*, int64_t, int64_t);
void accumulate(float*, const float*, int64_t);
void combine(float*, const float*, const float*, int64_t, Combine);
void affine(float*, const float*, float, float, int64_t);
void sum_rows(float*, const float*, int64_t, int64_t);
void scale_bytes(float*, const uint8_t*, float, int64_t);
void scale(float*, float, int64_t);

void norm_chunk(const NormChunk&);
void norm_apply(float*, const float*, const NormRows&);
void norm_gradient_sums(float*, const float*, const float*, const NormRows&);
void norm_gradient(float*, const float*, const float*, const NormRows&, const float*, const float*);
void dropout(float*, const float*, uint32_t, int64_t, const DropoutMask&);
void map_bytes(float*, const uint8_t*, const PixelMap&, int64_t);
void map_floats(float*, const float*, const PixelMap&, int64_t);

void sample_row(const SampleRow&);
void smooth_row(float*, const float*, int64_t, const float*, int64_t, int64_t);

void softmax(float*, const float*, int64_t, int64_t);
void log_softmax(float*, const float*, int64_t, int64_t);
void softmax_backward(float*, const float*, const float*, int64_t, int64_t);
void log_softmax_backward(float*, const float*, const float*, int64_t, int64_t);

void adam(float*, const float*, float*, float*, int64_t, const AdamStep&);
void sgd(float*, const float*, float*, int64_t, float, float, bool, float);
void rmsprop(float*, const float*, float*, float*, int64_t, const RmspropStep&);

double fma_peak(int64_t);

}  // namespace pycnn::PYCNN_ISA
