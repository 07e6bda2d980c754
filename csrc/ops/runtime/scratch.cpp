#include "ops/runtime/scratch.h"

#include <algorithm>
#include <cassert>
#include <vector>

#include "ops/runtime/memory.h"

namespace pycnn {

// Blocks in the order in which they are filled. A call that finds its block too small takes another one, since what is
// handed out must not move; at its end one block of the whole replaces them, so the next such call needs one.
class ScratchArena {
  public:
    struct Block {
        std::shared_ptr<float> data;
        int64_t size;
    };

    std::vector<Block> blocks;
    Scratch::Top top{0, 0, 0};
    int64_t most = 0, next = 0, total = 0;  // taken at once in this call; size of the next block at least; all blocks
    int depth = 0;

    static ScratchArena& of_this_thread() {
        static thread_local ScratchArena arena;
        return arena;
    }

    float* take(int64_t n) {
        while (top.block < blocks.size() && n > blocks[top.block].size - top.used) ++top.block, top.used = 0;
        if (top.block == blocks.size()) {
            const int64_t size = std::max(n, next);
            blocks.push_back({aligned_floats(size), size});
            total += size, next = 0;
        }
        float* const at = blocks[top.block].data.get() + top.used;
        top.used += n, top.taken += n;
        most = std::max(most, top.taken);
        return at;
    }

    void end_of_call() {
        if (blocks.size() > 1 && most <= kKeptFloats) {
            next = most;
            free_all();
        }
        while (total > kKeptFloats) free_one();
        most = 0;
    }

    void free_all() {
        blocks.clear();
        total = 0;
    }

    // The smallest block that suffices; where none does, the largest.
    void free_one() {
        const auto better = [this](const Block& a, const Block& b) {
            const bool suffices = total - a.size <= kKeptFloats, other = total - b.size <= kKeptFloats;
            return suffices && other ? a.size < b.size : a.size > b.size;
        };
        const auto best = std::min_element(blocks.begin(), blocks.end(), better);
        total -= best->size;
        blocks.erase(best);
    }
};

Scratch::Scratch() : arena_(ScratchArena::of_this_thread()), before_(arena_.top) { ++arena_.depth; }

Scratch::~Scratch() {
    arena_.top = before_;
    if (--arena_.depth == 0) arena_.end_of_call();
}

float* Scratch::floats(int64_t n) {
    constexpr int64_t kLine = 16;
    assert(&arena_ == &ScratchArena::of_this_thread());
    return arena_.take((n + kLine - 1) / kLine * kLine);
}

void give_back_scratch() { ScratchArena::of_this_thread().free_all(); }

}  // namespace pycnn
