// The products of a 1 x 1 convolution on some rows, by one thread: weights are packed before.
#pragma once
#include <cstdint>
#include <vector>

#include "kernels/kernels.h"

namespace pycnn::conv_norm {

// Offsets and pointers that the kernel reads, kept from call to call.
struct Lists {
    std::vector<const float*> a;
    std::vector<float*> c;
    std::vector<int64_t> offset;
};

struct Rows {  // c [rows][n] = a [rows][k] b (+ bias), b packed in panels of NR columns
    float* c;
    const float* a;
    int64_t rows, k, n;
    const float* b;
    const float* bias;  // [n] or null
};
// next: what is read next, brought to L2 meanwhile.
void multiply(const Rows&, Lists&, const Fetch (&next)[2]);

struct Columns {  // c [m][n] += transposed a [rows][m] times b [rows][n]
    float* c;
    const float *a, *b;
    int64_t rows, m, n;
};
void add_transposed(const Columns&, Lists&, const Fetch (&next)[2]);

}  // namespace pycnn::conv_norm
