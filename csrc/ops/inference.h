// A network whose weights no longer change: a list of steps that is prepared once and runs as one call.
//
// Weights are copied when a step is added; those of Winograd are kept transformed. Between two steps the map lies in
// the calling thread's scratch memory, so calls of several threads do not meet.
#pragma once
#include <functional>
#include <vector>

#include "conv2d.h"
#include "shapes.h"

namespace pycnn {

enum class BlockPool { none, same, valid };  // 2 x 2 windows of stride 2

class Inference {
  public:
    explicit Inference(int64_t inputs) : inputs_(inputs) {}

    // Shapes are of one image (N is ignored). Each step takes what the last one gives.
    void add_conv2d(const Conv2dShape&, const float* weight, const float* bias, bool relu, BlockPool);
    void add_max_pool2d(const Pool2dShape&);
    void add_avg_pool2d(const Pool2dShape&, bool count_include_pad);
    void add_relu();
    // All [C]; eps is added to the variance.
    void add_batch_norm(const float* weight, const float* bias, const float* mean, const float* variance, double eps,
                        int64_t C, bool relu);
    void add_linear(const float* weight, const float* bias, int64_t in, int64_t out);

    int64_t inputs() const { return inputs_; }  // floats an image
    int64_t outputs() const { return steps_.empty() ? inputs_ : steps_.back().outputs; }

    // y [N][outputs] from x [N][inputs], both of any layout that the first and last step have.
    void run(float* y, const float* x, int64_t N) const;

  private:
    struct Step {
        int64_t outputs;
        std::function<void(float* y, const float* x, int64_t N)> run;
    };
    int64_t inputs_;
    std::vector<Step> steps_;
};

}  // namespace pycnn
