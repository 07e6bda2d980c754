// Scratch memory that is kept and reused: every thread has its own, so no two callers ever share a buffer and no lock
// is needed. Contents last until the same thread asks for the same buffer again.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>

namespace pycnn {

enum class Scratch {
    packed_a,
    packed_b,
    weights,
    products,
    padded,
    edge,
    slots,
    columns,
    rows,
    block,
    block_slots,
    winograd_u,
    winograd_v,
    winograd_m,
    map,
    pixel_map,
    image,
    displacement,
    count
};

// The buffer `which` of this thread, at least `floats` long, 64-byte aligned; throws std::bad_alloc.
inline float* scratch(Scratch which, int64_t floats) {
    struct Buffer {
        float* data = nullptr;
        int64_t size = 0;
        ~Buffer() { std::free(data); }
    };
    static thread_local Buffer buffers[static_cast<int>(Scratch::count)];
    Buffer& b = buffers[static_cast<int>(which)];
    if (floats > b.size) {
        std::free(b.data);
        b.size = 0;
        const std::size_t bytes = (static_cast<std::size_t>(floats) * sizeof(float) + 63) / 64 * 64;
        b.data = static_cast<float*>(std::aligned_alloc(64, bytes));
        if (!b.data) throw std::bad_alloc();
        b.size = floats;
    }
    return b.data;
}

}  // namespace pycnn
