// A batch of images, each distorted at random: shift, rotation, scale, shear, elastic deformation, crop, flip, erasing,
// brightness, contrast.
#pragma once
#include <cstdint>

#include "ops/training/gather.h"

namespace pycnn {

struct Augmentation {
    double shift;                         // pixels, along x and y: uniform in [-shift, shift]
    double rotation;                      // degrees, uniform in +-rotation; 0 .. 180
    double scale;                         // x and y grow by factors uniform in 1 +- scale; 0 <= scale < 1
    double shear;                         // x += k * y, k uniform in +-shear
    double elastic_alpha, elastic_sigma;  // pixels; alpha 0: none
    double erase;                         // probability of a rectangle of zeros
    int64_t crop;                         // along x and y moved by a whole number of pixels, -crop .. crop
    double flip;                          // probability that left and right change places
    double brightness;                    // pixels times a factor uniform in 1 +- brightness
    double contrast;                      // their difference from the image's mean times one in 1 +- contrast
    uint64_t seed, epoch;

    bool moves() const { return shift != 0 || rotation != 0 || scale != 0 || shear != 0 || elastic_alpha != 0; }
    bool recolours() const { return brightness != 0 || contrast != 0; }
};

struct ImageSize {
    int64_t H, W, C;
};

// y [count][H][W][C] = images[indices[i]], distorted, then normalised. What happens to an image depends on (seed, epoch,
// indices[i]) alone: the same bits for every order, thread count and instruction set. (H + 3) (W + 3) C is less than
// 2^31; mean and std hold C numbers each, or are null.
template <class T>
void augment_images(const ImageBatch<T>&, const ImageSize&, const Normalization&, const Augmentation&);

}  // namespace pycnn
