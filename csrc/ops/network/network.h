// A network whose weights no longer change: steps that read and write numbered values, prepared once, run as one call.
//
// A value has its floats an image and its place: `offset` floats an image into the arena, or -1 where it lies in an
// array of the caller. In a chunk of n images everything is n times as large, so value i lies at arena + offset * n.
// Which values may share memory is the caller's plan; what may not is checked in bindings_network.cpp.
//
// Weights of convolutions and linear steps are packed once, others copied. Several threads may run one Network
// at once: a run has an arena of its own, and nothing that it shares with others is locked.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "ops/conv2d/conv2d.h"
#include "ops/maps/combine.h"
#include "ops/maps/copy.h"
#include "ops/maps/resample.h"
#include "ops/shapes.h"

namespace pycnn {

enum class Pool { none, same, valid };  // 2 x 2 windows of stride 2

using Weights = std::shared_ptr<const float>;  // kept, not copied: nobody may write to them any more

// A convolution with all that is fused to it. y = activation(conv + bias + residual), or pooled.
struct Conv2dCall {
    Weights weight;     // [KH][KW][C/groups][OC]
    const float* bias;  // [OC] or null
    Conv2dShape shape;
    Activation activation = {};  // that never decreases, with a pool
    Pool pool = Pool::none;
    bool transposed = false;  // shape is the mirror of a ConvTranspose2dShape; then there is no pool and no residual

    int64_t PH() const { return pool == Pool::none ? 0 : (shape.OH() + (pool == Pool::same)) / 2; }
    int64_t PW() const { return pool == Pool::none ? 0 : (shape.OW() + (pool == Pool::same)) / 2; }
};

struct LinearCall {
    Weights weight;         // [in][out]
    const float* bias;      // [out] or null
    int64_t in, out, rows;  // rows: of an image
    Activation activation = {};
};

struct NormCall {
    const float *weight, *bias, *mean, *variance;  // all [C]
    double eps;
    int64_t C;
    bool relu;
};

// A part of a step that moves numbers: from `from` floats into an image of x (or `value` everywhere, where x is kNone)
// to `to` floats into one of y.
struct MovePiece {
    int64_t y, x, to, from;
    float value;
    std::vector<CopyAxis> axes;
};

struct CombineOperand {  // a value, or numbers that stay the same
    int64_t value;
    std::shared_ptr<const std::vector<float>> constant;  // null: a value
    Sizes shape;                                         // of the value for one image, or of the numbers, for all
};

struct NetworkValue {
    int64_t floats, offset;
};

class Network {
  public:
    using Index = int64_t;
    static constexpr Index kNone = -1;

    Network(std::vector<NetworkValue> values, std::vector<Index> inputs, std::vector<Index> outputs, int64_t chunk);

    // Shapes are of one image (N is ignored, or left out in Sizes). residual may be kNone. y may lie where x lies in
    // relu, combine (where a or b lies that does not repeat), power, affine and batch_norm (also where its residual lies), and where the residual of a
    // convolution lies; elsewhere it must not.
    using Step = std::function<void(float* const* place, int64_t n)>;  // of each value, in a chunk of n images
    void add(Step step) { steps_.push_back(std::move(step)); }
    // Packing takes long, so these are made before they are added.
    static Step conv2d(Index x, Index y, const Conv2dCall&, Index residual);
    static Step linear(Index x, Index y, const LinearCall&);
    void add_max_pool2d(Index x, Index y, const Pool2dShape&);
    void add_avg_pool2d(Index x, Index y, const Pool2dShape&, bool count_include_pad);
    void add_batch_norm(Index x, Index y, const NormCall&, Index residual);
    void add_relu(Index x, Index y);
    void add_combine(const CombineOperand& a, const CombineOperand& b, Index y, const Sizes& y_shape, Combine,
                     const Activation&);
    void add_sum_to(Index x, Index y, const Sizes& x_shape, const Sizes& y_shape, double scale);  // as SumCall
    void add_power(Index x, Index y, double exponent);
    void add_affine(Index x, Index y, float scale, float shift);
    void add_move(std::vector<MovePiece> pieces);
    // x [H][W][C] of the call; its pointers, its N and its tables do not count.
    void add_resample(Index x, Index y, Resampling<float> call, Taps rows, Taps columns);
    void add_foreign();  // a step of the caller, who gets control back there: NetworkRun::advance

    const std::vector<NetworkValue>& values() const { return values_; }
    const std::vector<Index>& inputs() const { return inputs_; }
    const std::vector<Index>& outputs() const { return outputs_; }
    int64_t floats(Index i) const { return values_[static_cast<std::size_t>(i)].floats; }
    int64_t arena_floats() const { return arena_floats_; }  // an image

  private:
    friend class NetworkRun;

    std::vector<NetworkValue> values_;
    std::vector<Index> inputs_, outputs_;
    int64_t chunk_, arena_floats_ = 0;
    std::vector<Step> steps_;
};

// The arena that this thread keeps for its next run.
void give_back_arena();

// One run of the whole batch. Arrays [N][floats] of the inputs are only read.
class NetworkRun {
  public:
    NetworkRun(const Network&, const std::vector<const float*>& inputs, const std::vector<float*>& outputs, int64_t N);
    ~NetworkRun();
    NetworkRun(const NetworkRun&) = delete;
    NetworkRun& operator=(const NetworkRun&) = delete;

    // Runs on to the next foreign step and returns its number among them, or to the end and returns -1.
    int64_t advance();

    int64_t images() const { return n_; }  // of the chunk that stopped at a foreign step
    int64_t first() const { return first_; }
    float* place(Network::Index i) const { return place_[static_cast<std::size_t>(i)]; }
    const std::shared_ptr<float>& arena() const { return arena_; }  // who keeps it may look at it for longer

  private:
    void begin_chunk();

    const Network& net_;
    std::vector<float*> arrays_;  // of each value: the caller's, or null
    int64_t N_, first_ = 0, n_ = 0;
    std::size_t step_ = 0;
    int64_t foreign_ = 0;
    std::shared_ptr<float> arena_;
    int64_t arena_size_ = 0;
    std::vector<float*> place_;
};

}  // namespace pycnn
