// The gather of images, in ranges of images.

#include "ops/training/gather.h"

#include <numeric>

#include "ops/runtime/dispatch.h"
#include "ops/runtime/parallel.h"
#include "ops/runtime/scratch.h"

namespace pycnn {

PixelMap pixel_map(Scratch& scratch, const Normalization& n) {
    if (!n.mean) return {n.scale, nullptr, nullptr, 0};
    const int64_t period = std::lcm(n.C, int64_t{16});
    float* mean = scratch.floats(2 * period);
    float* std = mean + period;
    for (int64_t i = 0; i < period; ++i) mean[i] = n.mean[i % n.C], std[i] = n.std[i % n.C];
    return {n.scale, mean, std, period};
}

void map_pixels(float* y, const uint8_t* x, const PixelMap& map, int64_t size) {
    if (map.mean) return kernels().map_bytes(y, x, map, size);
    kernels().scale_bytes(y, x, map.scale, size);
}
void map_pixels(float* y, const float* x, const PixelMap& map, int64_t size) { kernels().map_floats(y, x, map, size); }

template <class T>
void gather_images(const ImageBatch<T>& batch, int64_t size, const Normalization& normalization) {
    Scratch scratch;
    const PixelMap map = pixel_map(scratch, normalization);
    const double bytes = static_cast<double>(size) * (sizeof(T) + sizeof(float));
    parallel_for(batch.count, grain_units(kGrainBytes, bytes), [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i)
            map_pixels(batch.y + i * size, batch.images + batch.indices[i] * size, map, size);
    });
}

template void gather_images(const ImageBatch<uint8_t>&, int64_t, const Normalization&);
template void gather_images(const ImageBatch<float>&, int64_t, const Normalization&);

}  // namespace pycnn
