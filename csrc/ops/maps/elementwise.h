// Operators that touch each element once. float32 through the vector kernels, float64 through plain loops.
#pragma once
#include <cstdint>

#include "kernels/kernels.h"
#include "ops/epilogue.h"

namespace pycnn {

template <class T>
void finish(const FinishRowsOf<T>&);
template <class T>
void finish_here(const FinishRowsOf<T>&);  // on this thread
template <class T>
void relu_backward(T* dx, const T* dy, const T* y, int64_t size);  // dx may be dy
template <class T>
void accumulate(T* total, const T* part, int64_t size);  // total += part
template <class T>
void affine(const AffineOf<T>&);

}  // namespace pycnn
