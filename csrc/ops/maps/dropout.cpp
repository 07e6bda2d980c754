// Dropout: the keys of the mask, and ranges for the threads. The hash itself stands in kernels/dropout.cpp.

#include "ops/maps/dropout.h"

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "ops/runtime/dispatch.h"
#include "ops/runtime/parallel.h"

namespace pycnn {
namespace {

// The finaliser of splitmix64 (Steele, Lea & Flood 2014).
uint64_t mixed(uint64_t z) {
    z += 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

// float64: the same draws, the kernel's mask of pieces of ones. `piece` has all but y, x and size.
void range(double* y, const double* x, int64_t size, Dropout piece, double scale) {
    constexpr int64_t kPiece = 256;
    float ones[kPiece], kept[kPiece];
    std::fill(ones, ones + kPiece, 1.0f);
    piece.y = kept, piece.x = ones;
    for (int64_t at = 0; at < size; at += kPiece, piece.first += static_cast<uint32_t>(kPiece)) {
        piece.size = std::min(kPiece, size - at);
        kernels().dropout(piece);
        for (int64_t i = 0; i < piece.size; ++i) y[at + i] = x[at + i] * (kept[i] * scale);
    }
}

}  // namespace

template <class T>
void dropout(const DropoutForward<T>& s) {
    constexpr int64_t kBlock = int64_t{1} << 32;  // the kernel counts 32 bits
    const double scale = 1.0 / (1.0 - s.p);
    const uint32_t least = static_cast<uint32_t>(std::ceil(s.p * 16777216.0));  // of 2^24; exact
    const uint64_t key = mixed(mixed(s.seed) ^ s.calls);
    parallel_for(s.size, grain_units(kGrainBytes, 4.0 * sizeof(T)), [&](int64_t begin, int64_t end) {
        for (int64_t at = begin; at < end;) {
            const int64_t next = std::min(end, (at / kBlock + 1) * kBlock);
            const uint64_t keys = at < kBlock ? key : mixed(key ^ static_cast<uint64_t>(at / kBlock));
            Dropout call{.y = nullptr,
                         .x = nullptr,
                         .size = next - at,
                         .first = static_cast<uint32_t>(at % kBlock),
                         .key0 = static_cast<uint32_t>(keys),
                         .key1 = static_cast<uint32_t>(keys >> 32),
                         .least = least,
                         .scale = 1.0f};
            if constexpr (std::is_same_v<T, float>) {
                call.y = s.y + at, call.x = s.x + at, call.scale = static_cast<float>(scale);
                kernels().dropout(call);
            } else {
                range(s.y + at, s.x + at, next - at, call, scale);
            }
            at = next;
        }
    });
}

template void dropout(const DropoutForward<float>&);
template void dropout(const DropoutForward<double>&);

}  // namespace pycnn
