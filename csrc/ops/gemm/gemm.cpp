// The BLIS loops jc, pc, ic round the block kernel, and the narrow shapes that are better off un-packed.
//
//   for jc: NC columns of C and B                     packed B lives in L3
//     for pc: KC rows of B, columns of A              C is overwritten by the first, added to by the rest
//       pack B (KC x NC), all threads
//       for ic: MC rows of C and A, per thread        packed A lives in that thread's L2
//         pack A (MC x KC)
//         gemm_block: loops jr, ir and the micro-kernel, in kernels/gemm.cpp
//
// An element adds its k products in order, in this and in the indirect paths, so neither tiles nor threads change the
// bits. Only `dots` adds in 16 lanes; the rule that takes it depends on the shape alone.

#include "ops/gemm/gemm.h"

#include <algorithm>
#include <cstring>

#include "ops/runtime/dispatch.h"
#include "ops/runtime/parallel.h"
#include "ops/runtime/scratch.h"
#include "ops/shapes.h"

namespace pycnn {
namespace {

// A narrow product of long rows as dots: every lane of a vector works, where a tile of NR columns would leave most
// empty. With few steps the sums over lanes cost more than that saves. Where the change lies was not searched for yet.
constexpr int64_t kDotsWidth = 16, kDotsDepth = 128;

int64_t grain_rows(int64_t n, int64_t k) { return grain_units(kGrainFlop, 2.0 * n * k); }

// A matrix of `rows` contiguous vectors of length k, copied only if it is not that already.
const float* contiguous_rows(Scratch& scratch, const float* data, int64_t row, int64_t step, int64_t rows, int64_t k,
                             int64_t* stride) {
    *stride = row;
    if (step == 1) return data;
    float* copy = scratch.floats(rows * k);
    for (int64_t r = 0; r < rows; ++r)
        for (int64_t p = 0; p < k; ++p) copy[r * k + p] = data[r * row + p * step];
    *stride = k;
    return copy;
}

// c[i * c_row + j * c_col]: n <= kDotsWidth vectors of b against m of a, all contiguous along k.
void dots(float* c, int64_t c_row, int64_t c_col, const Matrix& a, const Matrix& b, int64_t m, int64_t n, int64_t k) {
    int64_t ldb = 0;
    Scratch scratch;
    const float* columns = contiguous_rows(scratch, b.data, b.col, b.row, n, k, &ldb);
    parallel_for(m, grain_rows(n, k), [&](int64_t begin, int64_t end) {
        kernels().gemm_dots(c + begin * c_row, c_row, c_col, a.data + begin * a.row, a.row, columns, ldb, end - begin,
                            n, k);
    });
}

void one_row(float* c, const float* x, int64_t x_step, const float* b, int64_t ldb, int64_t n, int64_t k) {
    constexpr int64_t kChunk = 128;  // columns: whole cache lines for every thread
    parallel_for(ceil_div(n, kChunk), grain_units(kGrainFlop / 4, 2.0 * kChunk * k), [&](int64_t begin, int64_t end) {
        const int64_t first = begin * kChunk, last = std::min(end * kChunk, n);
        kernels().gemm_one_row(c + first, x, x_step, b + first, ldb, last - first, k);
    });
}

// Rows [begin, end) of C, one panel of columns, A read in place through row pointers.
void indirect_rows(float* c, int64_t ldc, const Matrix& a, const float* b, int64_t ldb, int64_t begin, int64_t end,
                   int64_t columns, const int64_t* offset, int64_t k, bool accumulate) {
    constexpr int64_t kRows = 84;  // a multiple of every MR
    for (int64_t first = begin; first < end; first += kRows) {
        const int64_t rows = std::min(kRows, end - first);
        const float* a_rows[kRows];
        float* c_rows[kRows];
        for (int64_t i = 0; i < rows; ++i) {
            a_rows[i] = a.data + (first + i) * a.row;
            c_rows[i] = c + (first + i) * ldc;
        }
        const Steps all{0, k};
        kernels().indirect_block({c_rows, a_rows, rows, columns, offset, b, ldb, &all, 1, nullptr, false, accumulate});
    }
}

const int64_t* column_offsets(Scratch& scratch, const Matrix& a, int64_t k) {
    int64_t* offset = scratch.array<int64_t>(k);
    for (int64_t p = 0; p < k; ++p) offset[p] = p * a.col;
    return offset;
}

// n <= NR: one packed panel of B, any number of rows of A.
void narrow(float* c, int64_t ldc, const Matrix& a, const Matrix& b, int64_t m, int64_t n, int64_t k, bool accumulate) {
    const int64_t NR = kernels().NR;
    Scratch scratch;
    float* packed = scratch.floats(k * NR);
    kernels().gemm_pack_b(packed, b, k, n);
    const int64_t* offset = column_offsets(scratch, a, k);
    parallel_for(m, grain_rows(n, k), [&](int64_t begin, int64_t end) {
        indirect_rows(c, ldc, a, packed, NR, begin, end, n, offset, k, accumulate);
    });
}

// The blocks of C that one thread owns for one packed B: rows [i0, i1), columns [j0, j1) of this NC.
void thread_share(float* c, int64_t ldc, const Matrix& a, const float* packed_b, int64_t i0, int64_t i1, int64_t j0,
                  int64_t j1, int64_t kc, bool accumulate) {
    const Kernels& isa = kernels();
    Scratch scratch;
    float* packed_a = scratch.floats(ceil_div(std::min(isa.MC, i1 - i0), isa.MR) * isa.MR * kc);
    for (int64_t ic = i0; ic < i1; ic += isa.MC) {
        const int64_t mc = std::min(isa.MC, i1 - ic);
        isa.gemm_pack_a(packed_a, {a.data + ic * a.row, a.row, a.col}, mc, kc);
        isa.gemm_block({c + ic * ldc + j0, ldc, packed_a, packed_b + j0 * kc, mc, j1 - j0, kc, accumulate});
    }
}

void blocked(float* c, int64_t ldc, const Matrix& a, const Matrix& b, int64_t m, int64_t n, int64_t k,
             bool accumulate) {
    const int64_t MR = kernels().MR, NR = kernels().NR;
    Scratch scratch;
    float* packed_b = scratch.floats(kKC * std::min(ceil_div(n, NR) * NR, kNC));
    for (int64_t jc = 0; jc < n; jc += kNC) {
        const int64_t nc = std::min(kNC, n - jc), panels = ceil_div(nc, NR);
        for (int64_t pc = 0; pc < k; pc += kKC) {
            const int64_t kc = std::min(kKC, k - pc);
            parallel_for(panels, grain_units(kGrainBytes, 8.0 * kc * NR), [&](int64_t begin, int64_t end) {
                kernels().gemm_pack_b(packed_b + begin * NR * kc,
                                      {b.data + pc * b.row + (jc + begin * NR) * b.col, b.row, b.col}, kc,
                                      std::min(nc, end * NR) - begin * NR);
            });
            const Matrix a_pc{a.data + pc * a.col, a.row, a.col};
            const bool add = accumulate || pc > 0;
            const int64_t row_tiles = ceil_div(m, MR);
            // Threads take rows of C, else columns. The grain counts all of k: the regions of one product follow each
            // other while the threads still spin, so only the first one wakes them.
            if (row_tiles >= panels) {
                parallel_for(row_tiles, grain_units(kGrainFlop, 2.0 * MR * nc * k), [&](int64_t begin, int64_t end) {
                    thread_share(c + jc, ldc, a_pc, packed_b, begin * MR, std::min(end * MR, m), 0, nc, kc, add);
                });
            } else {
                parallel_for(panels, grain_units(kGrainFlop, 2.0 * m * NR * k), [&](int64_t begin, int64_t end) {
                    thread_share(c + jc, ldc, a_pc, packed_b, 0, m, begin * NR, std::min(end * NR, nc), kc, add);
                });
            }
        }
    }
}

void product(float* c, int64_t ldc, const Matrix& a, const Matrix& b, int64_t m, int64_t n, int64_t k, bool accumulate,
             bool in_order) {
    if (m == 0 || n == 0) return;
    if (k == 0) {
        if (!accumulate)
            for (int64_t i = 0; i < m; ++i) std::memset(c + i * ldc, 0, sizeof(float) * n);
        return;
    }
    if (!accumulate) {
        if (m == 1 && b.col == 1) return one_row(c, a.data, a.col, b.data, b.row, n, k);
        if (n == 1 && a.row == 1 && ldc == 1) return one_row(c, b.data, b.row, a.data, a.col, m, k);
        const auto as_dots = [&](int64_t narrow_side, int64_t long_side) {
            if (in_order) return false;
            return narrow_side == 1 || (narrow_side <= kDotsWidth && long_side >= 4 * narrow_side && k >= kDotsDepth);
        };
        if (a.col == 1 && as_dots(n, m)) return dots(c, ldc, 1, a, b, m, n, k);
        if (b.row == 1 && as_dots(m, n)) return dots(c, 1, ldc, {b.data, b.col, 1}, {a.data, a.col, a.row}, n, m, k);
    }
    if (n <= kernels().NR) return narrow(c, ldc, a, b, m, n, k, accumulate);
    blocked(c, ldc, a, b, m, n, k, accumulate);
}

}  // namespace

void gemm(float* c, int64_t ldc, const Matrix& a, const Matrix& b, int64_t m, int64_t n, int64_t k, bool accumulate) {
    product(c, ldc, a, b, m, n, k, accumulate, false);
}

void gemm_in_order(float* c, int64_t ldc, const Matrix& a, const Matrix& b, int64_t m, int64_t n, int64_t k) {
    product(c, ldc, a, b, m, n, k, false, true);
}

void gemm_plain(double* c, const double* a, int64_t a_row, int64_t a_col, const double* b, int64_t b_row, int64_t b_col,
                int64_t m, int64_t n, int64_t k) {
    parallel_for(m, grain_units(kGrainPlain, static_cast<double>(n) * k), [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
            double* row = c + i * n;
            std::fill(row, row + n, 0.0);
            for (int64_t p = 0; p < k; ++p) {
                const double factor = a[i * a_row + p * a_col];
                for (int64_t j = 0; j < n; ++j) row[j] += factor * b[p * b_row + j * b_col];
            }
        }
    });
}

}  // namespace pycnn
