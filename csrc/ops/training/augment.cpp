// Augmentation, image by image: draw, look the pixels up at moved positions, change their values, erase.
//
// An image of the batch is out(p) = in(c + M (p - c - t) + d(p)): M turns back what rotation, shear, scale and flip did
// (out of R K S F, in that order from the left, about the centre c), t is shift and crop, d the elastic displacement.
// With crop and flip alone the pixels are copied.

#include "ops/training/augment.h"

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "ops/runtime/dispatch.h"
#include "ops/runtime/parallel.h"
#include "ops/runtime/scratch.h"
#include "ops/training/augment_draw.h"

namespace pycnn {
namespace {

// Where the pixel (x, y) of the result lies in the source: (x0 + xx * x + xy * y, y0 + yx * x + yy * y).
struct Affine {
    double x0, xx, xy, y0, yx, yy;
};

// By how many whole pixels the crop moves the image, and whether its mirror image is shown.
struct Place {
    int64_t right, down;
    bool mirrored;
};

Place draw_place(const Draws& draws, const Augmentation& a) {
    return {draws.whole(kCropX, a.crop), draws.whole(kCropY, a.crop), draws.share(kFlip) < a.flip};
}

Affine draw_affine(const Draws& draws, const Augmentation& a, const ImageSize& size) {
    const Place place = draw_place(draws, a);
    const double right = draws.spread(kShiftX, a.shift) + static_cast<double>(place.right);
    const double down = draws.spread(kShiftY, a.shift) + static_cast<double>(place.down);
    const double wider = 1.0 + draws.spread(kScaleX, a.scale), higher = 1.0 + draws.spread(kScaleY, a.scale);
    const double shear = draws.spread(kShear, a.shear);
    const Turn angle = turn(draws.spread(kRotation, a.rotation));
    Affine m;
    m.xx = (angle.cosine + shear * angle.sine) / wider;
    m.xy = (angle.sine - shear * angle.cosine) / wider;
    m.yx = -angle.sine / higher;
    m.yy = angle.cosine / higher;
    if (place.mirrored) m.xx = -m.xx, m.xy = -m.xy;
    const double cx = 0.5 * static_cast<double>(size.W - 1), cy = 0.5 * static_cast<double>(size.H - 1);
    m.x0 = cx - m.xx * (cx + right) - m.xy * (cy + down);
    m.y0 = cy - m.yx * (cx + right) - m.yy * (cy + down);
    return m;
}

// The weights exp(-k^2 / (2 sigma^2)), |k| <= radius = 3 sigma rounded up, divided by their sum; once for a batch.
struct Gaussian {
    int64_t radius = 0;
    const float* weights = nullptr;  // [2 radius + 1]
    const float* scaled = nullptr;   // the same times alpha

