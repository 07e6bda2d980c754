// One strided copy: concat, split, slices, permutations, shuffles, crops, constant padding, depth to space, each of them
// a few calls of it, and their gradients the same calls the other way round.
#pragma once
#include <cstdint>
#include <vector>

namespace pycnn {

// An axis of the box of numbers that is copied: how many, and the steps from one to the next in y and in x. Steps have
// any sign; where `from` is 0 a number is repeated, `to` is never 0.
struct CopyAxis {
    int64_t count, to, from;
};

// y[sum of i_k to_k] = x[sum of i_k from_k] for all 0 <= i_k < count_k; without axes one number. y and x lie apart.
template <class T>
void strided_copy(T* y, const T* x, std::vector<CopyAxis> axes);

}  // namespace pycnn
