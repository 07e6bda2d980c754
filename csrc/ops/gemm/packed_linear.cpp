#include "ops/gemm/packed_linear.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "ops/gemm/gemm.h"
#include "ops/runtime/dispatch.h"
#include "ops/runtime/memory.h"
#include "ops/runtime/parallel.h"
#include "ops/runtime/scratch.h"
#include "ops/shapes.h"

namespace pycnn {

PackedLinear::PackedLinear(const float* weight, int64_t in, int64_t out)
    : isa_(&kernels()), in_(in), out_(out), packed_(aligned_floats(in * ceil_div(out, 16) * 16)) {
    const int64_t NR = isa_->NR;
    parallel_for(panels(), grain_units(kGrainBytes, 8.0 * static_cast<double>(in * NR)),
                 [&](int64_t begin, int64_t end) {
                     for (int64_t p = begin; p < end; ++p) {
                         const int64_t wide = width(p), columns = std::min(wide, out - p * NR);
                         float* to = packed_.get() + p * NR * in;
                         if (columns < wide) std::memset(to, 0, sizeof(float) * static_cast<std::size_t>(in * wide));
                         for (int64_t k = 0; k < in; ++k)
                             std::memcpy(to + k * wide, weight + k * out + p * NR,
                                         sizeof(float) * static_cast<std::size_t>(columns));
                     }
                 });
}

int64_t PackedLinear::panels() const { return ceil_div(out_, isa_->NR); }

int64_t PackedLinear::width(int64_t panel) const {
    return std::min(isa_->NR, ceil_div(out_ - panel * isa_->NR, 16) * 16);
}

namespace {

constexpr int64_t kRows = 84;  // of x at a time, a multiple of every MR

struct Rows {
    const float* a[kRows];
    float* c[kRows];
};

// Floats between the rows of a copied block of x: no multiple of 4 KB, or the rows of a tile would meet in one set of L1.
int64_t pitch(int64_t kc) { return kc + 16; }

}  // namespace

void PackedLinear::run(float* y, const float* x, const float* bias, bool relu, int64_t N) const {
    const Kernels& isa = *isa_;
    const int64_t NR = isa.NR, in = in_, out = out_;
    if (N == 1) {
        // Read at the speed of memory, not of arithmetic: a region pays from a quarter of the products on.
        parallel_for(panels(), grain_units(kGrainFlop / 4, 2.0 * static_cast<double>(in * NR)),
                     [&](int64_t begin, int64_t end) {
                         const int64_t columns = std::min(end * NR, out) - begin * NR;
                         isa.linear_row({.y = y + begin * NR,
                                         .x = x,
                                         .packed = packed_.get() + begin * NR * in,
                                         .bias = bias ? bias + begin * NR : nullptr,
                                         .in = in,
                                         .out = columns,
                                         .relu = relu});
                     });
        return;
    }
    std::vector<int64_t> offset(static_cast<std::size_t>(std::min(kKC, in)));
    for (std::size_t k = 0; k < offset.size(); ++k) offset[k] = static_cast<int64_t>(k);
    const auto share = [&](int64_t n0, int64_t n1, int64_t p0, int64_t p1) {
        Scratch scratch;
        float* block = scratch.floats(std::min(kRows, n1 - n0) * pitch(std::min(kKC, in)));
        Rows rows;
        for (int64_t n = n0; n < n1; n += kRows)
            for (int64_t k = 0; k < in; k += kKC) {
                const int64_t count = std::min(kRows, n1 - n), kc = std::min(kKC, in - k);
                for (int64_t i = 0; i < count; ++i) {
                    rows.a[i] = block + i * pitch(kc);
                    std::memcpy(block + i * pitch(kc), x + (n + i) * in + k,
                                sizeof(float) * static_cast<std::size_t>(kc));
                }
                const Steps all{0, kc};
                const bool last = k + kc == in;
                for (int64_t p = p0; p < p1; ++p) {
                    for (int64_t i = 0; i < count; ++i) rows.c[i] = y + (n + i) * out + p * NR;
                    isa.indirect_block({.c = rows.c,
                                        .a = rows.a,
                                        .rows = count,
                                        .columns = std::min(NR, out - p * NR),
                                        .offset = offset.data(),
                                        .b = packed_.get() + p * NR * in + k * width(p),
                                        .ldb = width(p),
                                        .steps = &all,
                                        .ranges = 1,
                                        .bias = last && bias ? bias + p * NR : nullptr,
                                        .relu = last && relu,
                                        .accumulate = k > 0});
                }
            }
    };
    const double row = 2.0 * static_cast<double>(in * out);
    if (panels() >= ceil_div(N, isa.MR))
        parallel_for(panels(), grain_units(kGrainFlop, row * static_cast<double>(N) / static_cast<double>(panels())),
                     [&](int64_t begin, int64_t end) { share(0, N, begin, end); });
    else
        parallel_for(N, grain_units(kGrainFlop, row),
                     [&](int64_t begin, int64_t end) { share(begin, end, 0, panels()); });
}

}  // namespace pycnn
