// Images in which each pixel is a sum of few pixels of others: resizing, rims that repeat the image, and the gradients
// of both, which are sums as well.
#pragma once
#include <cstdint>
#include <vector>

namespace pycnn {

// Along one axis: output i sums weight[t] * input[index[t]] over first[i] <= t < first[i + 1].
struct Taps {
    std::vector<int64_t> first, index;
    std::vector<double> weight;

    int64_t outputs() const { return static_cast<int64_t>(first.size()) - 1; }
};

template <class T>
struct Resampling {
    T* y;        // [N][rows.outputs()][columns.outputs()][C]
    const T* x;  // [N][H][W][C]
    int64_t N, H, W, C;
    const Taps *rows, *columns;
    double outside;  // what a pixel without a tap is
};

template <class T>
void resample(const Resampling<T>&);

}  // namespace pycnn
