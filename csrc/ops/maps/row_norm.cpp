// Layer normalisation and local response normalisation: rows that threads take.

#include "ops/maps/row_norm.h"

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "ops/maps/combine.h"
#include "ops/runtime/caches.h"
#include "ops/runtime/dispatch.h"
#include "ops/runtime/parallel.h"
#include "ops/runtime/scratch.h"

namespace pycnn {
namespace {

// Bytes that a pass over memory moves in the time of one number: three passes over L1 forward, two and more arithmetic
// backward. One thread, Zen 4, AVX-512: 1x56x56x96 in 70 and some 90 microseconds, so a region pays from half of it on.
constexpr double kForward = 4, kBackward = 5, kResponse = 16;  // numbers of T

template <class T>
constexpr bool vectorised = std::is_same_v<T, float>;

void rows_of(const LayerNorm<float>& s, int64_t begin, int64_t end, bool stream) {
    kernels().layer_norm({.y = s.y + begin * s.C,
                          .x = s.x + begin * s.C,
                          .weight = s.weight,
                          .bias = s.bias,
                          .kept = s.kept ? s.kept + 2 * begin : nullptr,
                          .rows = end - begin,
                          .C = s.C,
                          .eps = static_cast<float>(s.eps),
                          .stream = stream});
}

void rows_of(const LayerNorm<double>& s, int64_t begin, int64_t end, bool) {
    const double count = static_cast<double>(s.C);
    for (int64_t r = begin; r < end; ++r) {
        const double* x = s.x + r * s.C;
        double mean = 0, variance = 0;
        for (int64_t c = 0; c < s.C; ++c) mean += x[c];
        mean /= count;
        for (int64_t c = 0; c < s.C; ++c) variance += (x[c] - mean) * (x[c] - mean);
        const double inverse = 1 / std::sqrt(variance / count + s.eps);
        for (int64_t c = 0; c < s.C; ++c)
            s.y[r * s.C + c] = (x[c] - mean) * inverse * s.weight[c] + (s.bias ? s.bias[c] : 0.0);
        if (s.kept) s.kept[2 * r] = mean, s.kept[2 * r + 1] = inverse;
    }
}

// Adds to sums [2][C], dweight and dbias.
void gradient_rows(const LayerNormBackward<float>& s, float* sums, int64_t begin, int64_t end) {
    kernels().layer_norm_gradient({.dx = s.dx ? s.dx + begin * s.C : nullptr,
                                   .sums = sums,
                                   .dy = s.dy + begin * s.C,
                                   .x = s.x + begin * s.C,
                                   .weight = s.weight,
                                   .kept = s.kept + 2 * begin,
                                   .rows = end - begin,
                                   .C = s.C});
}

void gradient_rows(const LayerNormBackward<double>& s, double* sums, int64_t begin, int64_t end) {
    const double count = static_cast<double>(s.C);
    for (int64_t r = begin; r < end; ++r) {
        const double *x = s.x + r * s.C, *dy = s.dy + r * s.C, mean = s.kept[2 * r], inverse = s.kept[2 * r + 1];
        double g_sum = 0, gn_sum = 0;
        for (int64_t c = 0; c < s.C; ++c) {
            const double n = (x[c] - mean) * inverse;
            sums[c] += dy[c] * n, sums[s.C + c] += dy[c];
            g_sum += dy[c] * s.weight[c], gn_sum += dy[c] * s.weight[c] * n;
        }
        for (int64_t c = 0; s.dx && c < s.C; ++c) {
            const double n = (x[c] - mean) * inverse;
            s.dx[r * s.C + c] = (dy[c] * s.weight[c] - (g_sum + n * gn_sum) / count) * inverse;
        }
    }
}

// Numbers of one row's room: what is summed, between zeros.
int64_t room_of(const ResponseNormShape& s) { return s.C + 2 * (s.size - 1) + 16; }

ResponseNorm for_kernel(const ResponseNormShape& s, float* room, int64_t rows) {
    return {.rows = rows,
            .C = s.C,
            .before = s.size / 2,
            .after = (s.size - 1) / 2,
            .scale = static_cast<float>(s.alpha / static_cast<double>(s.size)),
            .k = static_cast<float>(s.k),
            .beta = s.beta,
            .room = room};
}

// d = k + alpha / size * sum over the window, of a row.
void denominators(double* d, const double* x, const ResponseNormShape& s) {
    for (int64_t c = 0; c < s.C; ++c) {
        double sum = 0;
        for (int64_t i = std::max<int64_t>(c - s.size / 2, 0); i <= std::min(c + (s.size - 1) / 2, s.C - 1); ++i)
            sum += x[i] * x[i];
        d[c] = s.k + s.alpha / static_cast<double>(s.size) * sum;
    }
}

void response_rows(float* y, const float* x, const ResponseNormShape& s, int64_t rows, float* room) {
    kernels().response_norm(y, x, for_kernel(s, room, rows));
}
void response_rows(double* y, const double* x, const ResponseNormShape& s, int64_t rows, double* d) {
    for (int64_t r = 0; r < rows; ++r, x += s.C, y += s.C) {
        denominators(d, x, s);
        for (int64_t c = 0; c < s.C; ++c) y[c] = x[c] * std::pow(d[c], -s.beta);
    }
}

void response_gradient(float* dx, const float* dy, const float* x, const ResponseNormShape& s, int64_t rows,
                       float* room) {
    kernels().response_norm_gradient(dx, dy, x, for_kernel(s, room, rows));
}
void response_gradient(double* dx, const double* dy, const double* x, const ResponseNormShape& s, int64_t rows,
                       double* d) {
    double* share = d + s.C;
    const double factor = -2 * s.alpha / static_cast<double>(s.size) * s.beta;
    for (int64_t r = 0; r < rows; ++r, x += s.C, dy += s.C, dx += s.C) {
        denominators(d, x, s);
        for (int64_t c = 0; c < s.C; ++c) {
            const double own = dy[c] * std::pow(d[c], -s.beta);
            share[c] = own * x[c] / d[c], dx[c] = own;
        }
        for (int64_t c = 0; c < s.C; ++c)
            for (int64_t i = std::max<int64_t>(c - (s.size - 1) / 2, 0); i <= std::min(c + s.size / 2, s.C - 1); ++i)
                dx[c] += factor * x[c] * share[i];
    }
}

}  // namespace

template <class T>
void layer_norm(const LayerNorm<T>& s) {
    const bool stream = vectorised<T> && s.y != s.x && streams(reinterpret_cast<const float*>(s.y), s.rows * s.C, s.C);
    parallel_for(s.rows, grain_units(kGrainBytes, kForward * sizeof(T) * s.C),
                 [&](int64_t begin, int64_t end) { rows_of(s, begin, end, stream); });
}

template <class T>
void layer_norm_backward(const LayerNormBackward<T>& s) {
    const int64_t C = s.C, S = sum_slots(s.rows, C);
    Scratch scratch;
    T* sums = scratch.array<T>(S * 2 * C);
    std::fill(sums, sums + S * 2 * C, T(0));
    parallel_for(S, grain_units(kGrainBytes, kBackward * sizeof(T) * s.rows * C / S), [&](int64_t begin, int64_t end) {
        for (int64_t slot = begin; slot < end; ++slot)
            gradient_rows(s, sums + slot * 2 * C, slot * s.rows / S, (slot + 1) * s.rows / S);
    });
    for (int64_t slot = 1; slot < S; ++slot)
        for (int64_t i = 0; i < 2 * C; ++i) sums[i] += sums[slot * 2 * C + i];
    std::copy(sums, sums + C, s.dweight);
    if (s.dbias) std::copy(sums + C, sums + 2 * C, s.dbias);
}

template <class T>
void response_norm(T* y, const T* x, const ResponseNormShape& s) {
    parallel_for(s.rows, grain_units(kGrainBytes, kResponse * sizeof(T) * s.C), [&](int64_t begin, int64_t end) {
        Scratch scratch;
        T* room = scratch.array<T>(2 * room_of(s));
        response_rows(y + begin * s.C, x + begin * s.C, s, end - begin, room);
    });
}

template <class T>
void response_norm_backward(T* dx, const T* dy, const T* x, const ResponseNormShape& s) {
    parallel_for(s.rows, grain_units(kGrainBytes, 2 * kResponse * sizeof(T) * s.C), [&](int64_t begin, int64_t end) {
        Scratch scratch;
        T* room = scratch.array<T>(2 * room_of(s));
        const int64_t at = begin * s.C;
        response_gradient(dx + at, dy + at, x + at, s, end - begin, room);
    });
}

template void layer_norm(const LayerNorm<float>&);
template void layer_norm(const LayerNorm<double>&);
template void layer_norm_backward(const LayerNormBackward<float>&);
template void layer_norm_backward(const LayerNormBackward<double>&);
template void response_norm(float*, const float*, const ResponseNormShape&);
template void response_norm(double*, const double*, const ResponseNormShape&);
template void response_norm_backward(float*, const float*, const float*, const ResponseNormShape&);
template void response_norm_backward(double*, const double*, const double*, const ResponseNormShape&);

}  // namespace pycnn
