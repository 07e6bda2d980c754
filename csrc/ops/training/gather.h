// A batch of images as float32: picked by index, scaled and normalised in one pass.
#pragma once
#include <cstdint>

#include "kernels/kernels.h"
#include "ops/runtime/scratch.h"

namespace pycnn {

// (pixel * scale - mean) / std; mean and std [C], or null: neither is applied.
struct Normalization {
    float scale;
    const float *mean, *std;
    int64_t C;
};

// The same as the kernels want it: mean and std repeated up to a multiple of 16, in scratch memory of the
// caller, which the threads of a region may read.
PixelMap pixel_map(Scratch&, const Normalization&);

// y [size] = the pixels x, mapped.
void map_pixels(float* y, const uint8_t* x, const PixelMap&, int64_t size);
void map_pixels(float* y, const float* x, const PixelMap&, int64_t size);

template <class T>
struct ImageBatch {  // image i of y is made of images[indices[i]]; T: uint8_t or float
    float* y;
    const T* images;
    const int64_t* indices;  // [count]; every index lies in the images
    int64_t count;
};

// y [count][size] = images[indices[i]], mapped.
template <class T>
void gather_images(const ImageBatch<T>&, int64_t size, const Normalization&);

}  // namespace pycnn
