// Convolution as a matrix product on a buffer of patches: the textbook way, kept to be compared with.
//
//   columns [pixels of a few images][K = KH * KW * Cg]: one row a patch
//   forward           y  = columns W                W = weight as [K][OC]
//   backward_input    dcolumns = dy W^T, then every patch is added back to where it was read (col2im)
//   backward_weight   dW = columns^T dy
//
// The buffer repeats every pixel up to KH * KW times; that traffic is what direct convolution saves.

#include <cstring>

#include "ops/conv2d/conv2d.h"
#include "ops/gemm/gemm.h"
#include "ops/maps/elementwise.h"
#include "ops/runtime/dispatch.h"
#include "ops/runtime/parallel.h"
#include "ops/runtime/scratch.h"

namespace pycnn::im2col {
namespace {

// Images whose patches fill at most 16 MB.
int64_t images_at_once(const Conv2dShape& s, int64_t K) {
    return std::max<int64_t>((int64_t{1} << 22) / std::max<int64_t>(s.OH() * s.OW() * K, 1), 1);
}

// Calls visit(position in the patch, pixel of x or -1) for the taps of output pixel (oh, ow).
template <class Visit>
void for_taps(const Conv2dShape& s, int64_t oh, int64_t ow, Visit&& visit) {
    for (int64_t kh = 0; kh < s.KH; ++kh)
        for (int64_t kw = 0; kw < s.KW; ++kw) {
            const int64_t h = oh * s.stride_h + kh * s.dilation_h - s.pad.top;
            const int64_t w = ow * s.stride_w + kw * s.dilation_w - s.pad.left;
            const bool inside = h >= 0 && h < s.H && w >= 0 && w < s.W;
            visit((kh * s.KW + kw) * s.group_C(), inside ? h * s.W + w : -1);
        }
}

void fill_columns(float* columns, const float* x, const Conv2dShape& s, int64_t images, int64_t g) {
    const int64_t OH = s.OH(), OW = s.OW(), Cg = s.group_C(), K = s.taps() * Cg;
    parallel_for(images * OH, grain_units(kGrainBytes, 8.0 * OW * K), [&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row)
            for (int64_t ow = 0; ow < OW; ++ow) {
                float* patch = columns + (row * OW + ow) * K;
                const float* image = x + row / OH * s.H * s.W * s.C + g * Cg;
                for_taps(s, row % OH, ow, [&](int64_t at, int64_t pixel) {
                    if (pixel < 0)
                        std::memset(patch + at, 0, sizeof(float) * Cg);
                    else
                        std::memcpy(patch + at, image + pixel * s.C, sizeof(float) * Cg);
                });
            }
    });
}

void add_columns(float* dx, const float* columns, const Conv2dShape& s, int64_t images, int64_t g) {
    const int64_t OH = s.OH(), OW = s.OW(), Cg = s.group_C(), K = s.taps() * Cg;
    parallel_for(images, grain_units(kGrainBytes, 8.0 * OH * OW * K), [&](int64_t begin, int64_t end) {
        for (int64_t n = begin; n < end; ++n)
            for (int64_t pixel_out = 0; pixel_out < OH * OW; ++pixel_out) {
                const float* patch = columns + (n * OH * OW + pixel_out) * K;
                float* image = dx + n * s.H * s.W * s.C + g * Cg;
                for_taps(s, pixel_out / OW, pixel_out % OW, [&](int64_t at, int64_t pixel) {
                    for (int64_t c = 0; pixel >= 0 && c < Cg; ++c) image[pixel * s.C + c] += patch[at + c];
                });
            }
    });
}

}  // namespace

