// Chooses the algorithm of a convolution and calls it.

#include "ops/conv2d/conv2d.h"

#include "ops/conv2d/grouped.h"
#include "ops/maps/elementwise.h"
#include "ops/runtime/workspace.h"

namespace pycnn {

namespace {

// Vector operations, in units of 16 channels' worth: what `auto` compares.
//
//   direct        a product for each tap inside the image, input and output channel
//   Winograd      T^2 products a tile for each input and output channel, and the two transforms, whose sparse rows of
//                 B^T (20 operations of 6 x 6) and A^T (14 of 4 x 6) are applied to T columns and to T or m rows; once
//                 a call, the transform of the weight or of its gradient, which moves much memory
//
// Transforms and the shorter products of Winograd run at about half of the FMA peak, direct convolution at 0.9 to 1.0
// of it (docs/kernels.md), hence the factor 2 and the margin. The cost of the weight's transform is fitted to a sweep
// over 10 shapes and 1 to 16 images on Zen 4 with two threads: direct convolution wins below some 16 tiles in all, for
// the gradient of the weight below some 64.
double direct_cost(const Conv2dShape& s) {
    const auto taps = [](int64_t size, int64_t before, int64_t outputs) {
        int64_t sum = 0;  // of the outputs o with before <= o + k < before + size; not one by one: a rim may be wide
        for (int64_t k = 0; k < 3; ++k)
            sum += std::max<int64_t>(std::min(outputs, before + size - k) - std::max<int64_t>(before - k, 0), 0);
        return sum;
    };
    return static_cast<double>(taps(s.H, s.pad.top, s.OH())) * taps(s.W, s.pad.left, s.OW()) * s.N * s.C * s.OC;
}

double winograd_cost(const Conv2dShape& s, int64_t m, int64_t OH, int64_t OW) {
    const double tiles = static_cast<double>(s.N) * ceil_div(OH, m) * ceil_div(OW, m);
    const double input = m == 4 ? 240 : 32, output = m == 4 ? 140 : 24, products = m == 4 ? 36 : 16;
    return tiles * (products * s.C * s.OC + 2 * (input * s.C + output * s.OC));
}

bool winograd_pays(const Conv2dShape& s, Direction direction, bool filter_kept) {
    constexpr int64_t kChannels = 16;  // a vector; fewer leave lanes empty in every transform
    constexpr double kMargin = 1.15;
    if (!winograd::fits(s) || s.C < kChannels || s.OC < kChannels) return false;
    const bool map_is_input = direction == Direction::backward_input;
    const int64_t OH = map_is_input ? s.H : s.OH(), OW = map_is_input ? s.W : s.OW();
    const double filter = filter_kept ? 0 : direction == Direction::backward_weight ? 1200 : 400;
    const double cost = winograd_cost(s, winograd::tile_size(OH, OW), OH, OW) + filter * s.C * s.OC;
    return kMargin * cost < direct_cost(s);
}

}  // namespace

// The rules of `auto`. They depend on the shape alone, so every machine and thread count takes the same way.
Choice choose(const Conv2dShape& s, Direction direction, bool filter_kept) {
    if (s.groups > 1 && s.groups == s.C && s.OC == s.C)
        return {Algorithm::direct, "depthwise: lanes are channels, each with taps of its own"};
    if (grouped::fits(s)) return {Algorithm::direct, "narrow groups: lanes are the channels of several groups"};
    if (s.groups > 1 && (s.group_OC() < 8 || s.group_C() < 8))
        return {Algorithm::naive, "groups of fewer than 8 channels leave most of a 16-float vector empty"};
    if (winograd_pays(s, direction, filter_kept)) {
        const bool backward = direction == Direction::backward_input;
        if (winograd::tile_size(backward ? s.H : s.OH(), backward ? s.W : s.OW()) == 4)
            return {Algorithm::winograd, "F(4x4, 3x3) needs fewer operations, its transforms included"};
        return {Algorithm::winograd, "F(2x2, 3x3) needs fewer operations, its transforms included"};
    }
    if (s.C == 1)
        return {Algorithm::direct,
                "one input channel: all taps in one short loop over the image, no buffer of patches"};
    return {Algorithm::direct, "patches are read in place, so no im2col buffer is written"};
}

static Algorithm resolve(Algorithm wanted, const Conv2dShape& s, Direction direction) {
    return wanted == Algorithm::automatic ? choose(s, direction).algorithm : wanted;
}

// Where no kernel adds the residual it is added behind the convolution, which then must not write over it.
static void add_residual_after(float* y, const float* x, const float* weight, const Conv2dShape& s, Algorithm algorithm,
                               const Epilogue& epilogue) {
    const int64_t size = s.N * s.OH() * s.OW() * s.OC;
    float* map = y == epilogue.residual ? scratch(Scratch::map, size) : y;
    conv2d_forward(map, x, weight, s, algorithm, {epilogue.bias, false, nullptr});
    combine(y, map, epilogue.residual, size, epilogue.relu ? Combine::add_relu : Combine::add);
}

void conv2d_forward(float* y, const float* x, const float* weight, const Conv2dShape& s, Algorithm algorithm,
                    const Epilogue& epilogue) {
    algorithm = resolve(algorithm, s, Direction::forward);
    if (epilogue.residual &&
        (algorithm == Algorithm::im2col || (algorithm == Algorithm::direct && !direct::adds_residual(s))))
        return add_residual_after(y, x, weight, s, algorithm, epilogue);
    switch (algorithm) {
        case Algorithm::naive:
            return naive::forward(y, x, weight, epilogue.bias, epilogue.relu, s, epilogue.residual);
        case Algorithm::im2col:
            return im2col::forward(y, x, weight, s, epilogue);
        case Algorithm::winograd:
            return winograd::forward(y, x, weight, s, epilogue);
        default:
            return direct::forward(y, x, weight, s, epilogue);
    }
}

void conv2d_backward_input(float* dx, const float* dy, const float* weight, const Conv2dShape& s, Algorithm algorithm) {
    switch (resolve(algorithm, s, Direction::backward_input)) {
        case Algorithm::naive:
            return naive::backward_input(dx, dy, weight, s);
        case Algorithm::im2col:
            return im2col::backward_input(dx, dy, weight, s);
        case Algorithm::winograd:
            return winograd::backward_input(dx, dy, weight, s);
        default:
            return direct::backward_input(dx, dy, weight, s);
    }
}

void conv2d_backward_weight(float* dweight, const float* x, const float* dy, const Conv2dShape& s,
                            Algorithm algorithm) {
    switch (resolve(algorithm, s, Direction::backward_weight)) {
        case Algorithm::naive:
            return naive::backward_weight(dweight, x, dy, s);
        case Algorithm::im2col:
            return im2col::backward_weight(dweight, x, dy, s);
        case Algorithm::winograd:
            return winograd::backward_weight(dweight, x, dy, s);
        default:
            return direct::backward_weight(dweight, x, dy, s);
    }
}

}  // namespace pycnn
