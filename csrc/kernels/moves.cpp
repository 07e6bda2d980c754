// Numbers that move, and sums of them. y is overwritten.
//
//   copy_rows      y[i][c] = x[i][c], each with its own step from row to row; any bits
//   resample_row   y[j][c] = sum over taps of weight * x[tap][c], rows of taps outside, in their order; one tap of weight 1
//                  gives its bits. A weight is the product of a row's and a column's, rounded.

#include "kernels.h"
#include "simd.h"
#include "table.h"

namespace pycnn::PYCNN_ISA {
namespace {

// K vectors of one pixel, beginning with channel c.
template <int K>
PYCNN_INLINE void pixel(const ResampleRow& s, int64_t j, int64_t c, int64_t lanes) {
    const int64_t begin = s.first[j], end = s.first[j + 1];
    vec sum[K];
    PYCNN_UNROLL for (int k = 0; k < K; ++k) sum[k] = splat(s.outside);
    bool begun = false;
    for (int64_t r = 0; r < s.rows; ++r) {
        for (int64_t t = begin; t < end; ++t) {
            const float* x = s.x + s.row[r] + s.column[t] + c;
            const vec weight = splat(s.row_weight[r] * s.weight[t]);
            if (begun) {
                PYCNN_UNROLL for (int k = 0; k < K; ++k) sum[k] = fma(weight, load_first(x + k * VL, lanes), sum[k]);
            } else {
                PYCNN_UNROLL for (int k = 0; k < K; ++k) sum[k] = weight * load_first(x + k * VL, lanes);
            }
            begun = true;
        }
    }
    float* y = s.y + j * s.C + c;
    if (s.stream) {
        PYCNN_UNROLL for (int k = 0; k < K; ++k) stream(y + k * VL, sum[k]);
    } else {
        PYCNN_UNROLL for (int k = 0; k < K; ++k) store_first(y + k * VL, sum[k], lanes);
    }
}

}  // namespace

void resample_row(const ResampleRow& s) {
    for (int64_t j = 0; j < s.columns; ++j) {
        int64_t c = 0;
        for (; c + 4 * VL <= s.C; c += 4 * VL) pixel<4>(s, j, c, VL);
        for (; c + VL <= s.C; c += VL) pixel<1>(s, j, c, VL);
        if (c < s.C) pixel<1>(s, j, c, s.C - c);
    }
    if (s.stream) end_stream();
}

void copy_rows(const CopyRows& s) {
    const int64_t whole = s.count / VL * VL, rest = s.count - whole;
    for (int64_t i = 0; i < s.rows; ++i) {
        float* y = s.y + i * s.to;
        const float* x = s.x + i * s.from;
        int64_t c = 0;
        if (s.stream) {
            for (; c < whole; c += VL) stream(y + c, load(x + c));
        } else {
            for (; c + 2 * VL <= whole; c += 2 * VL) {
                const vec a = load(x + c), b = load(x + c + VL);
                store(y + c, a), store(y + c + VL, b);
            }
            if (c < whole) store(y + c, load(x + c));
        }
        if (rest) store_first(y + whole, load_first(x + whole, rest), rest);
    }
    if (s.stream) end_stream();
}

}  // namespace pycnn::PYCNN_ISA