static void forward(const Conv2dForward& call) {
    const Conv2dShape& s = call.shape;
    const float *x = call.x, *weight = call.packed;
    const int64_t pixels = s.OH() * s.OW(), K = s.taps() * s.group_C(), step = images_at_once(s, K);
    const bool over = call.y == call.epilogue.residual;  // then the product must not lie where the residual does
    for (int64_t n = 0; n < s.N; n += step) {
        const int64_t images = std::min(step, s.N - n), at = n * pixels * s.OC;
        Scratch scratch;
        float* columns = scratch.floats(images * pixels * K);
        float* map = over ? scratch.floats(images * pixels * s.OC) : call.y + at;
        for (int64_t g = 0; g < s.groups; ++g) {
            fill_columns(columns, x + n * s.H * s.W * s.C, s, images, g);
            gemm({.c = map + g * s.group_OC(),
                  .ldc = s.OC,
                  .a = {columns, K, 1},
                  .b = {weight + g * s.group_OC(), s.OC, 1},
                  .m = images * pixels,
                  .n = s.group_OC(),
                  .k = K});
        }
        finish<float>({.y = call.y + at,
                       .x = map,
                       .rows = images * pixels,
                       .C = s.OC,
                       .epilogue = part_of(call.epilogue, 0, at)});
    }
}

static void backward_input(const Conv2dBackwardInput& call) {
    const Conv2dShape& s = call.shape;
    float* dx = call.dx;
    const float *dy = call.dy, *weight = call.weight;
    const int64_t pixels = s.OH() * s.OW(), K = s.taps() * s.group_C(), step = images_at_once(s, K);
    std::memset(dx, 0, sizeof(float) * s.N * s.H * s.W * s.C);
    for (int64_t n = 0; n < s.N; n += step)
        for (int64_t g = 0; g < s.groups; ++g) {
            const int64_t images = std::min(step, s.N - n);
            Scratch scratch;
            float* columns = scratch.floats(images * pixels * K);
            gemm({.c = columns,
                  .ldc = K,
                  .a = {dy + n * pixels * s.OC + g * s.group_OC(), s.OC, 1},
                  .b = {weight + g * s.group_OC(), 1, s.OC},
                  .m = images * pixels,
                  .n = K,
                  .k = s.group_OC()});
            add_columns(dx + n * s.H * s.W * s.C, columns, s, images, g);
        }
}

static void backward_weight(float* dweight, const float* x, const float* dy, const Conv2dShape& s) {
    const int64_t pixels = s.OH() * s.OW(), K = s.taps() * s.group_C(), step = images_at_once(s, K);
    std::memset(dweight, 0, sizeof(float) * K * s.OC);
    for (int64_t n = 0; n < s.N; n += step)
        for (int64_t g = 0; g < s.groups; ++g) {
            const int64_t images = std::min(step, s.N - n);
            Scratch scratch;
            float* columns = scratch.floats(images * pixels * K);
            fill_columns(columns, x + n * s.H * s.W * s.C, s, images, g);
            gemm({.c = dweight + g * s.group_OC(),
                  .ldc = s.OC,
                  .a = {columns, 1, K},
                  .b = {dy + n * pixels * s.OC + g * s.group_OC(), s.OC, 1},
                  .m = K,
                  .n = s.group_OC(),
                  .k = images * pixels,
                  .accumulate = true});
        }
}

// Every number of a patch is written and read besides; the products alone cost what direct convolution costs.
static double cost(const Conv2dShape& s, Direction direction, bool packed) {
    const double patches = static_cast<double>(s.N) * s.OH() * s.OW() * s.taps() * s.C;
    return direct::algorithm.cost(s, direction, packed) + 16 * patches;
}

// Its product is cut like any other (gemm.cpp); this is what fills the patches.
static Cut cut(const Conv2dShape& s, Direction) { return cut_units(s.N * s.OH()); }

const Algorithm algorithm = {.name = "im2col",
                             .reason = "one large product, behind a buffer of all patches",
                             .computes = "any convolution",
                             .fits = [](const Conv2dShape&, Direction) { return true; },
                             .cost = cost,
                             .cut = cut,
                             .forward = forward,
                             .backward_input = backward_input,
                             .backward_weight = backward_weight,
                             .crops = true};

}  // namespace pycnn::im2col
