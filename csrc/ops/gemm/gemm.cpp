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
#include <type_traits>

#include "ops/maps/elementwise.h"
#include "ops/runtime/caches.h"
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

struct Dots {  // c[i * c_row + j * c_col]: n <= kDotsWidth vectors of b against m of a, all contiguous along k
    float* c;
    int64_t c_row, c_col;
    Matrix a, b;
    int64_t m, n, k;
};
void dots(const Dots& s) {
    int64_t ldb = 0;
    Scratch scratch;
    const float* columns = contiguous_rows(scratch, s.b.data, s.b.col, s.b.row, s.n, s.k, &ldb);
    parallel_for(s.m, grain_rows(s.n, s.k), [&](int64_t begin, int64_t end) {
        kernels().gemm_dots({.c = s.c + begin * s.c_row,
                             .c_row = s.c_row,
                             .c_col = s.c_col,
                             .a = s.a.data + begin * s.a.row,
                             .lda = s.a.row,
                             .b = columns,
                             .ldb = ldb,
                             .m = end - begin,
                             .n = s.n,
                             .k = s.k});
    });
}

void one_row(const GemmOneRow& s) {
    constexpr int64_t kChunk = 128;  // columns: whole cache lines for every thread
    parallel_for(ceil_div(s.n, kChunk), grain_units(kGrainFlop / 4, 2.0 * kChunk * s.k),
                 [&](int64_t begin, int64_t end) {
                     GemmOneRow part = s;
                     part.c += begin * kChunk, part.b += begin * kChunk;
                     part.n = std::min(end * kChunk, s.n) - begin * kChunk;
                     kernels().gemm_one_row(part);
                 });
}

// Rows [begin, end) of a narrow C, whose B is packed as one panel; A is read in place through row pointers.
void indirect_rows(const Gemm& g, const float* packed, const int64_t* offset, int64_t begin, int64_t end) {
    constexpr int64_t kRows = 84;  // a multiple of every MR
    for (int64_t first = begin; first < end; first += kRows) {
        const int64_t rows = std::min(kRows, end - first);
        const float* a_rows[kRows];
        float* c_rows[kRows];
        for (int64_t i = 0; i < rows; ++i) {
            a_rows[i] = g.a.data + (first + i) * g.a.row;
            c_rows[i] = g.c + (first + i) * g.ldc;
        }
        const Steps all{0, g.k};
        kernels().indirect_block({.c = c_rows,
                                  .a = a_rows,
                                  .rows = rows,
                                  .columns = g.n,
                                  .offset = offset,
                                  .b = packed,
                                  .ldb = kernels().NR,
                                  .steps = &all,
                                  .ranges = 1,
                                  .accumulate = g.accumulate});
    }
}

const int64_t* column_offsets(Scratch& scratch, const Matrix& a, int64_t k) {
    int64_t* offset = scratch.array<int64_t>(k);
    for (int64_t p = 0; p < k; ++p) offset[p] = p * a.col;
    return offset;
}

// n <= NR: one packed panel of B, any number of rows of A.
void narrow(const Gemm& g) {
    Scratch scratch;
    float* packed = scratch.floats(g.k * kernels().NR);
    kernels().gemm_pack_b(packed, g.b, g.k, g.n);
    const int64_t* offset = column_offsets(scratch, g.a, g.k);
    parallel_for(g.m, grain_rows(g.n, g.k),
                 [&](int64_t begin, int64_t end) { indirect_rows(g, packed, offset, begin, end); });
}

struct Share {  // of C: rows [i0, i1), columns [j0, j1)
    int64_t i0, i1, j0, j1;
};

// The blocks of C that one thread owns for one packed B, `g` being the product of one kc and one nc.
void thread_share(const Gemm& g, const float* packed_b, const Share& share) {
    const auto [i0, i1, j0, j1] = share;
    const int64_t kc = g.k;
    const Kernels& isa = kernels();
    const int64_t MC = gemm_mc();
    Scratch scratch;
    float* packed_a = scratch.floats(ceil_div(std::min(MC, i1 - i0), isa.MR) * isa.MR * kc);
    for (int64_t ic = i0; ic < i1; ic += MC) {
        const int64_t mc = std::min(MC, i1 - ic);
        isa.gemm_pack_a(packed_a, {g.a.data + ic * g.a.row, g.a.row, g.a.col}, mc, kc);
        isa.gemm_block({.c = g.c + ic * g.ldc + j0,
                        .ldc = g.ldc,
                        .a = packed_a,
                        .b = packed_b + j0 * kc,
                        .mc = mc,
                        .nc = j1 - j0,
                        .kc = kc,
                        .accumulate = g.accumulate});
    }
}

