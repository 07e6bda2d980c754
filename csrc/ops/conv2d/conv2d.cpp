// The registry of algorithms: lists them, chooses one, and pools where it does not.

#include "ops/conv2d/conv2d.h"

#include <atomic>

#include "ops/conv_pool/conv_pool.h"
#include "ops/maps/elementwise.h"
#include "ops/runtime/dispatch.h"
#include "ops/runtime/scratch.h"

namespace pycnn {

static std::atomic<bool> exact{false};

void set_exact(bool on) {
    const NoKernelsInUse alone;
    exact = on;
}
bool is_exact() { return exact; }

std::span<const Algorithm* const> algorithms() {
    static const Algorithm* const all[] = {
        &depthwise::algorithm,  &grouped::algorithm, &few_channels::algorithm, &winograd::large_tiles,
        &winograd::small_tiles, &direct::algorithm,  &im2col::algorithm,       &naive::algorithm,
    };
    return all;
}

static const Algorithm* cheapest(std::string_view name, const Conv2dShape& s, Direction direction, bool packed) {
    const Algorithm* best = nullptr;
    double least = 0;
    for (const Algorithm* a : algorithms()) {
        if ((name != "auto" && name != a->name) || !a->fits(s, direction) || (s.crops() && !a->crops)) continue;
        const double cost = a->cost(s, direction, packed);
        if (!best || cost < least) best = a, least = cost;
    }
    return best;
}

const Algorithm& choose(const Conv2dShape& s, Direction direction, bool packed) {
    return *cheapest("auto", s, direction, packed);
}

const Algorithm* find_algorithm(std::string_view name, const Conv2dShape& s, Direction direction) {
    return cheapest(name, s, direction, false);
}

double inner_products(const Conv2dShape& s) {
    // Of the outputs o along one axis those with 0 <= o * stride + k * dilation - before < size; not one by one: a rim
    // may be wide.
    const auto taps = [](int64_t size, int64_t before, int64_t kernel, int64_t stride, int64_t dilation,
                         int64_t outputs) {
        double sum = 0;
        for (int64_t k = 0; k < kernel; ++k) {
            const int64_t first = std::max<int64_t>(ceil_div(before - k * dilation, stride), 0);
            const int64_t room = size - 1 + before - k * dilation;
            sum +=
                static_cast<double>(std::max<int64_t>(std::min(outputs, room < 0 ? 0 : room / stride + 1) - first, 0));
        }
        return sum;
    };
    return taps(s.H, s.pad.top, s.KH, s.stride_h, s.dilation_h, s.OH()) *
           taps(s.W, s.pad.left, s.KW, s.stride_w, s.dilation_w, s.OW()) * static_cast<double>(s.N) *
           static_cast<double>(s.group_C()) * static_cast<double>(s.OC);
}

const float* packed_in_scratch(Scratch& scratch, const Algorithm& a, const float* weight, const Conv2dShape& s) {
    if (!a.pack) return weight;
    if (a.packs_parts) return nullptr;
    float* packed = scratch.floats(std::max<int64_t>(a.packed_floats(s), 1));
    a.pack(packed, weight, s);
    return packed;
}

void run_forward(const Algorithm& a, const Conv2dForward& call) {
    call.pooled() && !a.pools ? pool_in_chunks(a, call) : a.forward(call);
}

void conv2d_forward(const Conv2dForward& call, std::string_view algorithm) {
    const Algorithm& a = *find_algorithm(algorithm, call.shape, Direction::forward);
    Scratch scratch;
    Conv2dForward packed = call;
    packed.packed = packed_in_scratch(scratch, a, call.weight, call.shape);
    run_forward(a, packed);
}

void run_backward_input(const Algorithm& a, const Conv2dBackwardInput& call) {
    const Epilogue& e = call.epilogue;
    if (a.finishes_input || (!e.bias && e.activation.kind == Activation::none)) return a.backward_input(call);
    Conv2dBackwardInput sums = call;
    sums.epilogue = {};
    a.backward_input(sums);
    const Conv2dShape& s = call.shape;
    finish<float>({.y = call.dx, .x = call.dx, .rows = s.N * s.H * s.W, .C = s.C, .epilogue = e});
}

void conv2d_backward_input(const Conv2dBackwardInput& c, std::string_view algorithm) {
    run_backward_input(*find_algorithm(algorithm, c.shape, Direction::backward_input), c);
}

void conv2d_backward_weight(const Conv2dBackwardWeight& c, std::string_view algorithm) {
    find_algorithm(algorithm, c.shape, Direction::backward_weight)->backward_weight(c.dweight, c.x, c.dy, c.shape);
}

}  // namespace pycnn
