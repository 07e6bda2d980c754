// Batch normalisation in chunks of rows. A chunk's float32 sums are taken around a value near their mean, and added in
// float64 in order (Chan, Golub & LeVeque 1983), so a large mean costs no digits of the variance. How rows are cut
// depends on the shape alone.

#include "ops/maps/norm.h"

#include <algorithm>
#include <cmath>
#include <type_traits>
#include <vector>

#include "ops/runtime/dispatch.h"
#include "ops/runtime/parallel.h"
#include "ops/runtime/workspace.h"
#include "ops/shapes.h"

namespace pycnn {
namespace {

// Fewer than 16 channels share a vector: `fold` rows become one of 16 numbers, where rows and channels allow it. Lane l
// then belongs to channel l % channels.
struct Layout {
    int64_t channels, fold, rows, C, chunk, chunks;

    Layout(int64_t all_rows, int64_t all_channels) : channels(all_channels) {
        constexpr int64_t kFloats = 4096;  // 16 KB: a chunk of x, and one of dy beside it, stay in L1
        const int64_t shared = channels < 16 && 16 % channels == 0 ? 16 / channels : 1;
        fold = all_rows % shared == 0 ? shared : 1;
        rows = all_rows / fold, C = channels * fold;
        chunk = std::min<int64_t>(std::max<int64_t>(kFloats / C, 32), 256);
        chunks = ceil_div(rows, chunk);
    }
    int64_t first(int64_t i) const { return i * chunk; }
    int64_t rows_of(int64_t i) const { return std::min(chunk, rows - first(i)); }
};

// In training a BatchNorm runs right behind a convolution, whose threads still spin, so a region pays early.
constexpr int64_t kGrainNorm = kGrainBytes / 8;

template <class Body>
void for_chunks(const Layout& l, double arrays, Body&& body) {
    parallel_for(l.chunks, grain_units(kGrainNorm, arrays * 4 * l.chunk * l.C), [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) body(i);
    });
}

// The coefficients of the kernels, in scratch memory behind `used` floats: [5][C], one for each lane.
struct Coefficients {
    float *mean, *scale, *shift, *constant, *slope;

