#include "inference.h"

#include <cstring>
#include <memory>
#include <mutex>

#include "block.h"
#include "conv2d_first.h"
#include "conv2d_pack.h"
#include "conv2d_winograd.h"
#include "dispatch.h"
#include "elementwise.h"
#include "gemm.h"
#include "norm.h"
#include "pool2d.h"
#include "workspace.h"

namespace pycnn {
namespace {

using Floats = std::vector<float>;

Floats copy(const float* data, int64_t size) { return data ? Floats(data, data + size) : Floats(); }
const float* or_null(const Floats& v) { return v.empty() ? nullptr : v.data(); }

struct Freed {
    void operator()(float* p) const { std::free(p); }
};

// The transformed filter of one convolution, for the instruction set and the tile that it was made for.
class Filter {
  public:
    struct Transformed {
        const Kernels* isa;
        int64_t m;
        std::unique_ptr<float, Freed> u;
    };

    std::shared_ptr<const Transformed> get(const Conv2dShape& s, const float* weight, int64_t m) {
        const std::lock_guard<std::mutex> guard(mutex_);
        if (!kept_ || kept_->isa != &kernels() || kept_->m != m) kept_ = transform(s, weight, m);
        return kept_;
    }

  private:
    static std::shared_ptr<const Transformed> transform(const Conv2dShape& s, const float* weight, int64_t m) {
        const std::size_t bytes = static_cast<std::size_t>(winograd::filter_size(s.C, s.OC, m)) * sizeof(float);
        std::unique_ptr<float, Freed> u(static_cast<float*>(std::aligned_alloc(64, (bytes + 63) / 64 * 64)));
        if (!u) throw std::bad_alloc();
        winograd::transform_filter(u.get(), pack_forward(weight, s), s.C, s.OC, m);
        return std::make_shared<const Transformed>(Transformed{&kernels(), m, std::move(u)});
    }

    std::mutex mutex_;
    std::shared_ptr<const Transformed> kept_;
};

struct Conv2dStep {
    Conv2dShape shape;
    Floats weight, bias;
    bool relu;
    BlockPool pool;
    Filter filter;

    int64_t PH() const { return pool == BlockPool::none ? 0 : (shape.OH() + (pool == BlockPool::same)) / 2; }
    int64_t PW() const { return pool == BlockPool::none ? 0 : (shape.OW() + (pool == BlockPool::same)) / 2; }
    int64_t outputs() const { return (pool == BlockPool::none ? shape.OH() * shape.OW() : PH() * PW()) * shape.OC; }

    void run(float* y, const float* x, int64_t N) {
        Conv2dShape s = shape;
        s.N = N;
        const bool winograd = choose(shape, Direction::forward, true).algorithm == Algorithm::winograd;
        if (winograd) {
            const int64_t m = winograd::tile_size(s.OH(), s.OW());
            const auto u = filter.get(s, weight.data(), m);
            winograd::run({x,
                           y,
                           nullptr,
                           N,
                           s.H,
                           s.W,
                           s.C,
                           s.OH(),
                           s.OW(),
                           s.OC,
                           s.pad.top,
                           s.pad.left,
                           PH(),
                           PW(),
                           {or_null(bias), relu}},
                          m, u->u.get());
        } else if (pool != BlockPool::none) {
            block_forward(y, nullptr, x, weight.data(), or_null(bias), {s, PH(), PW(), relu}, Algorithm::automatic);
        } else {
            conv2d_forward(y, x, weight.data(), s, Algorithm::automatic, {or_null(bias), relu});
        }
    }
};

Pool2dShape with_batch(Pool2dShape s, int64_t N) {
    s.N = N;
    return s;
}

}  // namespace

void Inference::add_conv2d(const Conv2dShape& s, const float* weight, const float* bias, bool relu, BlockPool pool) {
    auto step = std::make_shared<Conv2dStep>();
    step->shape = s;
    step->weight = copy(weight, s.taps() * s.group_C() * s.OC);
    step->bias = copy(bias, s.OC);
    step->relu = relu, step->pool = pool;
    steps_.push_back({step->outputs(), [step](float* y, const float* x, int64_t N) { step->run(y, x, N); }});
}

void Inference::add_max_pool2d(const Pool2dShape& s) {
    steps_.push_back({s.OH() * s.OW() * s.C, [s](float* y, const float* x, int64_t N) {
                          max_pool2d_forward(y, nullptr, x, with_batch(s, N));
                      }});
}

void Inference::add_avg_pool2d(const Pool2dShape& s, bool count_include_pad) {
    steps_.push_back({s.OH() * s.OW() * s.C, [s, count_include_pad](float* y, const float* x, int64_t N) {
                          avg_pool2d_forward(y, x, with_batch(s, N), count_include_pad);
                      }});
}

void Inference::add_relu() {
    const int64_t size = outputs();
    steps_.push_back({size, [size](float* y, const float* x, int64_t N) { relu_forward(y, x, N * size); }});
}

void Inference::add_batch_norm(const float* weight, const float* bias, const float* mean, const float* variance,
                               double eps, int64_t C, bool relu) {
    struct Kept {
        Floats weight, bias, mean, variance;
    };
    const auto k = std::make_shared<const Kept>(Kept{copy(weight, C), copy(bias, C), copy(mean, C), copy(variance, C)});
    const int64_t size = outputs();
    steps_.push_back({size, [k, eps, C, relu, size](float* y, const float* x, int64_t N) {
                          const NormFunction<float> f{
                              k->mean.data(), k->variance.data(), k->weight.data(), k->bias.data(), eps, relu};
                          batch_norm_apply(y, x, f, N * size / C, C);
                      }});
}

void Inference::add_linear(const float* weight, const float* bias, int64_t in, int64_t out) {
    auto w = std::make_shared<const Floats>(copy(weight, in * out)),
         b = std::make_shared<const Floats>(copy(bias, out));
    steps_.push_back({out, [w, b, in, out](float* y, const float* x, int64_t N) {
                          gemm(y, out, {x, in, 1}, {w->data(), out, 1}, N, out, in, false);
                          if (!b->empty()) add_bias(y, b->data(), N, out);
                      }});
}

void Inference::run(float* y, const float* x, int64_t N) const {
    if (N == 0) return;
    if (steps_.empty()) {
        std::memcpy(y, x, sizeof(float) * N * inputs_);
        return;
    }
    int64_t largest = 0;
    for (const Step& step : steps_) largest = std::max(largest, step.outputs);
    const float* from = x;
    for (std::size_t i = 0; i < steps_.size(); ++i) {
        const Scratch place = i % 2 ? Scratch::activations_b : Scratch::activations_a;
        float* to = i + 1 == steps_.size() ? y : scratch(place, N * largest);
        steps_[i].run(to, from, N);
        from = to;
    }
}

}  // namespace pycnn
