// Dropout whose mask is a function of (seed, calls, position): the same for any thread count and instruction set.
#pragma once
#include <cstdint>

namespace pycnn {

// y = x * mask, mask = 1 / (1 - p) where the draw of the position is at least p, else 0. y may be x.
template <class T>
void dropout(T* y, const T* x, int64_t size, double p, uint64_t seed, uint64_t calls);

}  // namespace pycnn
