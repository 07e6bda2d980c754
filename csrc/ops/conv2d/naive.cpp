// Convolution as its formula: seven loops, for float and double. What the other algorithms are tested against, and what
// float64 and tiny groups run on. Each output adds its products in the order kh, kw, c (forward), oh, ow, oc ... as
// written.

#include <algorithm>
#include <vector>

#include "ops/conv2d/conv2d.h"
#include "ops/maps/elementwise.h"
#include "ops/runtime/parallel.h"

namespace pycnn::naive {
namespace {

// Multiplications that one element of a result needs.
int64_t grain(double each) { return grain_units(kGrainPlain, each); }

}  // namespace

template <class T>
void forward(T* y, const T* x, const T* weight, const Conv2dShape& s, const EpilogueOf<T>& epilogue) {
    const int64_t OH = s.OH(), OW = s.OW(), Cg = s.group_C(), OCg = s.group_OC();
    parallel_for(s.N * OH, grain(static_cast<double>(OW) * s.OC * s.taps() * Cg), [&](int64_t begin, int64_t end) {
        std::vector<T> out(s.OC);  // of one pixel, since y may be the residual
        for (int64_t row = begin; row < end; ++row)
            for (int64_t ow = 0; ow < OW; ++ow) {
                const int64_t n = row / OH, oh = row % OH, to = (row * OW + ow) * s.OC;
                std::fill(out.begin(), out.end(), T(0));
                for (int64_t kh = 0; kh < s.KH; ++kh)
                    for (int64_t kw = 0; kw < s.KW; ++kw) {
                        const int64_t h = oh * s.stride_h + kh * s.dilation_h - s.pad.top;
                        const int64_t w = ow * s.stride_w + kw * s.dilation_w - s.pad.left;
                        if (h < 0 || h >= s.H || w < 0 || w >= s.W) continue;
                        const T* pixel = x + ((n * s.H + h) * s.W + w) * s.C;
                        const T* tap = weight + (kh * s.KW + kw) * Cg * s.OC;
                        for (int64_t g = 0; g < s.groups; ++g)
                            for (int64_t c = 0; c < Cg; ++c)
                                for (int64_t oc = g * OCg; oc < (g + 1) * OCg; ++oc)
                                    out[oc] += pixel[g * Cg + c] * tap[c * s.OC + oc];
                    }
                finish_here<T>(
                    {.y = y + to, .x = out.data(), .rows = 1, .C = s.OC, .epilogue = part_of(epilogue, 0, to)});
            }
    });
}

template <class T>
void backward_input(T* dx, const T* dy, const T* weight, const Conv2dShape& s) {
    const int64_t OH = s.OH(), OW = s.OW(), Cg = s.group_C(), OCg = s.group_OC();
    parallel_for(s.N * s.H, grain(static_cast<double>(s.W) * s.C * s.taps() * OCg), [&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row)
            for (int64_t w = 0; w < s.W; ++w) {
                const int64_t n = row / s.H, h = row % s.H;
                T* pixel = dx + (row * s.W + w) * s.C;
                std::fill(pixel, pixel + s.C, T(0));
                for (int64_t kh = 0; kh < s.KH; ++kh)
                    for (int64_t kw = 0; kw < s.KW; ++kw) {
                        const int64_t above = h + s.pad.top - kh * s.dilation_h;
                        const int64_t before = w + s.pad.left - kw * s.dilation_w;
                        if (above < 0 || above % s.stride_h || above / s.stride_h >= OH) continue;
                        if (before < 0 || before % s.stride_w || before / s.stride_w >= OW) continue;
                        const T* out = dy + ((n * OH + above / s.stride_h) * OW + before / s.stride_w) * s.OC;
                        const T* tap = weight + (kh * s.KW + kw) * Cg * s.OC;
                        for (int64_t g = 0; g < s.groups; ++g)
                            for (int64_t c = 0; c < Cg; ++c)
                                for (int64_t oc = g * OCg; oc < (g + 1) * OCg; ++oc)
                                    pixel[g * Cg + c] += out[oc] * tap[c * s.OC + oc];
                    }
            }
    });
}

template <class T>
void backward_weight(T* dweight, const T* x, const T* dy, const Conv2dShape& s) {
    const int64_t OH = s.OH(), OW = s.OW(), Cg = s.group_C(), OCg = s.group_OC();
    const double each = static_cast<double>(s.N) * OH * OW * s.OC;
    parallel_for(s.taps() * Cg, grain(each), [&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row) {
            const int64_t c = row % Cg, kw = row / Cg % s.KW, kh = row / Cg / s.KW;
            T* total = dweight + row * s.OC;
            std::fill(total, total + s.OC, T(0));
            for (int64_t n = 0; n < s.N; ++n)
                for (int64_t oh = 0; oh < OH; ++oh)
                    for (int64_t ow = 0; ow < OW; ++ow) {
                        const int64_t h = oh * s.stride_h + kh * s.dilation_h - s.pad.top;
                        const int64_t w = ow * s.stride_w + kw * s.dilation_w - s.pad.left;
                        if (h < 0 || h >= s.H || w < 0 || w >= s.W) continue;
                        const T* pixel = x + ((n * s.H + h) * s.W + w) * s.C;
                        const T* out = dy + ((n * OH + oh) * OW + ow) * s.OC;
                        for (int64_t g = 0; g < s.groups; ++g)
                            for (int64_t oc = g * OCg; oc < (g + 1) * OCg; ++oc)
                                total[oc] += pixel[g * Cg + c] * out[oc];
                    }
        }
    });
}

template void forward(float*, const float*, const float*, const Conv2dShape&, const EpilogueOf<float>&);
template void forward(double*, const double*, const double*, const Conv2dShape&, const EpilogueOf<double>&);
template void backward_input(float*, const float*, const float*, const Conv2dShape&);
template void backward_input(double*, const double*, const double*, const Conv2dShape&);
template void backward_weight(float*, const float*, const float*, const Conv2dShape&);
template void backward_weight(double*, const double*, const double*, const Conv2dShape&);

// One product after the other, each loaded and stored.
static double cost(const Conv2dShape& s, Direction, bool) { return 32 * inner_products(s); }

static Cut cut(const Conv2dShape& s, Direction direction) {
    if (direction == Direction::backward_weight) return cut_units(s.taps() * s.group_C());
    return cut_units(s.N * (direction == Direction::forward ? s.OH() : s.H));
}

const Algorithm algorithm = {
    .name = "naive",
    .reason = "plain loops: nothing is prepared, and no vector stays half empty",
    .computes = "any convolution",
    .fits = [](const Conv2dShape&, Direction) { return true; },
    .cost = cost,
    .cut = cut,
    .forward = [](const Conv2dForward& c) { forward(c.y, c.x, c.packed, c.shape, c.epilogue); },
    .backward_input = [](const Conv2dBackwardInput& c) { backward_input(c.dx, c.dy, c.weight, c.shape); },
    .backward_weight = backward_weight<float>,
    .crops = true};

}  // namespace pycnn::naive
