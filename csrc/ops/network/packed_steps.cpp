// The steps of a network that keep packed weights: convolution and linear.

#include <atomic>

#include "ops/conv2d/packed_conv2d.h"
#include "ops/gemm/packed_linear.h"
#include "ops/network/network.h"
#include "ops/network/packed.h"
#include "ops/runtime/dispatch.h"

namespace pycnn {
namespace {

using Floats = std::vector<float>;

const float* or_null(const Floats& v) { return v.empty() ? nullptr : v.data(); }

struct Conv2dStep {
    Conv2dCall call;
    Floats bias;  // the copy of call.bias, which the caller may free
    PackedList<PackedConv2d> packed;

    std::atomic<const Algorithm*> chosen[2] = {};  // by is_exact()

    // By the shape of one image, N = 1: how the batch is cut must not change the bits. Comparing costs takes longer than
    // a small convolution's wake-up, so it is done once. Only while kernels are in use, or `exact` might change.
    const Algorithm& algorithm() {
        std::atomic<const Algorithm*>& known = chosen[is_exact()];
        const Algorithm* a = known.load(std::memory_order_relaxed);
        if (!a) known.store(a = &choose(call.shape, direction(), !call.transposed), std::memory_order_relaxed);
        return *a;
    }

    const PackedConv2d& packed_for(const Algorithm& a) {
        return packed.get([&](const PackedConv2d& p) { return p.is(a); },
                          [&] { return PackedConv2d(a, call.weight, call.shape, direction()); });
    }

    Direction direction() const { return call.transposed ? Direction::backward_input : Direction::forward; }

    void run(float* y, const float* x, const float* residual, int64_t N) {
        Conv2dShape s = call.shape;
        s.N = N;
        const Algorithm& a = algorithm();
        const float* weight = packed_for(a).data();
        if (call.transposed)
            return run_backward_input(a, {.dx = y,
                                          .dy = x,
                                          .weight = weight,
                                          .packed = a.pack_input ? weight : nullptr,
                                          .shape = s,
                                          .epilogue = {.bias = or_null(bias), .activation = call.activation}});
        run_forward(a, {.y = y,
                        .x = x,
                        .packed = weight,
                        .shape = s,
                        .epilogue = {.bias = or_null(bias), .residual = residual, .activation = call.activation},
                        .PH = call.PH(),
                        .PW = call.PW()});
    }
};

struct LinearStep {
    Weights weight;
    Floats bias;
    int64_t in, out;
    Activation activation;
    PackedList<PackedLinear> packed;

    const PackedLinear& packed_now() {
        return packed.get([](const PackedLinear& p) { return p.isa() == &kernels(); },
                          [&] { return PackedLinear(weight.get(), in, out); });
    }
};

Floats copy_or_empty(const float* data, int64_t size) { return data ? Floats(data, data + size) : Floats(); }

}  // namespace

Network::Step Network::conv2d(Index x, Index y, const Conv2dCall& call, Index residual) {
    const auto step = std::make_shared<Conv2dStep>();
    step->call = call;
    step->call.shape.N = 1;
    step->bias = copy_or_empty(call.bias, call.transposed ? call.shape.C : call.shape.OC);
    step->call.bias = nullptr;
    step->packed_for(step->algorithm());
    return [=](float* const* at, int64_t n) { step->run(at[y], at[x], residual == kNone ? nullptr : at[residual], n); };
}

Network::Step Network::linear(Index x, Index y, const LinearCall& call) {
    const auto step = std::make_shared<LinearStep>();
    step->weight = call.weight;
    step->bias = copy_or_empty(call.bias, call.out);
    step->in = call.in, step->out = call.out, step->activation = call.activation;
    step->packed_now();
    const int64_t rows = call.rows;
    return [=](float* const* at, int64_t n) {
        step->packed_now().run(at[y], at[x], n * rows, {.bias = or_null(step->bias), .activation = step->activation});
    };
}

}  // namespace pycnn
