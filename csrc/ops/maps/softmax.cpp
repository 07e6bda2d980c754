// Softmax, log-softmax, cross entropy: threads take rows.

#include "ops/maps/softmax.h"

#include <algorithm>
#include <cmath>
#include <type_traits>
#include <vector>

#include "ops/runtime/dispatch.h"
#include "ops/runtime/parallel.h"

namespace pycnn {
namespace {

// One row, by type: the kernels for float, the formulas for double.
template <class T>
struct Row;

template <>
struct Row<float> {
    static void softmax(float* y, const float* x, int64_t K) { kernels().softmax_row(y, x, K); }
    static void log_softmax(float* y, const float* x, int64_t K) { kernels().log_softmax_row(y, x, K); }
    static void softmax_backward(float* dx, const float* dy, const float* y, int64_t K) {
        kernels().softmax_backward_row(dx, dy, y, K);
    }
    static void log_softmax_backward(float* dx, const float* dy, const float* y, int64_t K) {
        kernels().log_softmax_backward_row(dx, dy, y, K);
    }
};

template <>
struct Row<double> {
    static double maximum(const double* x, int64_t K) {
        double best = x[0];
        for (int64_t k = 1; k < K; ++k)
            if (x[k] > best || x[k] != x[k]) best = x[k];
        return best;
    }
    static void softmax(double* y, const double* x, int64_t K) {
        const double max = maximum(x, K);
        double sum = 0;
        for (int64_t k = 0; k < K; ++k) sum += y[k] = std::exp(x[k] - max);
        for (int64_t k = 0; k < K; ++k) y[k] /= sum;
    }
    static void log_softmax(double* y, const double* x, int64_t K) {
        const double max = maximum(x, K);
        double sum = 0;
        for (int64_t k = 0; k < K; ++k) sum += std::exp(x[k] - max);
        const double log_sum = std::log(sum);
        for (int64_t k = 0; k < K; ++k) y[k] = x[k] - max - log_sum;
    }
    static void softmax_backward(double* dx, const double* dy, const double* y, int64_t K) {
        double dot = 0;
        for (int64_t k = 0; k < K; ++k) dot += dy[k] * y[k];
        for (int64_t k = 0; k < K; ++k) dx[k] = y[k] * (dy[k] - dot);
    }
    static void log_softmax_backward(double* dx, const double* dy, const double* y, int64_t K) {
        double sum = 0;
        for (int64_t k = 0; k < K; ++k) sum += dy[k];
        for (int64_t k = 0; k < K; ++k) dx[k] = dy[k] - std::exp(y[k]) * sum;
    }
};

template <class Body>
void for_each_row(int64_t rows, int64_t K, Body&& body) {
    if (K == 0) return;
    parallel_for(rows, grain_units(kGrainPlain, 4.0 * K), [&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row) body(row);
    });
}

}  // namespace

template <class T>
void softmax_forward(T* y, const T* x, int64_t rows, int64_t K) {
    for_each_row(rows, K, [&](int64_t r) { Row<T>::softmax(y + r * K, x + r * K, K); });
}
template <class T>
void log_softmax_forward(T* y, const T* x, int64_t rows, int64_t K) {
    for_each_row(rows, K, [&](int64_t r) { Row<T>::log_softmax(y + r * K, x + r * K, K); });
}
template <class T>
void softmax_backward(T* dx, const T* dy, const T* y, int64_t rows, int64_t K) {
    for_each_row(rows, K, [&](int64_t r) { Row<T>::softmax_backward(dx + r * K, dy + r * K, y + r * K, K); });
}
template <class T>
void log_softmax_backward(T* dx, const T* dy, const T* y, int64_t rows, int64_t K) {
    for_each_row(rows, K, [&](int64_t r) { Row<T>::log_softmax_backward(dx + r * K, dy + r * K, y + r * K, K); });
}

template <class T>
double softmax_cross_entropy(T* dlogits, const T* logits, const int64_t* labels, const T* onehot, T smoothing,
                             int64_t rows, int64_t K) {
    std::vector<double> losses(rows, 0.0);
    for_each_row(rows, K, [&](int64_t r) {
        std::vector<T> log_p(K), target(K, T(0)), p(K);
        if (labels)
            target[labels[r]] = T(1);
        else
            std::copy(onehot + r * K, onehot + (r + 1) * K, target.begin());
        T total = T(0);
        for (int64_t k = 0; k < K; ++k) {
            target[k] = target[k] * (T(1) - smoothing) + smoothing / static_cast<T>(K);
            total += target[k];
        }
        Row<T>::log_softmax(log_p.data(), logits + r * K, K);
        Row<T>::softmax(p.data(), logits + r * K, K);
        double loss = 0.0;
        for (int64_t k = 0; k < K; ++k) {
            // 0 times log 0 = -Inf counts as 0: a class that is not the target may have probability 0.
            if (target[k] != T(0)) loss -= static_cast<double>(target[k]) * static_cast<double>(log_p[k]);
            dlogits[r * K + k] = (p[k] * total - target[k]) / static_cast<T>(rows);
        }
        losses[r] = loss;
    });
    double sum = 0.0;
    for (const double loss : losses) sum += loss;  // in order: the same bits for every thread count
    return rows ? sum / static_cast<double>(rows) : 0.0;
}

template void softmax_forward(float*, const float*, int64_t, int64_t);
template void softmax_forward(double*, const double*, int64_t, int64_t);
template void log_softmax_forward(float*, const float*, int64_t, int64_t);
template void log_softmax_forward(double*, const double*, int64_t, int64_t);
template void softmax_backward(float*, const float*, const float*, int64_t, int64_t);
template void softmax_backward(double*, const double*, const double*, int64_t, int64_t);
template void log_softmax_backward(float*, const float*, const float*, int64_t, int64_t);
template void log_softmax_backward(double*, const double*, const double*, int64_t, int64_t);
template double softmax_cross_entropy(float*, const float*, const int64_t*, const float*, float, int64_t, int64_t);
template double softmax_cross_entropy(double*, const double*, const int64_t*, const double*, double, int64_t, int64_t);

}  // namespace pycnn
