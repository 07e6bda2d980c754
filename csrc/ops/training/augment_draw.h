// What augmentation draws for one image, and the functions it needs. No libm: its last bits differ from one machine to
// the next, and these numbers must not.
#pragma once
#include <cmath>
#include <cstdint>

namespace pycnn {

// The numbered random numbers of one image: splitmix64 (Steele, Lea & Flood 2014), started at a hash of the three.
class Draws {
  public:
    Draws(uint64_t seed, uint64_t epoch, uint64_t index) : key_(mix(mix(mix(seed + kStep) + epoch) + index)) {}
    uint64_t bits(uint64_t number) const { return mix(key_ + (number + 1) * kStep); }
    double share(uint64_t number) const { return static_cast<double>(bits(number) >> 11) * 0x1p-53; }  // [0, 1)
    double spread(uint64_t number, double most) const { return (2.0 * share(number) - 1.0) * most; }   // [-most, most)
    int64_t whole(uint64_t number, int64_t most) const {                                               // -most .. most
        return static_cast<int64_t>(share(number) * static_cast<double>(2 * most + 1)) - most;
    }

  private:
    static constexpr uint64_t kStep = 0x9e3779b97f4a7c15;
    static uint64_t mix(uint64_t z) {
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
        z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
        return z ^ (z >> 31);
    }
    uint64_t key_;
};

// Which number is drawn for what. One option never changes the numbers of another.
enum Draw : uint64_t {
    kShiftX,
    kShiftY,
    kRotation,
    kScaleX,
    kScaleY,
    kShear,
    kErase,
    kEraseArea,
    kEraseRatio,
    kEraseTop,
    kEraseLeft,
    kCropX,
    kCropY,
    kFlip,
    kBrightness,
    kContrast,
    kNoise = 16  // + the pixel's number
};

// Sine and cosine of degrees in -180 .. 180, to some 1e-15: Taylor's series after turning by whole quarters.
struct Turn {
    double sine, cosine;
};
inline Turn turn(double degrees) {
    const double quarters = std::floor(degrees / 90.0 + 0.5);
    const double a = (degrees - quarters * 90.0) * 0.017453292519943295, a2 = a * a;  // within pi / 4
    double sine = 1.0, cosine = 1.0;
    for (int n = 20; n >= 2; n -= 2) {  // from the last term on: 1 - a2 / (1 * 2) * (1 - a2 / (3 * 4) * ..)
        cosine = 1.0 - a2 / (n * (n - 1)) * cosine;
        sine = 1.0 - a2 / (n * (n + 1)) * sine;
    }
    sine *= a;
    switch (static_cast<int>(quarters) & 3) {
        case 0:
            return {sine, cosine};
        case 1:
            return {cosine, -sine};
        case 2:
            return {-sine, -cosine};
        default:
            return {-cosine, sine};
    }
}

// exp(-x) for x >= 0, to some 1e-12: the series of exp(-x / 1024), squared ten times.
inline double exp_of_minus(double x) {
    if (!(x < 700.0)) return 0.0;
    const double small = x / 1024.0;  // below 0.7
    double e = 1.0;
    for (int n = 16; n >= 1; --n) e = 1.0 - small / n * e;
    for (int i = 0; i < 10; ++i) e *= e;
    return e;
}

}  // namespace pycnn