void blocked(const Gemm& g) {
    const int64_t MR = kernels().MR, NR = kernels().NR, m = g.m, n = g.n, k = g.k;
    const int64_t NC = gemm_nc();
    const Matrix &a = g.a, &b = g.b;
    Scratch scratch;
    float* packed_b = scratch.floats(kKC * std::min(ceil_div(n, NR) * NR, NC));
    for (int64_t jc = 0; jc < n; jc += NC) {
        const int64_t nc = std::min(NC, n - jc), panels = ceil_div(nc, NR);
        for (int64_t pc = 0; pc < k; pc += kKC) {
            const int64_t kc = std::min(kKC, k - pc);
            parallel_for(panels, grain_units(kGrainBytes, 8.0 * kc * NR), [&](int64_t begin, int64_t end) {
                kernels().gemm_pack_b(packed_b + begin * NR * kc,
                                      {b.data + pc * b.row + (jc + begin * NR) * b.col, b.row, b.col}, kc,
                                      std::min(nc, end * NR) - begin * NR);
            });
            const Gemm part{.c = g.c + jc,
                            .ldc = g.ldc,
                            .a = {a.data + pc * a.col, a.row, a.col},
                            .b = b,
                            .m = m,
                            .n = nc,
                            .k = kc,
                            .accumulate = g.accumulate || pc > 0};
            const int64_t row_tiles = ceil_div(m, MR);
            // Threads take rows of C, else columns. The grain counts all of k: the regions of one product follow each
            // other while the threads still spin, so only the first one wakes them.
            if (row_tiles >= panels) {
                parallel_for(row_tiles, grain_units(kGrainFlop, 2.0 * MR * nc * k), [&](int64_t begin, int64_t end) {
                    thread_share(part, packed_b, {begin * MR, std::min(end * MR, m), 0, nc});
                });
            } else {
                parallel_for(panels, grain_units(kGrainFlop, 2.0 * m * NR * k), [&](int64_t begin, int64_t end) {
                    thread_share(part, packed_b, {0, m, begin * NR, std::min(end * NR, nc)});
                });
            }
        }
    }
}

void product(const Gemm& g, bool in_order) {
    const int64_t m = g.m, n = g.n, k = g.k;
    const Matrix &a = g.a, &b = g.b;
    if (m == 0 || n == 0) return;
    if (k == 0) {
        if (!g.accumulate)
            for (int64_t i = 0; i < m; ++i) std::memset(g.c + i * g.ldc, 0, sizeof(float) * n);
        return;
    }
    if (!g.accumulate) {
        if (m == 1 && b.col == 1)
            return one_row({.c = g.c, .x = a.data, .x_step = a.col, .b = b.data, .ldb = b.row, .n = n, .k = k});
        if (n == 1 && a.row == 1 && g.ldc == 1)
            return one_row({.c = g.c, .x = b.data, .x_step = b.row, .b = a.data, .ldb = a.col, .n = m, .k = k});
        const auto as_dots = [&](int64_t narrow_side, int64_t long_side) {
            if (in_order) return false;
            return narrow_side == 1 || (narrow_side <= kDotsWidth && long_side >= 4 * narrow_side && k >= kDotsDepth);
        };
        if (a.col == 1 && as_dots(n, m))
            return dots({.c = g.c, .c_row = g.ldc, .c_col = 1, .a = a, .b = b, .m = m, .n = n, .k = k});
        if (b.row == 1 && as_dots(m, n))
            return dots({.c = g.c,
                         .c_row = 1,
                         .c_col = g.ldc,
                         .a = {b.data, b.col, 1},
                         .b = {a.data, a.col, a.row},
                         .m = n,
                         .n = m,
                         .k = k});
    }
    n <= kernels().NR ? narrow(g) : blocked(g);
}

}  // namespace

// 3/16 of L3: 3072 columns, 6.3 MB, of 32 MB.
int64_t gemm_nc() {
    const int64_t NR = kernels().NR;
    return std::max<int64_t>(caches().l3 * 3 / 16 / (4 * kKC) / NR, 1) * NR;
}
// 9/16 of L2, 144 rows with AVX2 and 140 with AVX-512, but not more where L2 is larger than 512 KB: 2000^3 with 112, 224
// and 448 rows takes 77.4, 76.0 and 76.3 ms (AVX-512), with 144 and 222 73.5 and 74.2 (AVX2; Zen 4, two threads, minima).
int64_t gemm_mc() {
    const int64_t MR = kernels().MR, l2 = std::min<int64_t>(caches().l2, 524288);
    return std::max<int64_t>(l2 * 9 / 16 / (4 * kKC) / MR, 1) * MR;
}

void gemm(const Gemm& g) { product(g, false); }

void gemm_in_order(const Gemm& g) { product(g, true); }

void gemm_plain(const GemmOf<double>& g) {
    parallel_for(g.m, grain_units(kGrainPlain, static_cast<double>(g.n) * g.k), [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
            double* row = g.c + i * g.n;
            std::fill(row, row + g.n, 0.0);
            for (int64_t p = 0; p < g.k; ++p) {
                const double factor = g.a.data[i * g.a.row + p * g.a.col];
                for (int64_t j = 0; j < g.n; ++j) row[j] += factor * g.b.data[p * g.b.row + j * g.b.col];
            }
        }
    });
}

template <class T>
void linear(const LinearForward<T>& a) {
    const LinearShape& s = a.shape;
    const GemmOf<T> product{
        .c = a.y, .ldc = s.out, .a = {a.x, s.in, 1}, .b = {a.weight, s.out, 1}, .m = s.N, .n = s.out, .k = s.in};
    if constexpr (std::is_same_v<T, float>)
        gemm(product);
    else
        gemm_plain(product);
    finish<T>({.y = a.y, .x = a.y, .rows = s.N, .C = s.out, .epilogue = a.epilogue});
}
template void linear(const LinearForward<float>&);
template void linear(const LinearForward<double>&);

}  // namespace pycnn
