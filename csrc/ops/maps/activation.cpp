// Activations in float64, the gradients of activations, and prelu, over the threads.

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "ops/maps/elementwise.h"
#include "ops/runtime/dispatch.h"
#include "ops/runtime/parallel.h"
#include "ops/runtime/scratch.h"
#include "ops/shapes.h"

namespace pycnn {
namespace {

// What kernels/exp.h and simd.h are for vectors.
inline double like(double, double c) { return c; }
inline bool greater(double a, double b) { return a > b; }
inline bool is_nan(double x) { return std::isnan(x); }
inline double select(bool condition, double a, double b) { return condition ? a : b; }
inline double fma(double a, double b, double c) { return a * b + c; }
inline double absolute(double x) { return std::abs(x); }
inline double square_root(double x) { return std::sqrt(x); }
inline double exp_of(double x) { return std::exp(x); }
inline double exp_of_negative(double x) { return std::exp(x); }
inline double expm1_of_negative(double x) { return std::expm1(x); }
inline double log_of(double x) { return std::log(x); }
inline double log1p_of(double x) { return std::log1p(x); }
inline double tanh_of(double x) { return std::tanh(x); }
inline double erf_of(double x) { return std::erf(x); }
inline double normal_share(double x) { return std::erfc(x * -0.7071067811865476) / 2; }

}  // namespace
}  // namespace pycnn

#include "kernels/activations.h"

namespace pycnn {
namespace {

// Calls body(Function<kind>{}) for the row of the table; nothing for none.
template <class Body>
void with_function(Activation::Kind kind, Body&& body) {
    switch (kind) {
        case Activation::none:
            return;
#define PYCNN_ROW(kind)    \
    case Activation::kind: \
        return body(Function<Activation::kind>{});
            PYCNN_ACTIVATIONS(PYCNN_ROW)
#undef PYCNN_ROW
    }
}

void gradient_here(const ActivationGradient& s) { kernels().activation_gradient(s); }
void gradient_here(const ActivationGradientOf<double>& s) {
    const Numbers<double> n{s.activation.a, s.activation.b};
    with_function(s.activation.kind, [&](auto function) {
        for (int64_t i = 0; i < s.size; ++i) s.dx[i] = function.gradient(s.dy[i], s.v[i], n);
    });
}

void prelu_here(const Prelu& s) { kernels().prelu(s); }
void prelu_here(const PreluOf<double>& s) {
    for (int64_t i = 0; i < s.rows * s.C; ++i) s.y[i] = s.x[i] < 0 ? s.x[i] * s.slope[i % s.C] : s.x[i];
}
void prelu_gradient_here(const PreluGradient& s) { kernels().prelu_gradient(s); }
void prelu_gradient_here(const PreluGradientOf<double>& s) {
    for (int64_t i = 0; i < s.rows * s.C; ++i) {
        const int64_t c = i % s.C;
        const double dy = s.dy[i];
        if (s.x[i] < 0) s.dslope[c] += dy * s.x[i];
        if (s.dx) s.dx[i] = s.x[i] < 0 ? dy * s.slope[c] : dy;
    }
}

}  // namespace

void activate_here(double* y, const double* x, int64_t size, const Activation& a) {
    const Numbers<double> n{a.a, a.b};
    with_function(a.kind, [&](auto function) {
        for (int64_t i = 0; i < size; ++i) y[i] = function.value(x[i], n);
    });
}

template <class T>
void activation_gradient(const ActivationGradientOf<T>& s) {
    parallel_for(s.size, grain_units(kGrainBytes, 3.0 * sizeof(T)), [&](int64_t begin, int64_t end) {
        ActivationGradientOf<T> part = s;
        part.dx += begin, part.dy += begin, part.v += begin, part.size = end - begin;
        gradient_here(part);
    });
}

template <class T>
void prelu(const PreluOf<T>& s) {
    parallel_for(s.rows, grain_units(kGrainBytes, 2.0 * sizeof(T) * s.C), [&](int64_t begin, int64_t end) {
        PreluOf<T> part = s;
        part.y += begin * s.C, part.x += begin * s.C, part.rows = end - begin;
        prelu_here(part);
    });
}

// Slopes in slots of rows whose number depends on the shape alone; slots are added in order.
template <class T>
void prelu_gradient(const PreluGradientOf<T>& s) {
    constexpr int64_t kSlots = 64;
    const int64_t S = std::max<int64_t>(std::min(kSlots, s.rows / 16), 1), C = s.C;
    Scratch scratch;
    T* slots = scratch.array<T>(S * C);
    std::fill(slots, slots + S * C, T(0));
    const double bytes = 3.0 * sizeof(T) * static_cast<double>(s.rows * C) / static_cast<double>(S);
    parallel_for(S, grain_units(kGrainBytes, bytes), [&](int64_t begin, int64_t end) {
        for (int64_t slot = begin; slot < end; ++slot) {
            const int64_t first = slot * s.rows / S, last = (slot + 1) * s.rows / S;
            PreluGradientOf<T> part = s;
            if (s.dx) part.dx += first * C;
            part.dslope = slots + slot * C, part.dy += first * C, part.x += first * C, part.rows = last - first;
            prelu_gradient_here(part);
        }
    });
    std::copy(slots, slots + C, s.dslope);
    for (int64_t slot = 1; slot < S; ++slot)
        for (int64_t c = 0; c < C; ++c) s.dslope[c] += slots[slot * C + c];
}

template void activation_gradient(const ActivationGradientOf<float>&);
template void activation_gradient(const ActivationGradientOf<double>&);
template void prelu(const PreluOf<float>&);
template void prelu(const PreluOf<double>&);
template void prelu_gradient(const PreluGradientOf<float>&);
template void prelu_gradient(const PreluGradientOf<double>&);

}  // namespace pycnn
