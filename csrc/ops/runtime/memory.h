// Memory that outlives a call: packed weights, the arena of a compiled network.
#pragma once
#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

namespace pycnn {

// Aligned to 64 bytes, not initialised; throws std::bad_alloc. Large ones come from the system itself, so that it has them
// back when they are freed, in pages of 2 MB: 160 MB were read at 25.0 instead of 18.4 GB/s by one thread, 27.8 instead of
// 25.4 by two (Zen 4).
inline std::shared_ptr<float> aligned_floats(int64_t floats) {
    constexpr std::size_t kLine = 64, kHuge = std::size_t{1} << 21;
    std::size_t bytes = static_cast<std::size_t>(floats) * sizeof(float);
    if (bytes < 2 * kHuge) {
        float* data = static_cast<float*>(std::aligned_alloc(kLine, (bytes / kLine + 1) * kLine));
        if (!data) throw std::bad_alloc();
        return {data, std::free};
    }
    bytes = (bytes / kHuge + 2) * kHuge;  // room to begin at a page of 2 MB
    void* room = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (room == MAP_FAILED) throw std::bad_alloc();
    madvise(room, bytes, MADV_HUGEPAGE);
    const std::uintptr_t first = (reinterpret_cast<std::uintptr_t>(room) + kHuge - 1) / kHuge * kHuge;
    return {reinterpret_cast<float*>(first), [room, bytes](float*) { munmap(room, bytes); }};
}

}  // namespace pycnn
