// Dropout whose mask is a function of (seed, calls, position): the same for any thread count and instruction set.
#pragma once
#include <cstdint>

namespace pycnn {

// y = x * mask, mask = 1 / (1 - p) where the draw of the position is at least p, else 0.
template <class T>
struct DropoutForward {
    T* y;  // may be x
    const T* x;
    int64_t size;
    double p;
    uint64_t seed, calls;
};
template <class T>
void dropout(const DropoutForward<T>&);

}  // namespace pycnn
