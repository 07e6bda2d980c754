// How a kernel ends, one way for all of them: sum + bias + residual and relu in registers. The other activations are a
// pass of `activate` over what has just been written and lies in L1, so that the loops that multiply hold no call, no
// switch and no register more; beside exp that costs nothing.
#pragma once
#include "kernels.h"
#include "simd_maps.h"
#include "table.h"

namespace pycnn::PYCNN_ISA {

// Of 16 channels from c on; zeros where there is no bias.
PYCNN_INLINE vec bias_of(const Epilogue& e, int64_t c, int64_t lanes) {
    return e.bias ? load_first(e.bias + c, lanes) : splat(0.0f);
}

// Kernels ask once, before their loops: an epilogue that is read there is read again behind every store.
PYCNN_INLINE bool has_relu(const Epilogue& e) { return e.activation.kind == Activation::relu; }
PYCNN_INLINE vec relu_if(bool on, vec sum) { return on ? relu(sum) : sum; }
PYCNN_INLINE reg relu_if(bool on, reg sum) { return on ? relu(sum) : sum; }

struct LateRows {  // numbers that a kernel has just written
    float* y;
    int64_t size;               // of a row
    int64_t rows = 1, row = 0;  // row: numbers from one row to the next
};

// What relu_if leaves out, in place.
PYCNN_INLINE bool is_late(const Epilogue& e) { return e.activation.kind > Activation::relu; }
PYCNN_INLINE void finish_late(const LateRows& s, const Epilogue& e) {
    if (!is_late(e)) return;
    for (int64_t r = 0; r < s.rows; ++r) activate(s.y + r * s.row, s.y + r * s.row, s.size, e.activation);
}

}  // namespace pycnn::PYCNN_ISA
