// The calls of grouped convolution (grouped.cpp has the formulas); part of kernels.h.
#pragma once
#include <cstdint>

#include "epilogue.h"

namespace pycnn {

// Vectors that are copied one by one: lane j of a copy is lane index[j] of its source, of which `loaded` lanes exist
// and the others are zero; the first `stored` lanes are written.
struct GroupedCopy {
    float* to;
    int64_t to_step;
    const float* from;
    int64_t from_step, count, loaded, stored;
    const int32_t* index;  // [16], or null: as they are
};

struct GroupedTap {
    int64_t offset;      // floats from an output's pixel
    int64_t begin, end;  // of a gradient of the weight: the rows that need it
};

// A run of outputs beside each other, 16 lanes of them: groups side by side. Pixels of `in` lie `pixel` floats apart
// and hold [C][groups]; with a tile's last pixels, up to MR of them behind the run may be read.
struct GroupedRow {
    float* out;
    int64_t out_step, outputs, lanes;  // lanes of an output that exist
    const float* in;
    int64_t pixel, C, groups;  // pixel: 16 or 32; groups: 1, 2, 4 or 8
    const GroupedTap* taps;    // [count]
    int64_t count;
    const float* w;                   // [count][C][16]
    const int32_t *to_lane, *to_out;  // [16]: where a lane lies in an output, and which lane an output's element is
    Epilogue epilogue = {};           // in the order of an output; its residual is what the sums start from
};

// dw[tap][c][lane] += sum over rows and columns of x[row * x_row + column * pixel + offset][c][lane % groups] * dy[lane]
struct GroupedWeight {
    float* dw;       // [count][C][16]
    const float* x;  // as `in` above
    int64_t x_row, pixel, C, groups;
    const GroupedTap* taps;  // [count], in runs of `across` with the same rows
    int64_t count, across;
    const float* dy;  // [rows][columns][16]
    int64_t columns;
};

}  // namespace pycnn