    Gaussian(float* room, int64_t r, double sigma, double alpha) : radius(r), weights(room), scaled(room + 2 * r + 1) {
        const auto weight = [&](int64_t k) {
            const double z = static_cast<double>(k) / sigma;
            return k == 0 ? 1.0 : exp_of_minus(0.5 * z * z);
        };
        double sum = 0.0;
        for (int64_t k = -r; k <= r; ++k) sum += weight(k);
        for (int64_t k = -r; k <= r; ++k) {
            room[r + k] = static_cast<float>(weight(k) / sum);
            room[2 * r + 1 + r + k] = static_cast<float>(alpha * weight(k) / sum);
        }
    }
};

constexpr int64_t rounded_up(int64_t n) { return (n + 15) / 16 * 16; }

// The displacements [2][H][W rounded up] of one image: noise uniform in [-1, 1), zero outside, smoothed by columns,
// then by rows, in scratch memory.
const float* draw_displacement(Scratch& scratch, const Draws& draws, const Gaussian& gaussian, const ImageSize& size) {
    const int64_t H = size.H, W = size.W, columns = rounded_up(W);
    const int64_t r = gaussian.radius, reach = std::min(r, W - 1), wide = columns + 2 * reach;
    float* moves = scratch.floats((4 * columns + wide) * H);
    float* noise = moves + 2 * columns * H;  // [2][H][columns]
    float* half = noise + 2 * columns * H;   // [H][wide]: one field, smoothed by columns, between zeros
    std::fill(noise, noise + 2 * columns * H + wide * H, 0.0f);
    for (int64_t i = 0; i < H; ++i)
        for (int64_t j = 0; j < W; ++j) {
            const uint64_t bits = draws.bits(kNoise + static_cast<uint64_t>(i * W + j));
            noise[i * columns + j] = static_cast<float>(static_cast<int32_t>(bits >> 40)) * 0x1p-23f - 1.0f;
            noise[(H + i) * columns + j] =
                static_cast<float>(static_cast<int32_t>(bits >> 16 & 0xffffff)) * 0x1p-23f - 1.0f;
        }
    for (int64_t field = 0; field < 2; ++field) {
        for (int64_t i = 0; i < H; ++i) {
            const int64_t first = std::max<int64_t>(i - r, 0), last = std::min(i + r, H - 1);
            kernels().smooth_row({.y = half + i * wide + reach,
                                  .x = noise + (field * H + first) * columns,
                                  .step = columns,
                                  .weights = gaussian.weights + (first - i + r),
                                  .taps = last - first + 1,
                                  .size = columns});
        }
        for (int64_t i = 0; i < H; ++i)
            kernels().smooth_row({.y = moves + (field * H + i) * columns,
                                  .x = half + i * wide,
                                  .step = 1,
                                  .weights = gaussian.scaled + (r - reach),
                                  .taps = 2 * reach + 1,
                                  .size = columns});
    }
    return moves;
}

// The image [H + 3][W + 3][C] with its frame of zeros, pixels times scale, in scratch memory.
template <class T>
const float* framed(Scratch& scratch, const T* image, const ImageSize& size, float scale) {
    const int64_t H = size.H, line = size.W * size.C, row = (size.W + 3) * size.C;
    float* room = scratch.floats((H + 3) * row);
    const PixelMap map{scale, nullptr, nullptr, 0};
    std::fill(room, room + row + size.C, 0.0f);
    for (int64_t i = 0; i < H; ++i) {
        float* to = room + (i + 1) * row + size.C;
        map_pixels(to, image + i * line, map, line);
        std::fill(to + line, to + row, 0.0f);  // two pixels behind the row and the one before the next
    }
    std::fill(room + (H + 1) * row, room + (H + 3) * row, 0.0f);
    return room;
}

template <class T>
void move_image(float* y, const T* image, const ImageSize& size, const Normalization& normalization, const Affine& m,
                const float* moves) {
    const int64_t columns = rounded_up(size.W);
    Scratch scratch;
    SampleRow row{};
    row.source = framed(scratch, image, size, normalization.scale);
    row.H = size.H, row.W = row.columns = size.W, row.C = size.C;
    row.mean = normalization.mean, row.std = normalization.std;
    row.dx = static_cast<float>(m.xx), row.dy = static_cast<float>(m.yx);
    for (int64_t i = 0; i < size.H; ++i) {
        row.out = y + i * size.W * size.C;
        row.x = static_cast<float>(m.x0 + m.xy * static_cast<double>(i) + 1.0);
        row.y = static_cast<float>(m.y0 + m.yy * static_cast<double>(i) + 1.0);
        if (moves) row.move_x = moves + i * columns, row.move_y = moves + (size.H + i) * columns;
        kernels().sample_row(row);
    }
}

// Pixels of zeros, normalised.
void blank(float* y, int64_t pixels, const ImageSize& size, const Normalization& n) {
    if (!n.mean) {
        std::fill(y, y + pixels * size.C, 0.0f);
        return;
    }
    for (int64_t i = 0; i < pixels; ++i)
        for (int64_t c = 0; c < size.C; ++c) y[i * size.C + c] = (0.0f - n.mean[c]) / n.std[c];
}

// Crop and flip: y(x) = image(x - right), or of the mirror image; blank where that is outside.
template <class T>
void place_image(float* y, const T* image, const ImageSize& size, const Normalization& normalization,
                 const PixelMap& map, const Place& place) {
    const int64_t H = size.H, W = size.W, C = size.C;
    const int64_t first = std::clamp<int64_t>(place.right, 0, W), last = std::clamp<int64_t>(W + place.right, 0, W);
    const int64_t begin = place.mirrored ? W - last + place.right : first - place.right;  // of the columns that show
    for (int64_t i = 0; i < H; ++i, y += W * C) {
        const int64_t from = i - place.down;
        if (from < 0 || from >= H || first >= last) {
            blank(y, W, size, normalization);
            continue;
        }
        blank(y, first, size, normalization);
        map_pixels(y + first * C, image + (from * W + begin) * C, map, (last - first) * C);
        blank(y + last * C, W - last, size, normalization);
        if (!place.mirrored) continue;
        for (int64_t left = first, right = last - 1; left < right; ++left, --right)
            std::swap_ranges(y + left * C, y + (left + 1) * C, y + right * C);
    }
}

// The mean of all numbers of an image, in four sums that do not wait for each other.
template <class T>
double mean_of(const T* image, int64_t numbers) {
    std::conditional_t<std::is_same_v<T, float>, double, uint64_t> sums[4] = {};
    for (int64_t i = 0; i < numbers; ++i) sums[i % 4] += image[i];
    return static_cast<double>((sums[0] + sums[1]) + (sums[2] + sums[3])) / static_cast<double>(numbers);
}

// v becomes m + contrast (brightness v - m), m the mean of the image after brightness: gain v + more. What is there is
// (v - mean) / std already.
template <class T>
void change_values(float* y, const T* image, const ImageSize& size, const Normalization& n, const Draws& draws,
                   const Augmentation& a) {
    const int64_t numbers = size.H * size.W * size.C;
    const double brightness = 1.0 + draws.spread(kBrightness, a.brightness);
    const double contrast = 1.0 + draws.spread(kContrast, a.contrast), gain = contrast * brightness;
    const double m = a.contrast != 0 ? brightness * mean_of(image, numbers) * static_cast<double>(n.scale) : 0.0;
    const double more = (1.0 - contrast) * m;
    for (int64_t c = 0; c < size.C; ++c) {
        const double mean = n.mean ? n.mean[c] : 0.0, std = n.std ? n.std[c] : 1.0;
        const float factor = static_cast<float>(gain), offset = static_cast<float>(((gain - 1.0) * mean + more) / std);
        for (int64_t i = c; i < numbers; i += size.C) y[i] = y[i] * factor + offset;
    }
}

// Zhong et al. 2017, algorithm 1, cut to the image where theirs draws again: 2 to 33 % of the area, height / width
// uniform in 0.3 .. 1 / 0.3.
void erase_rectangle(float* y, const Draws& draws, double probability, const ImageSize& size,
                     const Normalization& normalization) {
    if (!(draws.share(kErase) < probability)) return;
    const double H = static_cast<double>(size.H), W = static_cast<double>(size.W);
    const double area = (0.02 + 0.31 * draws.share(kEraseArea)) * H * W;
    const double ratio = 0.3 + (1.0 / 0.3 - 0.3) * draws.share(kEraseRatio);
    const double high = std::clamp(std::floor(std::sqrt(area * ratio) + 0.5), 1.0, H);
    const double wide = std::clamp(std::floor(std::sqrt(area / ratio) + 0.5), 1.0, W);
    const int64_t top = static_cast<int64_t>(draws.share(kEraseTop) * (H - high + 1.0));
    const int64_t left = static_cast<int64_t>(draws.share(kEraseLeft) * (W - wide + 1.0));
    for (int64_t i = top; i < top + static_cast<int64_t>(high); ++i)
        blank(y + (i * size.W + left) * size.C, static_cast<int64_t>(wide), size, normalization);
}

}  // namespace

template <class T>
void augment_images(const ImageBatch<T>& batch, const ImageSize& size, const Normalization& normalization,
                    const Augmentation& a) {
    const int64_t pixels = size.H * size.W, numbers = pixels * size.C;
    const bool elastic = a.elastic_alpha != 0;
    Scratch scratch;
    const PixelMap map = pixel_map(scratch, normalization);
    const int64_t radius = elastic ? static_cast<int64_t>(std::ceil(3.0 * a.elastic_sigma)) : 0;
    const Gaussian gaussian(scratch.floats(4 * radius + 2), radius, a.elastic_sigma, a.elastic_alpha);
    // Measured (Zen 4, 28x28x1): 2.2 microseconds an image that is moved, 4.4 more for elastic with 25 taps, 0.3 to 0.6
    // for one that is not; a step of kGrainPlain is 0.35 ns.
    const double steps = static_cast<double>(numbers) * ((a.moves() ? 6.0 : 2.0) + (a.recolours() ? 2.0 : 0.0)) +
                         static_cast<double>(pixels) * (a.moves() ? 2.0 : 0.0) +
                         static_cast<double>(pixels) * (elastic ? 6.0 + 0.4 * (2.0 * radius + 1.0) : 0.0);
    parallel_for(batch.count, grain_units(kGrainPlain, steps), [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
            Scratch of_image;
            const T* image = batch.images + batch.indices[i] * numbers;
            float* result = batch.y + i * numbers;
            const Draws draws(a.seed, a.epoch, static_cast<uint64_t>(batch.indices[i]));
            if (a.moves()) {
                const float* moves = elastic ? draw_displacement(of_image, draws, gaussian, size) : nullptr;
                move_image(result, image, size, normalization, draw_affine(draws, a, size), moves);
            } else {
                place_image(result, image, size, normalization, map, draw_place(draws, a));
            }
            if (a.recolours()) change_values(result, image, size, normalization, draws, a);
            erase_rectangle(result, draws, a.erase, size, normalization);
        }
    });
}

template void augment_images(const ImageBatch<uint8_t>&, const ImageSize&, const Normalization&, const Augmentation&);
template void augment_images(const ImageBatch<float>&, const ImageSize&, const Normalization&, const Augmentation&);

}  // namespace pycnn
