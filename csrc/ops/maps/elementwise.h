// Operators that touch each element once. float32 through the vector kernels, float64 through plain loops.
#pragma once
#include <cstdint>

#include "kernels/kernels.h"
#include "ops/epilogue.h"

namespace pycnn {

template <class T>
void finish(const FinishRowsOf<T>&);
template <class T>
void finish_here(const FinishRowsOf<T>&);                                         // on this thread
void activate_here(double* y, const double* x, int64_t size, const Activation&);  // on this thread; y may be x
template <class T>
void activation_gradient(const ActivationGradientOf<T>&);
template <class T>
void prelu(const PreluOf<T>&);
template <class T>
void prelu_gradient(const PreluGradientOf<T>&);  // dslope is overwritten
template <class T>
void accumulate(T* total, const T* part, int64_t size);  // total += part
template <class T>
void affine(const AffineOf<T>&);

}  // namespace pycnn
