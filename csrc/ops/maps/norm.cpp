// Batch normalisation in chunks of rows. A chunk's float32 sums are taken around a value near their mean, and added in
// float64 in order (Chan, Golub & LeVeque 1983), so a large mean costs no digits of the variance. How rows are cut
// depends on the shape alone.

#include "ops/maps/norm.h"

#include <algorithm>
#include <cmath>
#include <type_traits>
#include <vector>

#include "ops/maps/elementwise.h"
#include "ops/maps/norm_parts.h"
#include "ops/runtime/caches.h"
#include "ops/runtime/dispatch.h"
#include "ops/runtime/scratch.h"

namespace pycnn::norm {

void chunk_statistics(const ChunkStatistics& s, const Layout& l) {
    float* part = s.parts + s.i * 3 * l.C;
    kernels().norm_chunk({part, part + l.C, part + 2 * l.C, s.x, l.rows_of(s.i), l.C, s.copy});
}

void merge_statistics(float* mean, float* variance, const float* parts, const Layout& l) {
    std::vector<double> sums(2 * l.C, 0.0), means(l.C);
    double *total = sums.data(), *squares = total + l.C;
    const double all_rows = static_cast<double>(l.all_rows);
    for (int64_t i = 0; i < l.chunks; ++i) {
        const float *near = parts + i * 3 * l.C, *sum = near + l.C;
        const double n = static_cast<double>(l.rows_of(i));
        for (int64_t lane = 0; lane < l.C; ++lane) total[lane] += n * near[lane] + sum[lane];
    }
    for (int64_t lane = 0; lane < l.C; ++lane) {
        double over_lanes = 0.0;
        for (int64_t other = lane % l.channels; other < l.C; other += l.channels) over_lanes += total[other];
        means[lane] = over_lanes / all_rows;
    }
    for (int64_t i = 0; i < l.chunks; ++i) {
        const float *near = parts + i * 3 * l.C, *sum = near + l.C, *square = sum + l.C;
        const double n = static_cast<double>(l.rows_of(i));
        for (int64_t lane = 0; lane < l.C; ++lane) {
            const double d = near[lane] - means[lane];  // (x - mean)^2 = (x - near + d)^2
            squares[lane] += square[lane] + d * (2.0 * sum[lane] + n * d);
        }
    }
    for (int64_t c = 0; c < l.channels; ++c) {
        double over_lanes = 0.0;
        for (int64_t lane = c; lane < l.C; lane += l.channels) over_lanes += squares[lane];
        mean[c] = static_cast<float>(means[c]);
        // Rounding may leave less than nothing; NaN stays.
        variance[c] = static_cast<float>(over_lanes < 0 ? 0.0 : over_lanes / all_rows);
    }
}

void late_gradient(const LateGradient& s, const NormRows& plain, const Activation& f) {
    const int64_t size = plain.rows * plain.C;
    const float* v = s.y;
    if (!v) {
        kernels().norm_apply(s.g, s.x, plain);
        if (reads_y(f)) kernels().activate(s.g, s.g, size, f);
        v = s.g;
    }
    kernels().activation_gradient({.dx = s.g, .dy = s.dy, .v = v, .size = size, .activation = f});
}

void gradient_coefficients(const NormBackward<float>& b, const NormFunction<float>& f, const Coefficients& k,
                           float* parts) {
    const Layout l(b.rows, b.C);
    const Activation& a = f.activation;
    const bool writes = a.kind != Activation::none && b.residual_gradient, late = is_late(a);
    for_chunks(l, 2 + (b.y != nullptr) + writes, [&](int64_t i) {
        const NormRows plain = k.rows(l.rows_of(i), l.C);
        NormRows rows = activated(plain, a);
        const float *dy = b.dy + l.at(i), *x = b.x + l.at(i), *y = b.y ? b.y + l.at(i) : nullptr;
        float* written = writes ? b.residual_gradient + l.at(i) : nullptr;
        Scratch scratch;
        if (late) {
            float* g = written ? written : scratch.floats(rows.rows * l.C);
            late_gradient({.g = g, .dy = dy, .x = x, .y = y}, plain, a);
            dy = g;
        } else if (rows.clips) {
            rows.y = y, rows.masked = written;
        }
        kernels().norm_gradient_sums(parts + i * 2 * l.C, dy, x, rows);
    });
    std::vector<double> sums(2 * l.C, 0.0);
    for (int64_t i = 0; i < l.chunks; ++i)
        for (int64_t at = 0; at < 2 * l.C; ++at) sums[at] += parts[i * 2 * l.C + at];
    const double count = static_cast<double>(l.all_rows);
    for (int64_t c = 0; c < l.channels; ++c) {
        double g = 0.0, g_deviation = 0.0;
        for (int64_t lane = c; lane < l.C; lane += l.channels) g += sums[lane], g_deviation += sums[l.C + lane];
        const double inverse = 1.0 / std::sqrt(f.variance[c] + f.eps), scale = f.weight[c] * inverse;
        b.dbias[c] = static_cast<float>(g);
        b.dweight[c] = static_cast<float>(g_deviation * inverse);
        for (int64_t lane = c; lane < l.C; lane += l.channels) {
            k.constant[lane] = static_cast<float>(-scale * g / count);
            k.slope[lane] = static_cast<float>(-scale * inverse * inverse * g_deviation / count);
        }
    }
}

}  // namespace pycnn::norm

