// parallel_for: the only way to more than one thread.
#pragma once
#include <cmath>
#include <cstdint>
#include <type_traits>

namespace pycnn {

using RangeBody = void (*)(void* context, int64_t begin, int64_t end);
void parallel_ranges(int64_t n, int64_t grain, RangeBody body, void* context);

// Calls body(begin, end) on disjoint ranges that cover 0 .. n, one range a thread, each of at least `grain` units (so a
// small n stays on this thread). What a range computes must not depend on where it begins or ends: that is what makes
// the bits the same for every thread count. Rethrows the first exception of a body.
template <class Body>
void parallel_for(int64_t n, int64_t grain, Body&& body) {
    parallel_ranges(
        n, grain,
        [](void* context, int64_t begin, int64_t end) {
            (*static_cast<std::remove_reference_t<Body>*>(context))(begin, end);
        },
        const_cast<void*>(static_cast<const void*>(&body)));
}

// The most threads that had a range in one region of this thread since the last call; 1 if none. For tests.
int take_team_size();
bool has_openmp();

// Whether a region whose other threads came late makes its caller work alone for a while (Note [Yielding] in
// parallel.cpp). Off until Python has found that the wait policy is not the user's (Note [Waiting] in pycnn/_runtime/waiting.py).
void set_yielding(bool on);
bool yielding();

// Work that a thread of a region must have: some 35 microseconds, so that two threads run from 70 on. Measured with two
// threads against one (AMD EPYC, Zen 4, GCC 12 libgomp, median of 60 calls after a gap of 100 microseconds, so that the
// other thread slept and its wake-up, 28 microseconds, counts; microseconds on one thread -> two):
//
//   kGrainFlop   conv 3x3 16->16, one image 32x32 (4.7 MFLOP) 61 -> 76, 48x48 (10.6) 119 -> 105
//                matmul [1024, 64] x [64, 64] (8.4) 86 -> 81; 128^3 (4.2) 45 -> 71, 192^3 (14.2) 138 -> 135
//   kGrainBytes  relu 2.6 MB 33 -> 48, 5.1 MB 64 -> 66; sum_rows 3.3 MB 46 -> 56, 6.6 MB 88 -> 78
//                max pool (6 x 4 bytes an output) 1.6 MB 41 -> 49, 3.5 MB 85 -> 78
//   kGrainPlain  float64 matmul 131 k 41 -> 50, 262 k 80 -> 69
//
// Back to back, while the other thread still spins, a region pays from 6 to 9 microseconds on; a program cannot count
// on that, and above 70 the difference is small: kAwakeShare.
constexpr int64_t kGrainFlop = 5000000;   // arithmetic in the vector kernels, near the FMA peak
constexpr int64_t kGrainBytes = 2500000;  // elementwise passes, read plus written
constexpr int64_t kGrainPlain = 100000;   // steps of the plain loops (naive, float64), numbers of softmax

// With threads that are awake a region pays from this part of the grain on (Note [Awake] in parallel.cpp): from some 7
// microseconds on one thread. A region then costs 0.5 to 1.2. Parts of 4, 10 and 20, two threads, minima, microseconds
// (Zen 4; one thread in brackets): the lecture's network, one image, 41.2, 38.5 (parts of 12) and 38.5 (60.0); two
// convolutions of 14x14x32, one image, 31.0, 20.0 (12) and 20.2 (31.5); relu of 100,000 9.7, 6.2 and 6.4 (9.8); a
// product of 96^3 20.1, 16.8 and 16.2 (20.1), in the median 20.3, 20.4 and 32.4.
constexpr int64_t kAwakeShare = 10;

// Units a thread needs, where one unit costs `each` and a region pays from `grain` on. Rounded up: rounded down, the
// convolutions of the lecture's network at batch 1 (7.2 MFLOP in 2 and 4 units) ran on two threads, and a prediction
// took 256 to 262 microseconds instead of 250.
inline int64_t grain_units(int64_t grain, double each) {
    return each >= static_cast<double>(grain)
               ? 1
               : static_cast<int64_t>(std::ceil(static_cast<double>(grain) / (each < 1 ? 1 : each)));
}

}  // namespace pycnn
