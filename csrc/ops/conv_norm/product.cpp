#include "ops/conv_norm/product.h"

#include <algorithm>

#include "ops/runtime/dispatch.h"
#include "ops/runtime/scratch.h"
#include "ops/shapes.h"

namespace pycnn::conv_norm {
namespace {

// Part `i` of `parts` of what comes next.
Fetch part_of(const Fetch& all, int64_t i, int64_t parts) {
    const int64_t first = all.lines * i / parts;
    return {all.from + first * 16, all.lines * (i + 1) / parts - first};
}

}  // namespace

void multiply(const Rows& s, Lists& lists, const Fetch (&next)[2]) {
    const int64_t NR = kernels().NR, panels = ceil_div(s.n, NR);
    const Steps all{0, s.k};
    lists.a.resize(s.rows), lists.c.resize(s.rows), lists.offset.resize(s.k);
    for (int64_t i = 0; i < s.rows; ++i) lists.a[i] = s.a + i * s.k;
    for (int64_t p = 0; p < s.k; ++p) lists.offset[p] = p;
    for (int64_t panel = 0; panel < panels; ++panel) {
        const int64_t j = panel * NR;
        for (int64_t i = 0; i < s.rows; ++i) lists.c[i] = s.c + i * s.n + j;
        kernels().indirect_block({lists.c.data(),
                                  lists.a.data(),
                                  s.rows,
                                  std::min(NR, s.n - j),
                                  lists.offset.data(),
                                  s.b + j * s.k,
                                  NR,
                                  &all,
                                  1,
                                  s.bias ? s.bias + j : nullptr,
                                  false,
                                  false,
                                  false,
                                  {part_of(next[0], panel, panels), part_of(next[1], panel, panels)}});
    }
}

void add_transposed(const Columns& s, Lists& lists, const Fetch (&next)[2]) {
    const int64_t NR = kernels().NR, panels = ceil_div(s.n, NR);
    const Steps all{0, s.rows};
    Scratch scratch;
    float* packed = scratch.floats(s.rows * NR);
    lists.a.resize(s.m), lists.c.resize(s.m), lists.offset.resize(s.rows);
    for (int64_t i = 0; i < s.m; ++i) lists.a[i] = s.a + i;
    for (int64_t p = 0; p < s.rows; ++p) lists.offset[p] = p * s.m;
    for (int64_t panel = 0; panel < panels; ++panel) {
        const int64_t j = panel * NR, columns = std::min(NR, s.n - j);
        for (int64_t i = 0; i < s.m; ++i) lists.c[i] = s.c + i * s.n + j;
        // As in direct_weight.cpp: in place, the lines of a narrow panel of wide rows would share a part of L1.
        const bool packs = columns % 16 || s.n >= 4 * NR;
        if (packs) kernels().gemm_pack_b(packed, {s.b + j, s.n, 1}, s.rows, columns);
        kernels().indirect_block({lists.c.data(),
                                  lists.a.data(),
                                  s.m,
                                  columns,
                                  lists.offset.data(),
                                  packs ? packed : s.b + j,
                                  packs ? NR : s.n,
                                  &all,
                                  1,
                                  nullptr,
                                  false,
                                  true,
                                  false,
                                  {part_of(next[0], panel, panels), part_of(next[1], panel, panels)}});
    }
}

}  // namespace pycnn::conv_norm
