// Optimizer steps: one pass over all parameters of a model, in place. The formulas stand in kernels/adam.cpp.
#pragma once
#include <cstdint>
#include <vector>

namespace pycnn {

template <class T>
struct Update {  // of one parameter
    T* param;
    const T* grad;
    T *first,
        *second;  // moments: Adam's m and v, SGD's velocity, RMSprop's square and buffer; null where there is none
    int64_t size;
    double weight_decay;
};
template <class T>
using Updates = std::vector<Update<T>>;

struct Adam {
    double lr, beta1, beta2, eps;
    int64_t step;  // counts from 1
};
struct Sgd {
    double lr, momentum;
    bool nesterov;
};
struct Rmsprop {
    double lr, alpha, eps, momentum;
};

template <class T>
void adam_steps(const Updates<T>&, const Adam&);
template <class T>
void sgd_steps(const Updates<T>&, const Sgd&);
template <class T>
void rmsprop_steps(const Updates<T>&, const Rmsprop&);

template <class T>
struct Piece {
    T* data;
    int64_t size;
};

// The sum of all squares in float64, in an order that depends on the sizes alone.
template <class T>
double square_sum(const std::vector<Piece<T>>&);
// data *= factor, rounded to T once.
template <class T>
void scale_all(const std::vector<Piece<T>>&, double factor);

}  // namespace pycnn
