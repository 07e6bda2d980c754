// Arithmetic of two arrays where one may repeat along axes of the other, and what its gradients need: sums over the
// axes along which an operand repeats; powers. float32 through the vector kernels, float64 through plain loops.
#pragma once
#include <cstdint>
#include <vector>

#include "kernels/epilogue.h"
#include "kernels/kernels.h"

namespace pycnn {

using Sizes = std::vector<int64_t>;

// How two operands lie beside a result. Adjacent axes along which each either goes on or repeats are one axis, so an
// image [N][H][W][C] and a gate [N][1][1][C] have three: N, H W, C.
class Broadcast {
  public:
    struct Axis {
        int64_t extent;
        int64_t a, b;  // elements of the operand to the next one along the axis; 0: it repeats
    };

    // Operands may have fewer axes than y, which then are its last ones; each extent is that of y, or 1.
    Broadcast(const Sizes& y, const Sizes& a, const Sizes& b);

    const std::vector<Axis>& axes() const { return axes_; }  // outermost first, at least one
    int64_t size() const { return size_; }                   // elements of y
    bool repeats() const { return axes_.size() > 1 || axes_[0].a == 0 || axes_[0].b == 0; }

  private:
    std::vector<Axis> axes_;
    int64_t size_ = 1;
};

template <class T>
struct CombineCall {  // y = activation(a op b)
    T* y;             // may be an operand that does not repeat
    const T *a, *b;
    Combine op;
    const Broadcast& shape;
    Activation activation = {};
};
template <class T>
void combine(const CombineCall<T>&);

template <class T>
struct SumCall {  // y = scale * sum of x, or of x op other, over the axes of which y has one element
    T* y;         // x's axes; each extent is that of x, or 1
    const T* x;
    Sizes x_shape, y_shape;
    double scale = 1;
    const T* other = nullptr;  // repeats beside x as in `combine`
    Combine op = Combine::multiply;
    Sizes other_shape = {};
};
template <class T>
void sum_to(const SumCall<T>&);

template <class T>
struct PowerOf {  // y = factor * x^exponent, times dy where it is given
    T* y;         // may be x or dy
    const T *x, *dy;
    int64_t size;
    double exponent, factor;
};
template <class T>
void power(const PowerOf<T>&);

// In how many parts a sum over R rows of I numbers is cut, by the shape alone.
int64_t sum_slots(int64_t R, int64_t I);

// total [C] = column sums of x [rows][C], in slots of rows whose number depends on the shape alone.
template <class T>
void sum_rows(T* total, const T* x, int64_t rows, int64_t C);

}  // namespace pycnn
