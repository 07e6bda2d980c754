// Depthwise convolution: a row of outputs at a time, cut into runs of outputs whose taps inside the image are the same
// (conv2d/axis.h), so no image is padded. Threads take rows, for the gradient of the weight channels: nothing is
// reduced.

#include "ops/conv2d/depthwise.h"

#include <vector>

#include "ops/conv2d/axis.h"
#include "ops/runtime/dispatch.h"
#include "ops/runtime/parallel.h"

namespace pycnn::depthwise {

static bool fits(const Conv2dShape& s, Direction) { return s.groups > 1 && s.groups == s.C && s.OC == s.C; }

namespace {

struct Correlation {
    const float* in;      // [N][h.size][w.size][C]
    const float* weight;  // [KH][KW][C]
    float* out;           // [N][out_H][out_W][C]
    int64_t N, C, KW;
    Axis h, w;
    int64_t out_H, out_W, out_step_h, out_step_w, out_row, out_col;
    Epilogue epilogue;
};

// The taps of one sort of rows and one of columns: where they read, and which row of the weight is theirs.
void list_taps(std::vector<DepthwiseTap>& taps, const Axis& h, const Axis& w, const Sort& rows, const Sort& cols,
               int64_t C, int64_t KW) {
    taps.clear();
    for (int64_t i = rows.first; i < rows.last; ++i)
        for (int64_t j = cols.first; j < cols.last; ++j)
            taps.push_back({(h.taps[i].d * w.size + w.taps[j].d) * C, (h.taps[i].k * KW + w.taps[j].k) * C});
}

const Sort& sort_of(const Axis& axis, int64_t output) {
    std::size_t i = 0;
    while (output >= axis.sorts[i].end) ++i;
    return axis.sorts[i];
}

// First tap of output (n, r, q), perhaps outside the image, as an offset.
int64_t first_tap(const Axis& h, const Axis& w, int64_t C, int64_t n, int64_t r, int64_t q) {
    return ((n * h.size + r * h.step - h.before) * w.size + q * w.step - w.before) * C;
}

void run(Correlation& s) {
    s.h.sort_outputs(), s.w.sort_outputs();
    if (s.w.outputs == 0) return;
    const double row_bytes = 4.0 * s.w.outputs * s.C * (s.h.taps_count() * s.w.taps_count() + 1);
    parallel_for(s.N * s.h.outputs, grain_units(kGrainBytes, row_bytes), [&](int64_t begin, int64_t end) {
        std::vector<DepthwiseTap> taps;
        for (int64_t row = begin; row < end; ++row) {
            const int64_t n = row / s.h.outputs, r = row % s.h.outputs;
            float* out = s.out + ((n * s.out_H + r * s.out_step_h + s.out_row) * s.out_W + s.out_col) * s.C;
            for (const Sort& cols : s.w.sorts) {
                list_taps(taps, s.h, s.w, sort_of(s.h, r), cols, s.C, s.KW);
                float* first = out + cols.begin * s.out_step_w * s.C;
                kernels().depthwise_row({.out = first,
                                         .out_step = s.out_step_w * s.C,
                                         .in = s.in + first_tap(s.h, s.w, s.C, n, r, cols.begin),
                                         .in_step = s.w.step * s.C,
                                         .w = s.weight,
                                         .taps = taps.data(),
                                         .count = static_cast<int64_t>(taps.size()),
                                         .outputs = cols.end - cols.begin,
                                         .C = s.C,
                                         .epilogue = part_of(s.epilogue, 0, first - s.out)});
            }
        }
    });
}

}  // namespace

static void forward(const Conv2dForward& call) {
    const Conv2dShape& s = call.shape;
    if (tiled_forward(call)) return;
    Correlation p{call.x,
                  call.packed,
                  call.y,
                  s.N,
                  s.C,
                  s.KW,
                  forward_axis(s.along_h()),
                  forward_axis(s.along_w()),
                  s.OH(),
                  s.OW(),
                  1,
                  1,
                  0,
                  0,
                  call.epilogue};
    run(p);
}

static void backward_input(const Conv2dBackwardInput& call) {
    const Conv2dShape& s = call.shape;
    if (tiled_backward_input(call)) return;
    for (int64_t ph = 0; ph < std::min(s.stride_h, s.H); ++ph)
        for (int64_t pw = 0; pw < std::min(s.stride_w, s.W); ++pw) {
            Correlation p{call.dy,
                          call.weight,
                          call.dx,
                          s.N,
                          s.C,
                          s.KW,
                          backward_axis(s.along_h(), ph),
                          backward_axis(s.along_w(), pw),
                          s.H,
                          s.W,
                          s.stride_h,
                          s.stride_w,
                          ph,
                          pw,
                          {}};
            run(p);
        }
}

static void backward_weight(float* dweight, const float* x, const float* dy, const Conv2dShape& s) {
    if (tiled_backward_weight(dweight, x, dy, s)) return;
    Axis h = forward_axis(s.along_h());
    Axis w = forward_axis(s.along_w());
    h.sort_outputs(), w.sort_outputs();
    constexpr int64_t kChannels = 16;
    const int64_t chunks = ceil_div(s.C, kChannels);
    parallel_for(chunks, grain_units(kGrainFlop, s.flop() / chunks), [&](int64_t begin, int64_t end) {
        const int64_t c = begin * kChannels, channels = std::min(end * kChannels, s.C) - c;
        for (int64_t t = 0; t < s.taps(); ++t) std::fill_n(dweight + t * s.C + c, channels, 0.0f);
        std::vector<DepthwiseTap> taps;
        for (int64_t n = 0; n < s.N; ++n)
            for (int64_t r = 0; r < h.outputs; ++r)
                for (const Sort& cols : w.sorts) {
                    list_taps(taps, h, w, sort_of(h, r), cols, s.C, s.KW);
                    kernels().depthwise_weight_row(
                        {dweight + c, dy + ((n * h.outputs + r) * w.outputs + cols.begin) * s.C + c,
                         x + first_tap(h, w, s.C, n, r, cols.begin) + c, w.step * s.C, s.C, taps.data(),
                         static_cast<int64_t>(taps.size()), cols.end - cols.begin, channels});
                }
    });
}

const Algorithm algorithm = {.name = "depthwise",
                             .reason = "lanes are channels, each with taps of its own",
                             .computes = "groups = C = OC, above 1",
                             .fits = fits,
                             .cost = [](const Conv2dShape& s, Direction, bool) { return inner_products(s); },
                             .cut = [](const Conv2dShape& s, Direction d) { return cut_units(units(s, d)); },
                             .forward = forward,
                             .backward_input = backward_input,
                             .backward_weight = backward_weight};

}  // namespace pycnn::depthwise
