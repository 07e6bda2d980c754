// What one instruction set provides: function pointers and tile sizes. Signatures only; ops/ calls through this table
// and never sees a vector. Every kernel is pure and single-threaded: no checks, no allocation, no state.
#pragma once
#include <cstdint>

#include "epilogue.h"
#include "kernels_grouped.h"
#include "kernels_maps.h"

namespace pycnn {

// C[i][j] (+)= sum over p of A[i][p] * B[p][j], on packed panels: what gemm.cpp of ops/ cuts a product into.
struct GemmBlock {
    float* c;  // [mc][nc], row stride ldc
    int64_t ldc;
    const float* a;  // packed A: ceil(mc / MR) panels of [kc][MR], zeros past mc
    const float* b;  // packed B: ceil(nc / NR) panels of [kc][NR], zeros past nc
    int64_t mc, nc, kc;
    bool accumulate;  // false: C is overwritten and never read
};

// A strided matrix: element (i, j) lies at data[i * row + j * col].
template <class T>
struct MatrixOf {
    const T* data;
    int64_t row, col;
};
using Matrix = MatrixOf<float>;

// c[i * c_row + j * c_col] = sum over p of a[i * lda + p] * b[j * ldb + p]. For products whose result is narrow.
struct GemmDots {
    float* c;
    int64_t c_row, c_col;
    const float* a;
    int64_t lda;
    const float* b;
    int64_t ldb, m, n, k;
};

// c[j] = sum over p of x[p * x_step] * b[p * ldb + j]: one row times a matrix that is read once, un-packed.
struct GemmOneRow {
    float* c;
    const float* x;
    int64_t x_step;
    const float* b;
    int64_t ldb, n, k;
};

struct LinearRow {        // y[j] = sum over k of x[k] * packed[j][k], and its epilogue
    float* y;             // [out]
    const float* x;       // [in]
    const float* packed;  // panels [in][NR]; the last one [in][16] where 16 or fewer columns are left
    int64_t in, out;
    Epilogue epilogue = {};  // without a residual
};

struct Fetch {  // memory that comes to L2 while a product runs
    const float* from;
    int64_t lines;  // of 64 bytes
};

struct Steps {  // begin <= k < end
    int64_t begin, end;
};

// c[i][j] (+)= sum over k of a[i][offset[k]] * b[k * ldb + j]: one panel of at most NR columns, any number of rows.
// The heart of direct convolution in all three directions: `a` points at pixels (or taps), `offset` at taps (or pixels).
struct IndirectBlock {
    float* const* c;        // [rows] each [columns]
    const float* const* a;  // [rows]
    int64_t rows, columns;
    const int64_t* offset;  // [k]
    const float* b;         // [k] rows of `columns` rounded up to a multiple of 16, stride ldb
    int64_t ldb;
    const Steps* steps;  // [ranges] the k that take part, ascending; for the others neither a nor b is read
    int64_t ranges;
    Epilogue epilogue = {};   // its residual, which lies beside c[0], is what the sums start from
    bool accumulate = false;  // they start from c
    bool ahead = false;   // fetch what the next tile reads of a, where each pixel comes from memory and is read once
    Fetch fetch[2] = {};  // what the caller reads next
    bool stream = false;  // write c past the caches; whole vectors at multiples of 64 bytes only
};

constexpr int64_t kMaxFewChannelsTaps = 49;  // 7 x 7; a tap is (kh, kw, c)

struct FewChannelsRow {      // one row of outputs, or of 2 x 2 windows, of a convolution with few input channels
    float* y;                // [outputs][OC]
    uint8_t* where;          // beside a pooled y, or null
    const float* x;          // the first tap of the row's first output
    int64_t step_h, step_w;  // floats between the first taps of outputs below and beside each other
    const float* w;          // packed: panels of NR channels, [taps][NR]
    const int64_t* offset;   // [taps]
    int64_t taps, OC, outputs;
    int64_t cols, pool_rows;  // of the map: its columns; the rows of a window inside it, 1 or 2; 0: no pool
    Epilogue epilogue = {};   // with a residual only where there is no pool
};

// dw[t][oc] += sum over r, q of x[r * x_row + q * x_step + offset[t]] * dy[r][q][oc]
struct FewChannelsWeight {
    float* dw;  // [taps][OC]
    const float* x;
    int64_t x_row, x_step;
    const int64_t* offset;  // [taps]
    int64_t taps, OC;
    const float* dy;  // [rows][outputs][OC]
    int64_t rows, outputs;
};

struct TapRow {  // at[j] is added to out[j] for begin <= j < end; 15 floats on either side of these may be read
    const float* at;
    int64_t begin, end;
};
struct TapSums {
    float* out;  // [n], overwritten
    int64_t n;
    const TapRow* taps;  // [count], added in order
    int64_t count;
};

struct DepthwiseTap {
    int64_t offset, weight;  // floats from an output's first pixel, and from the first weight
};

struct DepthwiseRow {  // a run of outputs whose taps are the same
    float* out;
    int64_t out_step;  // floats from output to output
    const float* in;   // the first pixel of the first output, perhaps outside the image
    int64_t in_step;
    const float* w;
    const DepthwiseTap* taps;  // [count], all inside the image
    int64_t count, outputs, C;
    Epilogue epilogue = {};
};

struct DepthwiseWeightRow {  // the same run, for the gradient of the weight
    float* dw;               // added to
    const float* dy;         // of the first output
    const float* x;          // its first pixel, perhaps outside the image
    int64_t x_step, dy_step;
    const DepthwiseTap* taps;
    int64_t count, outputs, channels;
};

// Up to two rows of outputs of a 3x3 or 5x5 kernel with stride 1 or 2, no dilation. Input row i is the row of tap kh of
// output row r with i = stride * r + kh; column q of the outputs reads from column stride * q - before on.
struct DepthwiseTile {
    float* out;
    int64_t out_row, out_pixel;                  // floats between rows, between pixels
    const float* in;                             // column 0 of input row 0, perhaps outside the image
    int64_t in_row, in_pixel, in_begin, in_end;  // rows [in_begin, in_end) lie inside the image
    int64_t in_columns, out_columns, before;
    const float* w;           // of the first tap
    int64_t w_row, w_column;  // floats from tap to tap, perhaps negative
    int64_t channels;
    Epilogue epilogue = {};
    bool stream = false;  // past the caches; out and its steps are multiples of 64 bytes, channels of 16
};

// A row of the gradient of the input of a 3x3 or 5x5 kernel with stride 2: row (column) u = 2 p + parity of the padded
// dx is the sum over i of dy[p - i] times tap parity + 2 i.
struct DepthwiseSpread {
    float* dx;                         // column 0 of the row
    const float *dy, *w;               // column 0 of row p, perhaps outside dy; [K][K] taps, w_tap floats apart
    int64_t dy_row, dy_begin, dy_end;  // i in [dy_begin, dy_end): row p - i lies inside dy
    int64_t dx_pixel, dx_columns, dy_pixel, dy_columns, before, w_tap, channels;
    bool stream;  // as above, of dx
};

// dw[kh][kw] += sum over up to two rows of dy (5x5: one); numbered as in DepthwiseTile.
struct DepthwiseWeightTile {
    float* dw;
    int64_t dw_tap;
    const float* dy;
    int64_t dy_row, dy_pixel;
    const float* x;
    int64_t x_row, x_pixel, x_begin, x_end;
    int64_t x_columns, dy_columns, before, channels;
};

struct WinogradInput {  // one tile of pixels, or of gradients
    float* v;           // element e, channel c goes to v[e * v_element + c / 16 * v_chunk + c % 16]; zeros past C
    int64_t v_element, v_chunk;
    const float* d;         // the tile's first pixel, perhaps outside the image; channels beside each other
    int64_t row, pixel, C;  // floats between rows of the image, and between pixels; channels
    int64_t row_begin, row_end, col_begin, col_end;  // of the tile, inside the image; the rest reads as zero
};

struct WinogradOutput {  // one tile of the map
    const float* m;      // element e, channel c lies at m[e * m_element + c / NR * m_panel + c % NR]
    int64_t m_element, m_panel;
    float* y;                      // the tile's first output, pooled or not
    uint8_t* where;                // beside y, or null: of a pooled tile
    int64_t row, OC, channels;     // elements between rows of y, and between pixels; channels to compute
    int64_t rows, cols;            // of the tile, inside the map
    int64_t pool_rows, pool_cols;  // 2 x 2 windows of the tile, inside the pooled map; 0: no pool
    Epilogue epilogue = {};        // with a residual only where there is no pool
};

struct WinogradFilter {  // of some rows of weights
    float* u;            // element e lies e * element from here, rows NR apart, zeros to the end of a vector of 16
    int64_t element;
    const float* w;  // tap t lies t * tap from here, rows `row` apart
    int64_t tap, row, rows, columns;
};

struct WinogradFilterGradient {
    float* dw;  // tap t lies t * tap from here
    int64_t tap;
    const float* du;  // element e lies e * element from here
    int64_t element, size;
    bool add;
};

struct WinogradProduct {  // one element of some tiles
    float* m;             // [panels][tiles][NR]
    int64_t m_panel;
    const float* v;  // [chunks of 16 channels][tiles][16], chunks v_chunk apart
    int64_t v_chunk;
    const float* u;
    int64_t tiles, K, columns;
    int64_t group = 0,
            v_group = 0;   // columns of a group, 16 or a multiple of NR; floats of v to the next one's. 0: all
    bool fetches = false;  // what comes next of u and v meanwhile, which lie in L3
};

struct WinogradGradientProduct {  // du[c][oc] = sum over tiles of v[tile][c] z[tile][oc]
    float* du;                    // rows `pitch` apart, overwritten
    int64_t pitch;
    const float *v, *z;  // [chunks of 16 channels][tiles][16], chunks `chunk` apart
    int64_t chunk, tiles, rows, columns;
};

struct Transpose {  // to[j * to_row + i] = from[i * from_row + j]
    float* to;
    int64_t to_row;
    const float* from;
    int64_t from_row, rows, columns;
};

// out[s][r][j] += sum over the list of segment s of values[e] * base[index[e] + r * base_row + j], for `columns` j.
struct SparseSum {
    float* out;  // segment s, row r at out + s * out_step + r * out_row
    int64_t out_step, out_row;
    const float* base;
    int64_t base_row;
    int64_t rows, columns;  // columns: a multiple of 16
    const int32_t* index;
    const float* values;
    const int32_t *begin, *end;  // [segments]: the list of segment s is begin[s] <= e < end[s]
    int64_t segments;
};

// The pixels behind one row of 2 x 2 windows. For each of the four positions 2 i + j the channels whose gradient is not
// zero, cell after cell: cell k has channel[e] for begin[k] <= e < begin[k + 1].
struct PixelLists {
    int32_t* channel[4];  // ascending; up to 16 elements are written past the last one
    int32_t* begin[4];    // [cells + 1]
};
struct SparseRow {
    const float* g;        // [cells][...]: gradients of the pooled row, channels [0, channels) of each
    const uint8_t* where;  // likewise: 2 i + j of the pixel that gets the gradient
    int64_t cells, channels, stride;
    PixelLists lists;
};

// The non-zeros of one image, channel by channel: appends (pixel[4 * cell + where], g) of each cell to the list of its
// channel, cells ascending, from element next[channel] on, and moves next. 16 elements past the last are written.
struct SparseChannels {
    const float* g;        // [cells][channels]
    const uint8_t* where;  // likewise
    int64_t cells, channels;
    const int32_t* pixel;  // [cells][4]
    int32_t* index;
    float* values;
    int32_t* next;  // [channels]
};

// out[q * width + j] += sum over the list of pixel q of g[q / 2][channel] * weights[channel * row + j], j < columns:
// one row of a patch of the gradient of the input, for the row i of pixels.
struct SparsePixels {
    float* out;
    int64_t width, columns;  // columns: KW * width
    const float* weights;    // [channels][row], may be read up to a multiple of 16 columns
    int64_t row;
    const float* g;  // [cells][stride]
    int64_t cells, stride;
    PixelLists lists;
    int64_t i;
};

// sums[tap][0 .. 16) += sum over cells of g * x, x picked per lane: one input channel, one image, 16 output channels.
struct PickedTaps {
    float* sums;           // [KH][KW][16]
    const float* windows;  // [map row + KH][columns][4]: the 2 x 2 pixels at each pixel of the padded image
    int64_t columns, KH, KW;
    const float* g;        // [PH][PW][stride]
    const uint8_t* where;  // likewise
    int64_t PH, PW, stride, lanes;
};

struct ConvPoolRow {   // one pooled row: windows of 2 x 2, cut to the map
    const float* map;  // [rows][OW][C], the two (or one) rows of this pooled row
    int64_t OW, C, PW, rows;
    Epilogue epilogue = {};  // without a residual
};

struct Kernels {
    const char* isa;
    int64_t MR, NR;  // register tile

