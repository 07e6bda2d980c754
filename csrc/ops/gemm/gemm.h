// C = A B: float32 through the vector kernels, float64 through plain loops.
#pragma once
#include <cstdint>

#include "kernels/kernels.h"
#include "ops/epilogue.h"

namespace pycnn {

// How many products a sum takes before it passes through memory: the same everywhere, for what `auto` may depend on.
constexpr int64_t kKC = 512;  // 384 loses 1 to 3 % at 2000^3 (Zen 4): C passes through memory k / KC times

// The other two blocks, which change no bits, by the caches of the machine.
int64_t gemm_nc();  // columns of B that live in L3 as one packed block
int64_t gemm_mc();  // rows of A that live in L2, as one too

template <class T>
struct GemmOf {  // c [m][n] (row stride ldc) = a [m][k] times b [k][n], added to c with `accumulate`
    T* c;
    int64_t ldc;
    MatrixOf<T> a, b;
    int64_t m, n, k;
    bool accumulate = false;
};
using Gemm = GemmOf<float>;

void gemm(const Gemm&);
// Overwriting, without the way that adds in 16 lanes: a row of c has the same bits for any number of rows.
void gemm_in_order(const Gemm&);
// In plain loops, overwriting a c without gaps.
void gemm_plain(const GemmOf<double>&);

struct LinearShape {
    int64_t N, in, out;
};
template <class T>
struct LinearForward {
    T* y;             // [N][out]
    const T* x;       // [N][in]
    const T* weight;  // [in][out]
    LinearShape shape;
    EpilogueOf<T> epilogue = {};
};
// y = activation(x weight + bias), float32 or float64: the product, then a pass over it.
template <class T>
void linear(const LinearForward<T>&);

}  // namespace pycnn
