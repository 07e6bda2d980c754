// Memory that outlives a call: packed weights, the arena of a compiled network.
#pragma once
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

namespace pycnn {

// Aligned to 64 bytes, not initialised; throws std::bad_alloc.
inline std::shared_ptr<float> aligned_floats(int64_t floats) {
    const std::size_t bytes = (static_cast<std::size_t>(floats) * sizeof(float) + 63) / 64 * 64;
    float* data = static_cast<float*>(std::aligned_alloc(64, bytes > 0 ? bytes : 64));
    if (!data) throw std::bad_alloc();
    return std::shared_ptr<float>(data, std::free);
}

}  // namespace pycnn
