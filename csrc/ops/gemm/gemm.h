// C = A B: float32 through the vector kernels, float64 through plain loops.
#pragma once
#include <cstdint>

#include "kernels/kernels.h"
#include "ops/epilogue.h"

namespace pycnn {

// Constants of every instruction set, so that they never change the bits (they are also what `auto` may depend on).
constexpr int64_t kKC = 512;   // 384 loses 1 to 3 % at 2000^3 (Zen 4): C passes through memory k / KC times
constexpr int64_t kNC = 3072;  // packed B is at most kKC * kNC * 4 = 6.3 MB: it lives in L3

// c [m][n] (row stride ldc) = a [m][k] times b [k][n], added to c with `accumulate`.
void gemm(float* c, int64_t ldc, const Matrix& a, const Matrix& b, int64_t m, int64_t n, int64_t k, bool accumulate);

// The same, overwriting, without the way that adds in 16 lanes: a row of c has the same bits for any number of rows.
void gemm_in_order(float* c, int64_t ldc, const Matrix& a, const Matrix& b, int64_t m, int64_t n, int64_t k);

// The same in plain float64 loops; element (i, p) of a at a[i * a_row + p * a_col].
void gemm_plain(double* c, const double* a, int64_t a_row, int64_t a_col, const double* b, int64_t b_row, int64_t b_col,
                int64_t m, int64_t n, int64_t k);

struct LinearShape {
    int64_t N, in, out;
};
// y [N][out] = activation(x [N][in] weight [in][out] + bias), float32 or float64: the product, then a pass over it.
template <class T>
void linear(T* y, const T* x, const T* weight, const LinearShape&, const EpilogueOf<T>&);

}  // namespace pycnn
