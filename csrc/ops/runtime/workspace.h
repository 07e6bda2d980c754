// Scratch memory that is kept and reused: every thread has its own, so no two callers ever share a buffer and no lock
// is needed. Contents last until the same thread asks for the same buffer again.
#pragma once
#include <cstdint>
#include <memory>

#include "ops/runtime/memory.h"

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

struct ScratchBuffer {
    std::shared_ptr<float> data;
    int64_t size = 0;
};
inline ScratchBuffer* scratch_buffers() {
    static thread_local ScratchBuffer buffers[static_cast<int>(Scratch::count)];
    return buffers;
}

// The buffer `which` of this thread, at least `floats` long, 64-byte aligned; throws std::bad_alloc.
inline float* scratch(Scratch which, int64_t floats) {
    ScratchBuffer& b = scratch_buffers()[static_cast<int>(which)];
    if (floats > b.size) {
        b = {};
        b = {aligned_floats(floats), floats};
    }
    return b.data.get();
}

// What a thread keeps between calls: steps of small networks find all of theirs again, and one large call does not hold
// its memory for ever (208 MB after conv2d_relu_backward of 16x224x224x64). Called when an operator has returned.
constexpr int64_t kKeptFloats = int64_t{1} << 23;  // 32 MB

inline void give_back_scratch(int64_t kept = kKeptFloats) {
    int64_t total = 0;
    ScratchBuffer* buffers = scratch_buffers();
    for (int i = 0; i < static_cast<int>(Scratch::count); ++i) total += buffers[i].size;
    while (total > kept) {  // the largest first
        ScratchBuffer* largest = buffers;
        for (int i = 1; i < static_cast<int>(Scratch::count); ++i)
            if (buffers[i].size > largest->size) largest = buffers + i;
        total -= largest->size;
        *largest = {};
    }
}

}  // namespace pycnn
