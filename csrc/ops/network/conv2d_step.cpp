// The convolution of a network with fixed weights: Winograd's filters are transformed when the step is added.

#include <atomic>
#include <cstdlib>
#include <new>

#include "ops/conv2d/pack.h"
#include "ops/conv2d/winograd.h"
#include "ops/conv_pool/conv_pool.h"
#include "ops/network/network.h"
#include "ops/runtime/dispatch.h"

namespace pycnn {
namespace {

using Floats = std::vector<float>;

const float* or_null(const Floats& v) { return v.empty() ? nullptr : v.data(); }

// A transformed filter for each instruction set and tile size that was asked for, in a list that only grows. Threads
// that miss one at the same moment may each make it; none waits for another, so a fork finds no lock held.
class Filters {
  public:
    Filters() = default;
    Filters(const Filters&) = delete;
    Filters& operator=(const Filters&) = delete;
    ~Filters() {
        for (Node* node = head_.load(); node;) {
            Node* next = node->next;
            std::free(node->u);
            delete node;
            node = next;
        }
    }

    const float* get(const Conv2dShape& s, const float* weight, int64_t m) {
        for (const Node* node = head_.load(std::memory_order_acquire); node; node = node->next)
            if (node->isa == &kernels() && node->m == m) return node->u;
        return make(s, weight, m);
    }

  private:
    struct Node {
        const Kernels* isa;
        int64_t m;
        float* u;
        Node* next;
    };

    const float* make(const Conv2dShape& s, const float* weight, int64_t m) {
        const std::size_t bytes = static_cast<std::size_t>(winograd::filter_size(s.C, s.OC, m)) * sizeof(float);
        float* u = static_cast<float*>(std::aligned_alloc(64, (bytes + 63) / 64 * 64));
        if (!u) throw std::bad_alloc();
        std::unique_ptr<float, decltype(&std::free)> guard(u, std::free);
        winograd::transform_filter(u, pack_forward(weight, s), s.C, s.OC, m);
        Node* node = new Node{&kernels(), m, u, head_.load(std::memory_order_relaxed)};
        guard.release();
        while (!head_.compare_exchange_weak(node->next, node, std::memory_order_release, std::memory_order_relaxed)) {
        }
        return u;
    }

    std::atomic<Node*> head_{nullptr};
};

struct Conv2dStep {
    Conv2dCall call;
    Floats weight, bias;
    Filters filters;

    // By the shape of one image, N = 1: how the batch is cut must not change the bits. Asked for in each run, since
    // set_exact counts.
    Algorithm algorithm() const { return choose(call.shape, Direction::forward, true).algorithm; }
    int64_t tile() const { return winograd::tile_size(call.shape.OH(), call.shape.OW()); }

    void prepare() {
        if (algorithm() == Algorithm::winograd) filters.get(call.shape, weight.data(), tile());
    }

    void run(float* y, const float* x, const float* residual, int64_t N) {
        Conv2dShape s = call.shape;
        s.N = N;
        const Epilogue epilogue{or_null(bias), call.relu, residual};
        const Algorithm way = algorithm();
        if (way == Algorithm::winograd) {
            const int64_t m = tile();
            winograd::run({x, y, nullptr, N, s.H, s.W, s.C, s.OH(), s.OW(), s.OC, s.pad.top, s.pad.left, call.PH(),
                           call.PW(), epilogue},
                          m, filters.get(s, weight.data(), m));
        } else if (call.pool != Pool::none) {
            conv_pool_forward(y, nullptr, x, weight.data(), or_null(bias), {s, call.PH(), call.PW(), call.relu}, way);
        } else {
            conv2d_forward(y, x, weight.data(), s, way, epilogue);
        }
    }
};

}  // namespace

Network::Step Network::conv2d(Index x, Index y, const Conv2dCall& call, const float* weight, const float* bias,
                              Index residual) {
    const auto step = std::make_shared<Conv2dStep>();
    step->call = call;
    step->call.shape.N = 1;
    const Conv2dShape& s = step->call.shape;
    step->weight.assign(weight, weight + s.taps() * s.group_C() * s.OC);
    if (bias) step->bias.assign(bias, bias + s.OC);
    step->prepare();
    return [=](float* const* at, int64_t n) { step->run(at[y], at[x], residual == kNone ? nullptr : at[residual], n); };
}

}  // namespace pycnn
