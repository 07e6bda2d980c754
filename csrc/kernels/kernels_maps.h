// The calls of the kernels that read a map or an array once: pools, norms, images, arithmetic, optimizers; part of
// kernels.h.
#pragma once
#include <cstdint>

namespace pycnn {

struct PoolWindow {  // along one axis: the pixels begin, begin + dilation, ... inside the image, never none
    int64_t begin, taps;
    int64_t counted;  // of them and the rim: what a mean is over
};

struct PoolRow {  // one output row of a pool
    int64_t W, C, OW;
    int64_t dilation_h, dilation_w;
    PoolWindow rows;            // of all its windows
    const PoolWindow* columns;  // [OW]
    bool ahead = false;         // x comes from memory, so a large window is fetched a little ahead
};

struct AvgPoolBackwardRow {
    float* dx;        // of the whole image
    const float* dy;  // of this row: [OW][C]
    bool alone;       // each pixel lies in one window: dx is written; else dy is added to it
};

struct NormChunk {                // sums of a few rows of x around a value near their mean
    float *near, *sum, *squares;  // [C]: that value, the sum of x - near, the sum of (x - near)^2
    const float* x;               // [rows][C]
    int64_t rows, C;
    float* copy = nullptr;  // x is written there past the caches: whole vectors at multiples of 64 bytes only
};

struct NormRows {                       // y = relu((x - mean) * scale + shift + residual), relu on request
    int64_t rows, C;                    // x, y, residual and their gradients are [rows][C]
    const float *mean, *scale, *shift;  // [C]
    bool relu;
    const float* residual = nullptr;  // null: nothing is added
    const float* y = nullptr;         // backward: where relu's mask is read; null: computed again from x
    float* masked = nullptr;          // norm_gradient_sums writes g there, on request and with y; may be dy
    bool stream = false;              // y (dx) past the caches: whole vectors at multiples of 64 bytes only
};

struct NormGradient {
    float* dx;
    const float *dy, *x, *constant, *slope;
};

struct LayerNormRows {
    float* y;                        // [rows][C]; may be x
    const float *x, *weight, *bias;  // bias may be null
    float* kept;                     // [rows][2]: mean and inverse; or null
    int64_t rows, C;
    float eps;
    bool stream = false;  // y past the caches: whole vectors at multiples of 64 bytes only
};

struct LayerNormGradient {
    float* dx;    // may be dy; or null
    float* sums;  // [2][C]: added to
    const float *dy, *x, *weight, *kept;
    int64_t rows, C;
};

struct ResponseNorm {
    int64_t rows, C;
    int64_t before, after;  // channels of the window beside its own
    float scale, k;
    double beta;
    float* room;  // [2][C + 2 (before + after) + 16]
};

struct Dropout {
    float* y;
    const float* x;
    int64_t size;
    uint32_t first;       // x begins at this element of the array whose mask it is; bits 32 and up are in the keys
    uint32_t key0, key1;  // the seed and the call, mixed
    uint32_t least;       // of 24 bits: an element is kept where its draw is at least this
    float scale;          // 1 / (1 - p)
};

struct CopyRows {  // y[i * to + c] = x[i * from + c]
    float* y;
    const float* x;
    int64_t rows, to, from, count;
    bool stream;  // past the caches: whole vectors at multiples of 64 bytes only
};

// A row of pixels, each a sum of pixels of another image:
//   y[j] = sum over r < rows, over first[j] <= t < first[j + 1], of row_weight[r] * weight[t] * x[row[r] + column[t]]
struct ResampleRow {
    float* y;        // [columns][C]
    const float* x;  // an image
    int64_t C, columns, rows;
    const int64_t *row, *first, *column;  // row, column: floats before the pixel's row, and in it
    const float *row_weight, *weight;
    float outside;  // what a pixel without a tap is
    bool stream;    // past the caches: whole vectors at multiples of 64 bytes only
};

// What becomes of a pixel: (pixel * scale - mean) / std. mean and std repeat every `period` numbers, a multiple of 16;
// null: neither is applied.
struct PixelMap {
    float scale;
    const float *mean, *std;
    int64_t period;
};

// One row of an image that is looked up elsewhere, bilinearly: pixel j lies at (x + dx * j, y + dy * j) of the source,
// moved by (move_x[j], move_y[j]) if there are such.
struct SampleRow {
    float* out;           // [columns][C]
    const float* source;  // [H + 3][W + 3][C]: one zero pixel before the image, two behind it
    int64_t H, W, C, columns;
    float x, y, dx, dy;            // in pixels of `source` with its frame: the image begins at (1, 1)
    const float *move_x, *move_y;  // [columns rounded up to 16] or null
    const float *mean, *std;       // [C], or null: not applied
};

struct SmoothRow {  // y[j] = sum over k < taps of weights[k] * x[k * step + j]
    float* y;
    const float* x;
    int64_t step;
    const float* weights;
    int64_t taps, size;  // size: a multiple of 16
};

enum class Combine { add, subtract, multiply, divide };  // of two arrays, element by element
template <class T>
struct CombinationOf {  // rows of C elements, where an operand may repeat
    T* y;               // [rows][C]; may be an operand that does not repeat
    const T *a, *b;
    int64_t rows, C;
    int64_t a_row, b_row;    // elements to the operand's next row; 0: it has one for all
    int64_t a_step, b_step;  // 1, or 0: it has one element for the whole row
    Combine op;
};
using Combination = CombinationOf<float>;

struct PowerCall {  // y = factor * x^exponent, times dy where it is given
    float* y;       // may be x or dy
    const float *x, *dy;
    int64_t size;
    double exponent;
    float factor;
};

template <class T>
struct AffineOf {  // y = x * scale + shift
    T* y;          // may be x
    const T* x;
    int64_t size;
    T scale, shift;
};
using Affine = AffineOf<float>;

template <class T>
struct SoftmaxBackwardOf {  // of softmax or log-softmax
    T* dx;
    const T *dy, *y;  // y: what forward gave
    int64_t rows, K;  // dx, dy and y are [rows][K]
};
using SoftmaxBackward = SoftmaxBackwardOf<float>;

template <class T>
struct CrossEntropyOf {  // cross_entropy.cpp has the formulas
    T* dlogits;
    const T* logits;         // [rows][K], as dlogits
    const int64_t* labels;   // [rows], each below K, below 0: ignored; or null
    const T* targets;        // then [rows][K]
    const T* class_weights;  // [K], or null
    const T* weights;        // one for `repeat` rows, or null
    int64_t repeat, rows, K;
    T smoothing, divisor;
    double* losses;  // [rows]
};
using CrossEntropy = CrossEntropyOf<float>;

enum class PointwiseKind { squared, absolute, huber, cross_entropy };
template <class T>
struct PointwiseLossOf {  // pointwise_loss.cpp has the formulas
    T* dx;
    const T *x, *target;
    const T *weight, *positive;  // or null
    int64_t size;
    T scale, delta;
    PointwiseKind kind;
};
using PointwiseLoss = PointwiseLossOf<float>;

struct AdamStep {
    float* param;
    const float* grad;
    float *m, *v;
    int64_t size;
    float lr, beta1, beta2, eps, weight_decay;
    float rest1, rest2;              // 1 - beta1, 1 - beta2, rounded once
    float correction1, correction2;  // 1 - beta1^t, 1 - beta2^t
};

struct SgdStep {
    float* param;
    const float* grad;
    float* velocity;  // or null
    int64_t size;
    float lr, momentum, weight_decay;
    bool nesterov;
};

struct RmspropStep {
    float* param;
    const float* grad;
    float *square, *buffer;  // buffer: or null
    int64_t size;
    float lr, alpha, rest, eps, momentum, weight_decay;  // rest: 1 - alpha, rounded once
};

}  // namespace pycnn
