// Chooses the algorithm of a convolution and calls it.

#include "conv2d.h"

namespace pycnn {

// The rules of `auto`. They depend on the shape alone, so every machine and thread count takes the same way.
Choice choose(const Conv2dShape& s, Direction) {
    if (s.groups > 1 && (s.group_OC() < 8 || s.group_C() < 8))
        return {Algorithm::naive, "groups of fewer than 8 channels leave most of a 16-float vector empty"};
    if (s.C == 1)
        return {Algorithm::direct,
                "one input channel: all taps in one short loop over a padded image, no buffer of patches"};
    return {Algorithm::direct, "patches are read in place from a padded image, so no im2col buffer is written"};
}

static Algorithm resolve(Algorithm wanted, const Conv2dShape& s, Direction direction) {
    return wanted == Algorithm::automatic ? choose(s, direction).algorithm : wanted;
}

void conv2d_forward(float* y, const float* x, const float* weight, const Conv2dShape& s, Algorithm algorithm,
                    const Epilogue& epilogue) {
    switch (resolve(algorithm, s, Direction::forward)) {
        case Algorithm::naive:
            return naive::forward(y, x, weight, epilogue.bias, epilogue.relu, s);
        case Algorithm::im2col:
            return im2col::forward(y, x, weight, s, epilogue);
        case Algorithm::winograd:
            return winograd::forward(y, x, weight, s, epilogue);
        default:
            return direct::forward(y, x, weight, s, epilogue);
    }
}

void conv2d_backward_input(float* dx, const float* dy, const float* weight, const Conv2dShape& s, Algorithm algorithm) {
    switch (resolve(algorithm, s, Direction::backward_input)) {
        case Algorithm::naive:
            return naive::backward_input(dx, dy, weight, s);
        case Algorithm::im2col:
            return im2col::backward_input(dx, dy, weight, s);
        case Algorithm::winograd:
            return winograd::backward_input(dx, dy, weight, s);
        default:
            return direct::backward_input(dx, dy, weight, s);
    }
}

void conv2d_backward_weight(float* dweight, const float* x, const float* dy, const Conv2dShape& s,
                            Algorithm algorithm) {
    switch (resolve(algorithm, s, Direction::backward_weight)) {
        case Algorithm::naive:
            return naive::backward_weight(dweight, x, dy, s);
        case Algorithm::im2col:
            return im2col::backward_weight(dweight, x, dy, s);
        case Algorithm::winograd:
            return winograd::backward_weight(dweight, x, dy, s);
        default:
            return direct::backward_weight(dweight, x, dy, s);
    }
}

}  // namespace pycnn