    void (*gemm_pack_a)(float* packed, const Matrix& a, int64_t mc, int64_t kc);
    void (*gemm_pack_b)(float* packed, const Matrix& b, int64_t kc, int64_t nc);
    void (*gemm_block)(const GemmBlock&);
    void (*gemm_dots)(const GemmDots&);
    void (*gemm_one_row)(const GemmOneRow&);
    void (*linear_row)(const LinearRow&);
    void (*indirect_block)(const IndirectBlock&);

    void (*few_channels_row)(const FewChannelsRow&);
    void (*few_channels_weight)(const FewChannelsWeight&);
    void (*tap_sums)(const TapSums&);
    void (*depthwise_row)(const DepthwiseRow&);
    void (*depthwise_weight_row)(const DepthwiseWeightRow&);
    void (*depthwise_tile)(const DepthwiseTile&, int64_t kernel, int64_t stride, int64_t rows);
    void (*depthwise_spread)(const DepthwiseSpread&, int64_t kernel, int64_t parity);
    void (*depthwise_weight_tile)(const DepthwiseWeightTile&, int64_t kernel, int64_t stride, int64_t rows);
    void (*grouped_copy)(const GroupedCopy&);
    void (*grouped_row)(const GroupedRow&);
    void (*grouped_weight)(const GroupedWeight&);
    void (*end_stream)();  // after the last kernel that was told to stream, before others read