    Coefficients(float* room, const NormFunction<float>& f, const Layout& l)
        : mean(room), scale(mean + l.C), shift(scale + l.C), constant(shift + l.C), slope(constant + l.C) {
        for (int64_t lane = 0; lane < l.C; ++lane) {
            const int64_t c = lane % l.channels;
            mean[lane] = f.mean[c];
            scale[lane] = static_cast<float>(f.weight[c] / std::sqrt(f.variance[c] + f.eps));
            shift[lane] = f.bias[c];
        }
    }
    NormRows rows(const Layout& l, int64_t count, bool relu) const { return {count, l.C, mean, scale, shift, relu}; }
};

void statistics(float* mean, float* variance, const float* x, int64_t all_rows, int64_t channels) {
    const Layout l(all_rows, channels);
    float* parts = scratch(Scratch::slots, l.chunks * 3 * l.C);  // [chunks][near, sum, squares][C]
    for_chunks(l, 1, [&](int64_t i) {
        float* part = parts + i * 3 * l.C;
        kernels().norm_chunk({part, part + l.C, part + 2 * l.C, x + l.first(i) * l.C, l.rows_of(i), l.C});
    });
    std::vector<double> sums(2 * l.C, 0.0), means(l.C);
    double *total = sums.data(), *squares = total + l.C;
    for (int64_t i = 0; i < l.chunks; ++i) {
        const float *near = parts + i * 3 * l.C, *sum = near + l.C;
        const double n = static_cast<double>(l.rows_of(i));
        for (int64_t lane = 0; lane < l.C; ++lane) total[lane] += n * near[lane] + sum[lane];
    }
    for (int64_t lane = 0; lane < l.C; ++lane) {
        double over_lanes = 0.0;
        for (int64_t other = lane % channels; other < l.C; other += channels) over_lanes += total[other];
        means[lane] = over_lanes / static_cast<double>(all_rows);
    }
    for (int64_t i = 0; i < l.chunks; ++i) {
        const float *near = parts + i * 3 * l.C, *sum = near + l.C, *square = sum + l.C;
        const double n = static_cast<double>(l.rows_of(i));
        for (int64_t lane = 0; lane < l.C; ++lane) {
            const double d = near[lane] - means[lane];  // (x - mean)^2 = (x - near + d)^2
            squares[lane] += square[lane] + d * (2.0 * sum[lane] + n * d);
        }
    }
    for (int64_t c = 0; c < channels; ++c) {
        double over_lanes = 0.0;
        for (int64_t lane = c; lane < l.C; lane += channels) over_lanes += squares[lane];
        mean[c] = static_cast<float>(means[c]);
        // Rounding may leave less than nothing; NaN stays.
        variance[c] = static_cast<float>(over_lanes < 0 ? 0.0 : over_lanes / static_cast<double>(all_rows));
    }
}

void apply(float* y, const float* x, const NormFunction<float>& f, int64_t all_rows, int64_t channels,
           const float* residual) {
    const Layout l(all_rows, channels);
    const Coefficients k(scratch(Scratch::slots, 5 * l.C), f, l);
    for_chunks(l, residual ? 3 : 2, [&](int64_t i) {
        const int64_t at = l.first(i) * l.C;
        NormRows rows = k.rows(l, l.rows_of(i), f.relu);
        if (residual) rows.residual = residual + at;
        kernels().norm_apply(y + at, x + at, rows);
    });
}

void backward(float* dx, float* dweight, float* dbias, const float* dy, const float* x, const NormFunction<float>& f,
              int64_t all_rows, int64_t channels, const NormResidual<float>& residual) {
    const Layout l(all_rows, channels);
    float* parts = scratch(Scratch::slots, l.chunks * 2 * l.C + 5 * l.C);  // [chunks][g, g (x - mean)][C]
    const Coefficients k(parts + l.chunks * 2 * l.C, f, l);
    const bool writes = f.relu && residual.gradient;
    const auto rows_of = [&](int64_t i, bool mask) {
        NormRows rows = k.rows(l, l.rows_of(i), mask);
        if (mask && residual.y) rows.y = residual.y + l.first(i) * l.C;
        return rows;
    };
    for_chunks(l, 2 + (residual.y != nullptr) + writes, [&](int64_t i) {
        const int64_t at = l.first(i) * l.C;
        NormRows rows = rows_of(i, f.relu);
        if (writes) rows.masked = residual.gradient + at;
        kernels().norm_gradient_sums(parts + i * 2 * l.C, dy + at, x + at, rows);
    });
    std::vector<double> sums(2 * l.C, 0.0);
    for (int64_t i = 0; i < l.chunks; ++i)
        for (int64_t at = 0; at < 2 * l.C; ++at) sums[at] += parts[i * 2 * l.C + at];
    const double count = static_cast<double>(all_rows);
    for (int64_t c = 0; c < channels; ++c) {
        double g = 0.0, g_deviation = 0.0;
        for (int64_t lane = c; lane < l.C; lane += channels) g += sums[lane], g_deviation += sums[l.C + lane];
        const double inverse = 1.0 / std::sqrt(f.variance[c] + f.eps), scale = f.weight[c] * inverse;
        dbias[c] = static_cast<float>(g);
        dweight[c] = static_cast<float>(g_deviation * inverse);
        for (int64_t lane = c; lane < l.C; lane += channels) {
            k.constant[lane] = static_cast<float>(-scale * g / count);
            k.slope[lane] = static_cast<float>(-scale * inverse * inverse * g_deviation / count);
        }
    }
    if (!dx) return;
    const float* g = writes ? residual.gradient : dy;
    for_chunks(l, 3, [&](int64_t i) {
        const int64_t at = l.first(i) * l.C;
        kernels().norm_gradient(dx + at, g + at, x + at, rows_of(i, f.relu && !writes), k.constant, k.slope);
    });
}

// ---- float64: plain loops, each sum over the rows in order ------------------------------------------------------

void statistics(double* mean, double* variance, const double* x, int64_t rows, int64_t C) {
    for (int64_t c = 0; c < C; ++c) {
        double sum = 0.0, squares = 0.0;
        for (int64_t r = 0; r < rows; ++r) sum += x[r * C + c];
        mean[c] = sum / static_cast<double>(rows);
        for (int64_t r = 0; r < rows; ++r) squares += (x[r * C + c] - mean[c]) * (x[r * C + c] - mean[c]);
        variance[c] = squares / static_cast<double>(rows);
    }
}

double normalised(double x, const NormFunction<double>& f, int64_t c) {
    return (x - f.mean[c]) / std::sqrt(f.variance[c] + f.eps) * f.weight[c] + f.bias[c];
}

void apply(double* y, const double* x, const NormFunction<double>& f, int64_t rows, int64_t C, const double* residual) {
    for (int64_t at = 0; at < rows * C; ++at) {
        double value = normalised(x[at], f, at % C);
        if (residual) value += residual[at];
        y[at] = f.relu && value < 0 ? 0.0 : value;
    }
}

void backward(double* dx, double* dweight, double* dbias, const double* dy, const double* x,
              const NormFunction<double>& f, int64_t rows, int64_t C, const NormResidual<double>& residual) {
    const bool writes = f.relu && residual.gradient;
    if (writes)
        for (int64_t at = 0; at < rows * C; ++at) residual.gradient[at] = residual.y[at] <= 0 ? 0.0 : dy[at];
    const double* all = writes ? residual.gradient : dy;
    const auto gradient = [&](int64_t at) {
        if (!f.relu || writes) return all[at];
        return (residual.y ? residual.y[at] : normalised(x[at], f, at % C)) <= 0 ? 0.0 : all[at];
    };
    for (int64_t c = 0; c < C; ++c) {
        const double inverse = 1.0 / std::sqrt(f.variance[c] + f.eps), count = static_cast<double>(rows);
        double g = 0.0, g_x = 0.0;  // x normalised, before weight and bias
        for (int64_t at = c; at < rows * C; at += C)
            g += gradient(at), g_x += gradient(at) * (x[at] - f.mean[c]) * inverse;
        dbias[c] = g, dweight[c] = g_x;
        if (!dx) continue;
        for (int64_t at = c; at < rows * C; at += C)
            dx[at] = f.weight[c] * inverse * (gradient(at) - g / count - (x[at] - f.mean[c]) * inverse * g_x / count);
    }
}

}  // namespace

