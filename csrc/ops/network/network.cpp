// The steps of a network but convolution and linear (network/packed_steps.cpp), and their run in chunks.

#include "ops/network/network.h"

#include <cstring>
#include <new>

#include "ops/maps/combine.h"
#include "ops/maps/elementwise.h"
#include "ops/maps/join.h"
#include "ops/maps/norm.h"
#include "ops/maps/pool2d.h"
#include "ops/maps/softmax.h"
#include "ops/runtime/memory.h"
#include "ops/runtime/parallel.h"
#include "ops/runtime/scratch.h"

namespace pycnn {
namespace {

using Floats = std::vector<float>;
using Place = float* const*;

std::shared_ptr<const Floats> copy(const float* data, int64_t size) {
    return std::make_shared<const Floats>(data ? Floats(data, data + size) : Floats());
}

Pool2dShape with_batch(Pool2dShape s, int64_t N) {
    s.N = N;
    return s;
}

Sizes images(int64_t n, const Sizes& one) {
    Sizes all{n};
    all.insert(all.end(), one.begin(), one.end());
    return all;
}

// Floats for an arena: those that this thread kept of its last run, if they suffice. A run that begins inside another
// one, in a foreign step, finds none and makes its own; so a thread's runs never meet, and there is nothing to lock.
struct Kept {
    std::shared_ptr<float> data;
    int64_t size = 0;
};
thread_local Kept kept;

Kept take_arena(int64_t floats) {
    Kept taken = std::move(kept);
    kept = {};
    if (floats <= taken.size) return taken;
    taken = {};
    return {aligned_floats(floats), floats};
}

}  // namespace

Network::Network(std::vector<NetworkValue> values, std::vector<Index> inputs, std::vector<Index> outputs, int64_t chunk)
    : values_(std::move(values)), inputs_(std::move(inputs)), outputs_(std::move(outputs)), chunk_(chunk) {
    for (const NetworkValue& v : values_)
        if (v.offset >= 0) arena_floats_ = std::max(arena_floats_, v.offset + ceil_div(v.floats, 16) * 16);
}

void Network::add_max_pool2d(Index x, Index y, const Pool2dShape& s) {
    add([=](Place at, int64_t n) { max_pool2d_forward(at[y], nullptr, at[x], with_batch(s, n)); });
}

void Network::add_avg_pool2d(Index x, Index y, const Pool2dShape& s, bool count_include_pad) {
    add([=](Place at, int64_t n) { avg_pool2d_forward(at[y], at[x], with_batch(s, n), count_include_pad); });
}

void Network::add_batch_norm(Index x, Index y, const NormCall& v, Index residual) {
    const int64_t C = v.C;
    const Activation f = v.activation;
    const NormFunction<float> given{v.mean, v.variance, v.weight, v.bias, v.eps, f};
    Floats scales;
    for (int64_t c = 0; c < C; ++c) scales.push_back(norm_scale(given, c));
    const auto bias = copy(v.bias, C), mean = copy(v.mean, C), scale = copy(scales.data(), C);
    const int64_t rows = floats(x) / C;
    add([=](Place at, int64_t n) {
        const NormFunction<float> function{mean->data(), nullptr, nullptr, bias->data(), 0, f, scale->data()};
        batch_norm_apply<float>(
            {.y = at[y], .x = at[x], .rows = n * rows, .C = C, .residual = residual == kNone ? nullptr : at[residual]},
            function);
    });
}

void Network::add_activation(Index x, Index y, const Activation& activation) {
    const int64_t size = floats(x);
    add([=](Place at, int64_t n) {
        finish<float>({.y = at[y], .x = at[x], .rows = 1, .C = n * size, .epilogue = {.activation = activation}});
    });
}

void Network::add_prelu(Index x, Index y, const float* slope, int64_t C) {
    const int64_t rows = floats(x) / C;
    add([=, slopes = copy(slope, C)](Place at, int64_t n) {
        prelu<float>({.y = at[y], .x = at[x], .slope = slopes->data(), .rows = n * rows, .C = C});
    });
}

void Network::add_softmax(Index x, Index y, int64_t K) {
    const int64_t rows = floats(x) / K;
    add([=](Place at, int64_t n) { softmax_forward<float>(at[y], at[x], n * rows, K); });
}

void Network::add_combine(const CombineOperand& a, const CombineOperand& b, Index y, const Sizes& y_shape, Combine op,
                          const Activation& activation) {
    const auto in_chunk = [](const CombineOperand& o, int64_t n) { return o.constant ? o.shape : images(n, o.shape); };
    add([=](Place at, int64_t n) {
        const Broadcast shape(images(n, y_shape), in_chunk(a, n), in_chunk(b, n));
        combine<float>({.y = at[y],
                        .a = a.constant ? a.constant->data() : at[a.value],
                        .b = b.constant ? b.constant->data() : at[b.value],
                        .op = op,
                        .shape = shape,
                        .activation = activation});
    });
}

void Network::add_sum_to(Index x, Index y, const Sizes& x_shape, const Sizes& y_shape, double scale) {
    add([=](Place at, int64_t n) {
        sum_to<float>(
            {.y = at[y], .x = at[x], .x_shape = images(n, x_shape), .y_shape = images(n, y_shape), .scale = scale});
    });
}

void Network::add_power(Index x, Index y, double exponent) {
    const int64_t size = floats(x);
    add([=](Place at, int64_t n) {
        power<float>({.y = at[y], .x = at[x], .dy = nullptr, .size = n * size, .exponent = exponent, .factor = 1});
    });
}

void Network::add_affine(Index x, Index y, float scale, float shift) {
    const int64_t size = floats(x);
    add([=](Place at, int64_t n) {
        affine<float>({.y = at[y], .x = at[x], .size = n * size, .scale = scale, .shift = shift});
    });
}

void Network::add_concat(const std::vector<Index>& xs, Index y, const std::vector<int64_t>& channels) {
    const int64_t rows = floats(xs.front()) / channels.front();
    add([=](Place at, int64_t n) {
        std::vector<Part> parts;
        for (std::size_t i = 0; i < xs.size(); ++i)
            parts.push_back(
                {reinterpret_cast<std::byte*>(at[xs[i]]), static_cast<std::size_t>(channels[i]) * sizeof(float)});
        concat(reinterpret_cast<std::byte*>(at[y]), parts, n * rows);
    });
}

void Network::add_copy(Index x, Index y) {
    const int64_t size = floats(x);
    add([=](Place at, int64_t n) {
        const float* from = at[x];
        float* to = at[y];
        parallel_for(n, grain_units(kGrainBytes, 8.0 * static_cast<double>(size)), [&](int64_t begin, int64_t end) {
            std::memcpy(to + begin * size, from + begin * size,
                        sizeof(float) * static_cast<std::size_t>((end - begin) * size));
        });
    });
}

void Network::add_foreign() { add(nullptr); }

NetworkRun::NetworkRun(const Network& net, const std::vector<const float*>& inputs, const std::vector<float*>& outputs,
                       int64_t N)
    : net_(net), arrays_(net.values_.size()), N_(N), place_(net.values_.size()) {
    // No step writes to an input: that was checked when it was added.
    for (std::size_t i = 0; i < inputs.size(); ++i)
        arrays_[static_cast<std::size_t>(net.inputs_[i])] = const_cast<float*>(inputs[i]);
    for (std::size_t i = 0; i < outputs.size(); ++i) arrays_[static_cast<std::size_t>(net.outputs_[i])] = outputs[i];
    const int64_t most = std::min(N, net.chunk_);
    if (net.arena_floats_ > 0 && most > (int64_t{1} << 58) / net.arena_floats_) throw std::bad_alloc();
    Kept taken = take_arena(net.arena_floats_ * most);
    arena_ = std::move(taken.data), arena_size_ = taken.size;
    begin_chunk();
}

NetworkRun::~NetworkRun() {
    const bool small = arena_size_ <= kKeptFloats;
    if (small && arena_.use_count() == 1 && arena_size_ > kept.size) kept = {std::move(arena_), arena_size_};
}

void give_back_arena() { kept = {}; }

void NetworkRun::begin_chunk() {
    n_ = std::min(N_ - first_, net_.chunk_);
    step_ = 0, foreign_ = 0;
    for (std::size_t i = 0; i < place_.size(); ++i) {
        const NetworkValue& v = net_.values_[i];
        place_[i] = v.offset < 0 ? arrays_[i] + first_ * v.floats : arena_.get() + v.offset * n_;
    }
}

int64_t NetworkRun::advance() {
    while (first_ < N_) {
        for (; step_ < net_.steps_.size(); ++step_) {
            const Network::Step& step = net_.steps_[step_];
            if (!step) {
                ++step_;
                return foreign_++;
            }
            step(place_.data(), n_);
        }
        first_ += n_;
        if (first_ < N_) begin_chunk();
    }
    return -1;
}

}  // namespace pycnn
