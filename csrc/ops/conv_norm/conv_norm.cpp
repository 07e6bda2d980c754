// Forward and backward of a 1 x 1 convolution with batch normalisation behind it. See conv_norm.h.

#include "ops/conv_norm/conv_norm.h"

#include <cstring>

#include "ops/conv2d/conv2d.h"
#include "ops/conv2d/pack.h"
#include "ops/conv_norm/product.h"
#include "ops/maps/norm_parts.h"
#include "ops/runtime/caches.h"
#include "ops/runtime/dispatch.h"
#include "ops/runtime/parallel.h"
#include "ops/runtime/scratch.h"

namespace pycnn {
namespace {

using conv_norm::Lists, norm::Coefficients, norm::Layout;

constexpr int64_t kBlock = 32768;  // numbers of z or dz at once, 128 KB; twice that takes the same time

// The gradient of the weight is added up in slots of rows, and the slots in order. By the shape alone.
constexpr int64_t kSlots = 32;

double row_cost(const Conv2dShape& s) { return 2.0 * s.C * s.OC + 4.0 * s.OC * (kGrainFlop / kGrainBytes); }

// Lines of `floats` numbers, or none.
Fetch lines(const float* from, int64_t floats) { return {from, std::max<int64_t>(floats, 0) / 16}; }

// z, and the sums of its chunks, a block of chunks after the other. A large z is computed in a buffer in L2 and written
// past the caches from there: 8.3 -> 6.9 ms at 56x56x64->256, 8 images, two threads, Zen 4, minimum.
void convolve(float* z, float* parts, const float* x, const float* packed, const float* bias, const Conv2dShape& s,
              const Layout& l) {
    const int64_t at_once = std::max<int64_t>(kBlock / (l.chunk * l.C), 1);  // l.fold is 1: OC is above 8
    const bool stream = streams(z, l.rows * l.C, l.C);
    const auto row = [&](int64_t chunk) { return std::min(l.first(chunk), l.rows); };
    parallel_for(l.chunks, grain_units(kGrainFlop, row_cost(s) * l.chunk), [&](int64_t begin, int64_t end) {
        Lists lists;
        Scratch scratch;
        float* room = stream ? scratch.floats(at_once * l.chunk * l.C) : nullptr;
        for (int64_t i = begin; i < end; i += at_once) {
            const int64_t last = std::min(i + at_once, end), r0 = row(i), r1 = row(last);
            const int64_t next = row(std::min(last + at_once, end)) - r1;
            float* block = stream ? room : z + r0 * s.OC;
            conv_norm::multiply({block, x + r0 * s.C, r1 - r0, s.C, s.OC, packed, bias}, lists,
                                {lines(x + r1 * s.C, next * s.C), {}});
            for (int64_t chunk = i; chunk < last; ++chunk)
                norm::chunk_statistics({.parts = parts,
                                        .x = block + l.at(chunk - i),
                                        .i = chunk,
                                        .copy = stream ? z + l.at(chunk) : nullptr},
                                       l);
        }
    });
}

struct Backward {
    float *dx, *slots;
    const float *dy, *z, *x, *packed;
    const Coefficients& k;
    const Activation& activation;
};

// Rows [begin, end) of one slot: dz in blocks that stay in L2, and both products of each.
void add_rows(const Backward& b, const Conv2dShape& s, const Layout& l, int64_t slot, int64_t begin, int64_t end,
              Lists& lists) {
    const int64_t block = std::max<int64_t>(kBlock / s.OC, 1), size = s.C * s.OC;
    Scratch scratch;
    float* dz = scratch.floats(block * s.OC);
    float* dweight = b.slots + slot * size;
    std::memset(dweight, 0, sizeof(float) * size);
    for (int64_t r0 = begin; r0 < end; r0 += block) {
        const int64_t r1 = std::min(r0 + block, end), rows = r1 - r0, next = std::min(r1 + block, end) - r1;
        for (int64_t r = r0; r < r1; r += l.chunk) {
            const int64_t at = r * s.OC;
            const NormRows plain = b.k.rows(std::min(l.chunk, r1 - r), s.OC);
            float* to = dz + (r - r0) * s.OC;
            const float* dy = b.dy + at;
            if (norm::is_late(b.activation)) {
                norm::late_gradient({.g = to, .dy = dy, .x = b.z + at, .y = nullptr}, plain, b.activation);
                dy = to;
            }
            kernels().norm_gradient({.dx = to, .dy = dy, .x = b.z + at, .constant = b.k.constant, .slope = b.k.slope},
                                    norm::activated(plain, b.activation));
        }
        const Fetch next_dy = lines(b.dy + r1 * s.OC, next * s.OC), next_z = lines(b.z + r1 * s.OC, next * s.OC);
        conv_norm::add_transposed({dweight, b.x + r0 * s.C, dz, rows, s.C, s.OC}, lists,
                                  {next_dy, b.dx ? Fetch{} : next_z});
        if (b.dx) conv_norm::multiply({b.dx + r0 * s.C, dz, rows, s.OC, s.C, b.packed, nullptr}, lists, {next_z, {}});
    }
}

void add_slots(float* dweight, const float* slots, int64_t S, int64_t size) {
    parallel_for(size, grain_units(kGrainBytes, 4.0 * S), [&](int64_t begin, int64_t end) {
        std::memcpy(dweight + begin, slots + begin, sizeof(float) * (end - begin));
        for (int64_t slot = 1; slot < S; ++slot)
            kernels().accumulate(dweight + begin, slots + slot * size + begin, end - begin);
    });
}

}  // namespace

bool is_pointwise(const Conv2dShape& s) {
    return s.KH == 1 && s.KW == 1 && s.stride_h == 1 && s.stride_w == 1 && s.groups == 1 && !s.padded();
}

// Time of the fused operators over that of the parts, forward and backward with relu, two threads, Zen 4 (family 25 model
// 17), AVX-512, in turn, minima; (pixels for each input channel):
//
//   4 images   112x112x16->96 0.83 (3136)   56x56x24->144 0.94 (523)   56x56x64->256 0.97 (196)   56x56x64->64 0.96 (196)
//              28x28x32->192 0.99 (98)      28x28x128->512 1.09 (25)   14x14x64->384 1.17 (12)    7x7x320->1280 3.2 (1)
//   16 images  112x112x16->96 0.70          56x56x24->144 0.82         56x56x64->256 0.85         56x56x64->64 0.97
//              28x28x32->192 0.94 (392)     28x28x128->512 1.03 (98)   14x14x64->384 1.04 (49)    7x7x320->1280 1.7 (2)
//
// Where the result is the narrower side little of dz is saved, and dx, which is then the large one, is written block by
// block: 112x112x32->16 0.89 and 1.20, 56x56x144->24 1.00 and 1.36, 56x56x256->64 1.07 and 1.15, 28x28x192->32 1.02 and
// 1.03, 14x14x576->96 1.21 and 1.12. Blocks that count x as well did not change that.
bool conv2d_norm_pays(const Conv2dShape& s) {
    constexpr int64_t kFewChannels = 8;  // up to here the convolution has kernels of its own
    return s.C > kFewChannels && s.OC >= s.C && s.N * s.H * s.W >= 128 * s.C;
}

void conv2d_norm_forward(const ConvNormForward& a, const NormFunction<float>& f, const Conv2dShape& s) {
    const int64_t rows = s.N * s.H * s.W;
    if (conv2d_norm_pays(s)) {
        const Layout l(rows, s.OC);
        Scratch scratch;
        float* parts = scratch.floats(l.chunks * 3 * l.C);
        convolve(a.z, parts, a.x, packed_in_scratch(scratch, direct::algorithm, a.weight, s), a.bias, s, l);
        norm::merge_statistics(a.mean, a.variance, parts, l);
    } else {
        conv2d_forward({.y = a.z, .x = a.x, .weight = a.weight, .shape = s, .epilogue = {.bias = a.bias}});
        batch_statistics<float>({.mean = a.mean, .variance = a.variance, .x = a.z, .rows = rows, .C = s.OC});
    }
    batch_norm_apply<float>({.y = a.y, .x = a.z, .rows = rows, .C = s.OC}, f);
}

void conv2d_norm_backward(const ConvNormBackward& a, const NormFunction<float>& f, const Conv2dShape& s) {
    const int64_t rows = s.N * s.H * s.W, size = s.C * s.OC;
    NormBackward<float> of_norm{
        .dx = nullptr, .dweight = a.dgamma, .dbias = a.dbeta, .dy = a.dy, .x = a.z, .rows = rows, .C = s.OC};
    if (!conv2d_norm_pays(s)) {
        Scratch scratch;
        float* dz = of_norm.dx = scratch.floats(rows * s.OC);
        batch_norm_backward(of_norm, f);
        conv2d_backward_weight({.dweight = a.dweight, .x = a.x, .dy = dz, .shape = s});
        if (a.dx) conv2d_backward_input({.dx = a.dx, .dy = dz, .weight = a.weight, .shape = s});
        return;
    }
    const Layout l(rows, s.OC);
    Scratch scratch;
    float* parts = scratch.floats(l.chunks * 2 * l.C + 5 * l.C);
    const Coefficients k(parts + l.chunks * 2 * l.C, f, l);
    norm::gradient_coefficients(of_norm, f, k, parts);
    const float* packed =
        a.dx ? pack_backward(scratch, {.weight = a.weight, .shape = s, .kh = {0}, .kw = {0}}) : nullptr;
    float* slots = scratch.floats(kSlots * size);
    const Backward b{.dx = a.dx,
                     .slots = slots,
                     .dy = a.dy,
                     .z = a.z,
                     .x = a.x,
                     .packed = packed,
                     .k = k,
                     .activation = f.activation};
    parallel_for(kSlots, grain_units(kGrainFlop, 2 * row_cost(s) * rows / kSlots), [&](int64_t begin, int64_t end) {
        Lists lists;
        for (int64_t slot = begin; slot < end; ++slot)
            add_rows(b, s, l, slot, slot * rows / kSlots, (slot + 1) * rows / kSlots, lists);
    });
    add_slots(a.dweight, slots, kSlots, size);
}

}  // namespace pycnn
