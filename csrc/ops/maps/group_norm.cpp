// Group normalisation: the passes of batch normalisation for each image by itself (norm_parts.h), with statistics that
// the channels of a group share. Sums of chunks are added in float64, image by image.

#include <cmath>
#include <vector>

#include "ops/maps/norm_parts.h"
#include "ops/maps/row_norm.h"
#include "ops/runtime/caches.h"
#include "ops/runtime/dispatch.h"
#include "ops/runtime/scratch.h"

namespace pycnn {
namespace {

using norm::Layout;

struct Images {
    int64_t N;
    Layout l;  // of one image

    int64_t at(int64_t unit) const { return unit / l.chunks * l.all_rows * l.channels + l.at(unit % l.chunks); }
    int64_t rows_of(int64_t unit) const { return l.rows_of(unit % l.chunks); }
};

// Units are the chunks of all images.
template <class Body>
void for_units(const Images& images, double arrays, Body&& body) {
    const Layout& l = images.l;
    parallel_for(images.N * l.chunks, grain_units(norm::kGrainNorm, arrays * 4 * l.chunk * l.C),
                 [&](int64_t begin, int64_t end) {
                     for (int64_t unit = begin; unit < end; ++unit) body(unit);
                 });
}

// Mean and inverse of each group of an image, from those of its channels.
void merge_groups(float* kept, const float* means, const float* variances, int64_t C, int64_t groups, double eps) {
    const int64_t size = C / groups;
    for (int64_t g = 0; g < groups; ++g) {
        double mean = 0, variance = 0;
        for (int64_t c = g * size; c < (g + 1) * size; ++c) mean += means[c];
        mean /= static_cast<double>(size);
        for (int64_t c = g * size; c < (g + 1) * size; ++c)
            variance += variances[c] + (means[c] - mean) * (means[c] - mean);
        kept[2 * g] = static_cast<float>(mean);
        kept[2 * g + 1] = static_cast<float>(1 / std::sqrt(variance / static_cast<double>(size) + eps));
    }
}

// The coefficients of the kernels of one image, a number a lane.
struct Lanes {
    float *mean, *scale, *shift, *constant, *slope;