namespace pycnn {
namespace {

using norm::Coefficients, norm::for_chunks, norm::Layout;

void statistics(const BatchStatistics<float>& s) {
    const Layout l(s.rows, s.C);
    Scratch scratch;
    float* parts = scratch.floats(l.chunks * 3 * l.C);
    for_chunks(l, 1, [&](int64_t i) { norm::chunk_statistics({.parts = parts, .x = s.x + l.at(i), .i = i}, l); });
    norm::merge_statistics(s.mean, s.variance, parts, l);
}

void apply(const NormForward<float>& a, const NormFunction<float>& f) {
    const Layout l(a.rows, a.C);
    Scratch scratch;
    const Coefficients k(scratch.floats(5 * l.C), f, l);
    const bool late = norm::is_late(f.activation);
    const bool stream = !late && a.y != a.x && a.y != a.residual && streams(a.y, l.rows * l.C, l.C);
    for_chunks(l, a.residual ? 3 : 2, [&](int64_t i) {
        NormRows rows = norm::activated(k.rows(l.rows_of(i), l.C), f.activation);
        rows.stream = stream;
        if (a.residual) rows.residual = a.residual + l.at(i);
        float* y = a.y + l.at(i);
        kernels().norm_apply(y, a.x + l.at(i), rows);
        if (late) kernels().activate(y, y, rows.rows * l.C, f.activation);
    });
}

void backward(const NormBackward<float>& b, const NormFunction<float>& f) {
    const Layout l(b.rows, b.C);
    Scratch scratch;
    float* parts = scratch.floats(l.chunks * 2 * l.C + 5 * l.C);
    const Coefficients k(parts + l.chunks * 2 * l.C, f, l);
    norm::gradient_coefficients(b, f, k, parts);
    if (!b.dx) return;
    const bool written = f.activation.kind != Activation::none && b.residual_gradient;
    const Activation a = written ? Activation{} : f.activation;
    const float* all = written ? b.residual_gradient : b.dy;
    const bool stream = b.dx != b.dy && streams(b.dx, l.rows * l.C, l.C), late = norm::is_late(a);
    for_chunks(l, 3, [&](int64_t i) {
        const NormRows plain = k.rows(l.rows_of(i), l.C);
        NormRows rows = norm::activated(plain, a);
        rows.stream = stream;
        const float *dy = all + l.at(i), *x = b.x + l.at(i), *y = b.y ? b.y + l.at(i) : nullptr;
        Scratch room;
        if (late) {
            float* g = room.floats(rows.rows * l.C);
            norm::late_gradient({.g = g, .dy = dy, .x = x, .y = y}, plain, a);
            dy = g;
        } else if (rows.clips) {
            rows.y = y;
        }
        kernels().norm_gradient({.dx = b.dx + l.at(i), .dy = dy, .x = x, .constant = k.constant, .slope = k.slope},
                                rows);
    });
}

// ---- float64: plain loops, each sum over the rows in order ------------------------------------------------------

void statistics(const BatchStatistics<double>& s) {
    const auto& [mean, variance, x, rows, C] = s;
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

void apply(const NormForward<double>& a, const NormFunction<double>& f) {
    for (int64_t at = 0; at < a.rows * a.C; ++at) {
        const double value = normalised(a.x[at], f, at % a.C);
        a.y[at] = a.residual ? value + a.residual[at] : value;
    }
    activate_here(a.y, a.y, a.rows * a.C, f.activation);
}

void backward(const NormBackward<double>& b, const NormFunction<double>& f) {
    const int64_t C = b.C, size = b.rows * C;
    const double* x = b.x;
    std::vector<double> g_of(b.dy, b.dy + size);
    if (f.activation.kind != Activation::none) {
        std::vector<double> v(size);
        for (int64_t at = 0; at < size; ++at) v[at] = b.y ? b.y[at] : normalised(x[at], f, at % C);
        if (!b.y && reads_y(f.activation)) activate_here(v.data(), v.data(), size, f.activation);
        activation_gradient<double>(
            {.dx = g_of.data(), .dy = g_of.data(), .v = v.data(), .size = size, .activation = f.activation});
        if (b.residual_gradient) std::copy(g_of.begin(), g_of.end(), b.residual_gradient);
    }
    const auto gradient = [&](int64_t at) { return g_of[static_cast<std::size_t>(at)]; };
    for (int64_t c = 0; c < C; ++c) {
        const double inverse = 1.0 / std::sqrt(f.variance[c] + f.eps), count = static_cast<double>(b.rows);
        double g = 0.0, g_x = 0.0;  // x normalised, before weight and bias
        for (int64_t at = c; at < size; at += C) g += gradient(at), g_x += gradient(at) * (x[at] - f.mean[c]) * inverse;
        b.dbias[c] = g, b.dweight[c] = g_x;
        if (!b.dx) continue;
        for (int64_t at = c; at < size; at += C)
            b.dx[at] = f.weight[c] * inverse * (gradient(at) - g / count - (x[at] - f.mean[c]) * inverse * g_x / count);
    }
}

}  // namespace

template <class T>
void batch_statistics(const BatchStatistics<T>& s) {
    statistics(s);
}
template <class T>
void update_running_statistics(const RunningStatistics<T>& s, const NormFunction<T>& batch) {
    const auto& [mean, variance, momentum, rows, C] = s;
    const double unbiased = static_cast<double>(rows) / static_cast<double>(rows - 1);
    for (int64_t c = 0; c < C; ++c) {
        mean[c] = static_cast<T>((1.0 - momentum) * mean[c] + momentum * batch.mean[c]);
        variance[c] = static_cast<T>((1.0 - momentum) * variance[c] + momentum * unbiased * batch.variance[c]);
    }
}
template <class T>
void batch_norm_apply(const NormForward<T>& a, const NormFunction<T>& f) {
    if (a.rows > 0) apply(a, f);
}
template <class T>
void batch_norm_backward(const NormBackward<T>& b, const NormFunction<T>& f) {
    if (f.activation.kind == Activation::none && b.residual_gradient && b.residual_gradient != b.dy)
        std::copy(b.dy, b.dy + b.rows * b.C, b.residual_gradient);
    backward(b, f);
}

template void batch_statistics(const BatchStatistics<float>&);
template void batch_statistics(const BatchStatistics<double>&);
template void update_running_statistics(const RunningStatistics<float>&, const NormFunction<float>&);
template void update_running_statistics(const RunningStatistics<double>&, const NormFunction<double>&);
template void batch_norm_apply(const NormForward<float>&, const NormFunction<float>&);
template void batch_norm_apply(const NormForward<double>&, const NormFunction<double>&);
template void batch_norm_backward(const NormBackward<float>&, const NormFunction<float>&);
template void batch_norm_backward(const NormBackward<double>&, const NormFunction<double>&);

}  // namespace pycnn