    // F(m x m, 3 x 3) with m = 2 or 4; winograd.cpp has the formulas.
    void (*winograd_input)(const WinogradInput&, int64_t m);                     // v = B^T d B
    void (*winograd_gradient)(const WinogradInput&, int64_t m);                  // v = A d A^T
    void (*winograd_output)(const WinogradOutput&, int64_t m);                   // y = A^T m A, and the epilogue
    void (*winograd_filter)(const WinogradFilter&, int64_t m);                   // u = G w G^T
    void (*winograd_filter_gradient)(const WinogradFilterGradient&, int64_t m);  // dw = G^T du G
    void (*winograd_product)(const WinogradProduct&);
    void (*winograd_gradient_product)(const WinogradGradientProduct&);

    void (*sparse_sum)(const SparseSum&);
    void (*sparse_row)(const SparseRow&);
    void (*sparse_channels)(const SparseChannels&);
    void (*sparse_pixels)(const SparsePixels&);
    void (*picked_taps)(const PickedTaps&);
    void (*transpose)(const Transpose&);
    void (*conv_pool_row)(float* y, uint8_t* where, const ConvPoolRow&);  // where may be null

    void (*max_pool2d_row)(float* y, int32_t* indices, const float* x, const PoolRow&);
    void (*avg_pool2d_row)(float* y, const float* x, const PoolRow&);
    void (*avg_pool2d_backward_row)(const AvgPoolBackwardRow&, const PoolRow&);

