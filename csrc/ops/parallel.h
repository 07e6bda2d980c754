// parallel_for: the only way to more than one thread.
#pragma once
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

// The largest team that a region of this thread had since the last call; 1 if none. For tests.
int take_team_size();
bool has_openmp();

// Whether a region whose other threads came late makes its caller work alone for a while (Note [Yielding] in
// parallel.cpp). Off until Python has found that the wait policy is not pycnn's own (Note [Waiting] in _waiting.py).
void set_yielding(bool on);
bool yielding();

// Work that pays for a region. First guesses, not measured kernel by kernel yet: some 10 microseconds on one thread.
constexpr int64_t kGrainFlop = 1000000;  // arithmetic in the vector kernels, near the FMA peak
constexpr int64_t kGrainBytes = 200000;  // elementwise passes, read plus written
constexpr int64_t kGrainPlain = 20000;   // steps of the plain loops (naive, float64)

// Units a thread needs, where one unit costs `each` and a region pays from `grain` on.
inline int64_t grain_units(int64_t grain, double each) {
    return each >= static_cast<double>(grain)
               ? 1
               : static_cast<int64_t>(static_cast<double>(grain) / (each < 1 ? 1 : each));
}

}  // namespace pycnn