template <class T>
void batch_statistics(T* mean, T* variance, const T* x, int64_t rows, int64_t C) {
    statistics(mean, variance, x, rows, C);
}
template <class T>
void update_running_statistics(T* mean, T* variance, const NormFunction<T>& batch, double momentum, int64_t rows,
                               int64_t C) {
    const double unbiased = static_cast<double>(rows) / static_cast<double>(rows - 1);
    for (int64_t c = 0; c < C; ++c) {
        mean[c] = static_cast<T>((1.0 - momentum) * mean[c] + momentum * batch.mean[c]);
        variance[c] = static_cast<T>((1.0 - momentum) * variance[c] + momentum * unbiased * batch.variance[c]);
    }
}
template <class T>
void batch_norm_apply(T* y, const T* x, const NormFunction<T>& f, int64_t rows, int64_t C, const T* residual) {
    if (rows > 0) apply(y, x, f, rows, C, residual);
}
template <class T>
void batch_norm_backward(T* dx, T* dweight, T* dbias, const T* dy, const T* x, const NormFunction<T>& f, int64_t rows,
                         int64_t C, const NormResidual<T>& residual) {
    if (!f.relu && residual.gradient && residual.gradient != dy) std::copy(dy, dy + rows * C, residual.gradient);
    backward(dx, dweight, dbias, dy, x, f, rows, C, residual);
}

template void batch_statistics(float*, float*, const float*, int64_t, int64_t);
template void batch_statistics(double*, double*, const double*, int64_t, int64_t);
template void update_running_statistics(float*, float*, const NormFunction<float>&, double, int64_t, int64_t);
template void update_running_statistics(double*, double*, const NormFunction<double>&, double, int64_t, int64_t);
template void batch_norm_apply(float*, const float*, const NormFunction<float>&, int64_t, int64_t, const float*);
template void batch_norm_apply(double*, const double*, const NormFunction<double>&, int64_t, int64_t, const double*);
template void batch_norm_backward(float*, float*, float*, const float*, const float*, const NormFunction<float>&,
                                  int64_t, int64_t, const NormResidual<float>&);
template void batch_norm_backward(double*, double*, double*, const double*, const double*, const NormFunction<double>&,
                                  int64_t, int64_t, const NormResidual<double>&);

}  // namespace pycnn