    void (*activate)(float* y, const float* x, int64_t size, const Activation&);  // y may be x
    void (*finish)(const FinishRows&);
    void (*relu_backward)(float* dx, const float* dy, const float* y, int64_t size);
    void (*accumulate)(float* total, const float* part, int64_t size);
    void (*combine)(const Combination&);
    void (*affine)(const Affine&);
    void (*power)(const PowerCall&);
    void (*sum_rows)(float* total, const float* x, int64_t rows, int64_t C);
    void (*row_sums)(float* total, const float* x, int64_t rows, int64_t C);
    void (*scale_bytes)(float* y, const uint8_t* x, float scale, int64_t size);
    void (*scale)(float* x, float factor, int64_t size);

    void (*norm_chunk)(const NormChunk&);
    void (*norm_apply)(float* y, const float* x, const NormRows&);
    void (*norm_gradient_sums)(float* sums, const float* dy, const float* x, const NormRows&);
    void (*norm_gradient)(const NormGradient&, const NormRows&);
    void (*layer_norm)(const LayerNormRows&);
    void (*layer_norm_gradient)(const LayerNormGradient&);
    void (*response_norm)(float* y, const float* x, const ResponseNorm&);
    void (*response_norm_gradient)(float* dx, const float* dy, const float* x, const ResponseNorm&);
    void (*dropout)(const Dropout&);

    void (*copy_rows)(const CopyRows&);
    void (*resample_row)(const ResampleRow&);
    void (*map_bytes)(float* y, const uint8_t* x, const PixelMap&, int64_t size);
    void (*map_floats)(float* y, const float* x, const PixelMap&, int64_t size);
    void (*sample_row)(const SampleRow&);
    void (*smooth_row)(const SmoothRow&);

    void (*softmax)(float* y, const float* x, int64_t rows, int64_t K);
    void (*log_softmax)(float* y, const float* x, int64_t rows, int64_t K);
    void (*softmax_backward)(const SoftmaxBackward&);
    void (*log_softmax_backward)(const SoftmaxBackward&);
    void (*cross_entropy)(const CrossEntropy&, int64_t begin, int64_t end);  // of rows
    double (*pointwise_loss)(const PointwiseLoss&);

    void (*adam)(const AdamStep&);
    void (*sgd)(const SgdStep&);
    void (*rmsprop)(const RmspropStep&);

    double (*fma_peak)(int64_t rounds);  // runs `rounds` times a fixed number of FMAs; returns FLOP done
};

}  // namespace pycnn