    Lanes(float* room, int64_t C)
        : mean(room), scale(mean + C), shift(scale + C), constant(shift + C), slope(constant + C) {}
    NormRows rows(int64_t count, int64_t C) const { return {count, C, mean, scale, shift, false}; }
};
constexpr int64_t kLanes = 5;

void statistics(const GroupNorm<float>& s, const Images& images) {
    const Layout& l = images.l;
    Scratch scratch;
    float* parts = scratch.floats(images.N * l.chunks * 3 * l.C);
    for_units(images, 1, [&](int64_t unit) {
        norm::chunk_statistics(
            {.parts = parts + unit / l.chunks * l.chunks * 3 * l.C, .x = s.x + images.at(unit), .i = unit % l.chunks},
            l);
    });
    parallel_for(s.N, grain_units(kGrainPlain, 8.0 * l.chunks * l.C), [&](int64_t begin, int64_t end) {
        std::vector<float> mean(s.C), variance(s.C);
        for (int64_t n = begin; n < end; ++n) {
            norm::merge_statistics(mean.data(), variance.data(), parts + n * l.chunks * 3 * l.C, l);
            merge_groups(s.kept + n * s.groups * 2, mean.data(), variance.data(), s.C, s.groups, s.eps);
        }
    });
}

void forward(const GroupNorm<float>& s) {
    const Images images{s.N, Layout(s.rows, s.C)};
    const int64_t C = images.l.C, size = s.C / s.groups;
    statistics(s, images);
    Scratch scratch;
    float* room = scratch.floats(s.N * kLanes * C);
    for (int64_t n = 0; n < s.N; ++n) {
        const Lanes k(room + n * kLanes * C, C);
        const float* kept = s.kept + n * s.groups * 2;
        for (int64_t lane = 0; lane < C; ++lane) {
            const int64_t c = lane % s.C;
            k.mean[lane] = kept[c / size * 2], k.scale[lane] = s.weight[c] * kept[c / size * 2 + 1];
            k.shift[lane] = s.bias[c];
        }
    }
    const bool stream = s.y != s.x && streams(s.y, s.N * s.rows * s.C, C);
    for_units(images, 2, [&](int64_t unit) {
        NormRows rows = Lanes(room + unit / images.l.chunks * kLanes * C, C).rows(images.rows_of(unit), C);
        rows.stream = stream;
        kernels().norm_apply(s.y + images.at(unit), s.x + images.at(unit), rows);
    });
}

// dweight and dbias, and the coefficients of dx of one image, from sums [chunks][g, g (x - mean)][C].
void merge_gradients(const GroupNormBackward<float>& b, const Lanes& k, const float* sums, const float* kept,
                     const Layout& l, double* dweight, double* dbias) {
    const int64_t size = b.C / b.groups;
    std::vector<double> g(2 * b.C, 0.0);
    for (int64_t i = 0; i < l.chunks; ++i)
        for (int64_t lane = 0; lane < l.C; ++lane) {
            g[lane % b.C] += sums[i * 2 * l.C + lane];
            g[b.C + lane % b.C] += sums[(i * 2 + 1) * l.C + lane];
        }
    for (int64_t c = 0; c < b.C; ++c) dbias[c] += g[c], dweight[c] += g[b.C + c] * kept[c / size * 2 + 1];
    std::vector<double> sum(b.groups, 0.0), deviation(b.groups, 0.0);
    for (int64_t c = 0; c < b.C; ++c)
        sum[c / size] += b.weight[c] * g[c], deviation[c / size] += b.weight[c] * g[b.C + c];
    const double count = static_cast<double>(b.rows * size);
    for (int64_t lane = 0; lane < l.C; ++lane) {
        const int64_t c = lane % b.C, group = c / size;
        const double inverse = kept[2 * group + 1];
        k.scale[lane] = static_cast<float>(b.weight[c] * inverse);
        k.constant[lane] = static_cast<float>(-inverse * sum[group] / count);
        k.slope[lane] = static_cast<float>(-inverse * inverse * inverse * deviation[group] / count);
    }
}

void backward(const GroupNormBackward<float>& b) {
    const Images images{b.N, Layout(b.rows, b.C)};
    const Layout& l = images.l;
    const int64_t C = l.C, size = b.C / b.groups;
    Scratch scratch;
    float *room = scratch.floats(b.N * kLanes * C), *sums = scratch.floats(b.N * l.chunks * 2 * C);
    for (int64_t n = 0; n < b.N; ++n) {
        const Lanes k(room + n * kLanes * C, C);
        for (int64_t lane = 0; lane < C; ++lane) {
            k.mean[lane] = b.kept[(n * b.groups + lane % b.C / size) * 2];
            k.scale[lane] = k.shift[lane] = 0;
        }
    }
    const auto lanes = [&](int64_t unit) { return Lanes(room + unit / l.chunks * kLanes * C, C); };
    for_units(images, 2, [&](int64_t unit) {
        const NormRows rows = lanes(unit).rows(images.rows_of(unit), C);
        kernels().norm_gradient_sums(sums + unit * 2 * C, b.dy + images.at(unit), b.x + images.at(unit), rows);
    });
    std::vector<double> dweight(b.C, 0.0), dbias(b.C, 0.0);
    for (int64_t n = 0; n < b.N; ++n)
        merge_gradients(b, Lanes(room + n * kLanes * C, C), sums + n * l.chunks * 2 * C, b.kept + n * b.groups * 2, l,
                        dweight.data(), dbias.data());
    for (int64_t c = 0; c < b.C; ++c)
        b.dweight[c] = static_cast<float>(dweight[c]), b.dbias[c] = static_cast<float>(dbias[c]);
    if (!b.dx) return;
    const bool stream = b.dx != b.dy && streams(b.dx, b.N * b.rows * b.C, C);
    for_units(images, 3, [&](int64_t unit) {
        const Lanes k = lanes(unit);
        NormRows rows = k.rows(images.rows_of(unit), C);
        rows.stream = stream;
        const int64_t at = images.at(unit);
        kernels().norm_gradient(
            {.dx = b.dx + at, .dy = b.dy + at, .x = b.x + at, .constant = k.constant, .slope = k.slope}, rows);
    });
}

// ---- float64: plain loops -------------------------------------------------------------------------------------------

// Calls body(at, c) for the elements of a group of an image.
template <class Shape, class Body>
void for_group(const Shape& s, int64_t n, int64_t group, Body&& body) {
    const int64_t size = s.C / s.groups;
    for (int64_t r = 0; r < s.rows; ++r)
        for (int64_t c = group * size; c < (group + 1) * size; ++c) body((n * s.rows + r) * s.C + c, c);
}

void forward(const GroupNorm<double>& s) {
    const double count = static_cast<double>(s.rows * (s.C / s.groups));
    for (int64_t n = 0; n < s.N; ++n)
        for (int64_t group = 0; group < s.groups; ++group) {
            double mean = 0, variance = 0;
            for_group(s, n, group, [&](int64_t at, int64_t) { mean += s.x[at] / count; });
            for_group(s, n, group, [&](int64_t at, int64_t) { variance += (s.x[at] - mean) * (s.x[at] - mean); });
            const double inverse = 1 / std::sqrt(variance / count + s.eps);
            for_group(s, n, group,
                      [&](int64_t at, int64_t c) { s.y[at] = (s.x[at] - mean) * inverse * s.weight[c] + s.bias[c]; });
            s.kept[(n * s.groups + group) * 2] = mean, s.kept[(n * s.groups + group) * 2 + 1] = inverse;
        }
}

void backward(const GroupNormBackward<double>& b) {
    const double count = static_cast<double>(b.rows * (b.C / b.groups));
    std::fill(b.dweight, b.dweight + b.C, 0.0), std::fill(b.dbias, b.dbias + b.C, 0.0);
    for (int64_t n = 0; n < b.N; ++n)
        for (int64_t group = 0; group < b.groups; ++group) {
            const double *kept = b.kept + (n * b.groups + group) * 2, mean = kept[0], inverse = kept[1];
            double sum = 0, product = 0;
            for_group(b, n, group, [&](int64_t at, int64_t c) {
                const double z = (b.x[at] - mean) * inverse;
                b.dbias[c] += b.dy[at], b.dweight[c] += b.dy[at] * z;
                sum += b.dy[at] * b.weight[c], product += b.dy[at] * b.weight[c] * z;
            });
            if (!b.dx) continue;
            for_group(b, n, group, [&](int64_t at, int64_t c) {
                const double z = (b.x[at] - mean) * inverse;
                b.dx[at] = (b.dy[at] * b.weight[c] - (sum + z * product) / count) * inverse;
            });
        }
}

}  // namespace

template <class T>
void group_norm(const GroupNorm<T>& s) {
    forward(s);
}
template <class T>
void group_norm_backward(const GroupNormBackward<T>& b) {
    backward(b);
}

template void group_norm(const GroupNorm<float>&);
template void group_norm(const GroupNorm<double>&);
template void group_norm_backward(const GroupNormBackward<float>&);
template void group_norm_backward(const GroupNormBackward<double>&);

}  // namespace pycnn
