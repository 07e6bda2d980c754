// Scratch memory in frames, as on a stack: what a function takes is free again when its frame ends.
//
//   Scratch scratch;
//   float* packed = scratch.floats(K * NR);
//
// Every thread has an arena of its own, so no two callers share memory and no lock is needed. A function that hands on
// scratch memory takes the frame of its caller. Frames end in reverse order, so they stand on the stack only; a thread of
// a region has frames of its own.
#pragma once
#include <cstdint>
#include <memory>

namespace pycnn {

class ScratchArena;

class Scratch {
  public:
    Scratch();
    ~Scratch();
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;

    // 64-byte aligned, not initialised; throws std::bad_alloc.
    float* floats(int64_t n);
    template <class T>
    T* array(int64_t n) {
        static_assert(sizeof(T) % sizeof(float) == 0);
        return reinterpret_cast<T*>(floats(n * static_cast<int64_t>(sizeof(T) / sizeof(float))));
    }

  private:
    friend class ScratchArena;
    struct Top {
        std::size_t block;
        int64_t used, taken;
    };
    ScratchArena& arena_;
    Top before_;  // where the arena was when this frame began
};

// What a thread keeps between calls: a small call finds its memory again, and a large one does not hold it for ever (208 MB
// after conv2d_relu_backward of 16x224x224x64). The transformed weights of 512 x 512 channels are 37.7 MB.
constexpr int64_t kKeptFloats = 9600000;  // 38.4 MB

// Frees all that this thread keeps; not inside a frame.
void give_back_scratch();

}  // namespace pycnn
