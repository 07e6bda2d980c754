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
// its memory for ever (208 MB after conv2d_relu_backward of 16x224x224x64). The transformed weights of 512 x 512 channels
// are 37.7 MB. Called when an operator has returned.
constexpr int64_t kKeptFloats = 9600000;  // 38.4 MB

// Frees the smallest buffer that suffices; where none does, the largest, and on.
inline void give_back_scratch(int64_t kept = kKeptFloats) {
    ScratchBuffer* const buffers = scratch_buffers();
    ScratchBuffer* const end = buffers + static_cast<int>(Scratch::count);
    int64_t total = 0;
    for (const ScratchBuffer* b = buffers; b < end; ++b) total += b->size;
    while (total > kept) {
        ScratchBuffer* best = buffers;
        for (ScratchBuffer* b = buffers + 1; b < end; ++b) {
            const bool suffices = total - b->size <= kept, best_suffices = total - best->size <= kept;
            if (suffices && best_suffices ? b->size < best->size : b->size > best->size) best = b;
        }
        total -= best->size;
        *best = {};
    }
}

}  // namespace pycnn
