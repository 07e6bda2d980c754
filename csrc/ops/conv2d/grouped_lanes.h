// How groups lie in the lanes of vectors, and copies of pixels in that order: what both files of grouped convolution
// share. A block of groups is G of them; a wide group is a block of its own, of one vector or two.
#pragma once
#include <cstring>
#include <vector>

#include "ops/conv2d/axis.h"
#include "ops/runtime/dispatch.h"
#include "ops/shapes.h"

namespace pycnn::grouped {

constexpr int64_t kLanes = 16, kTogether = 128;

// Groups of a vector: as many as fit beside each other with room for a power of two of channels each.
inline int64_t side_by_side(const Conv2dShape& s) {
    int64_t room = 1;
    while (room < std::max(s.group_C(), s.group_OC())) room *= 2;
    return std::max<int64_t>(kLanes / room, 1);
}

// Channels of one side. In memory [groups][width], in lanes [width][G], zeros in between.
struct Side {
    int64_t G, groups, width;
    int32_t to_lane[kLanes], to_memory[kLanes];

    Side(int64_t beside, int64_t all_groups, int64_t channels) : G(beside), groups(all_groups), width(channels) {
        for (int64_t i = 0; i < kLanes; ++i) {
            const int64_t channel = i / G, group = i % G;
            to_lane[i] =
                static_cast<int32_t>(channel < width ? group * width + channel : kLanes - 1);  // the last: zero
            to_memory[i] = static_cast<int32_t>(i < G * width ? i % width * G + i / width : i);
        }
    }
    int64_t vectors() const { return ceil_div(width, kLanes); }  // of a group; more than one only where G is 1
    int64_t blocks() const { return ceil_div(groups, G); }       // of groups
    const int32_t* lane_index() const { return G == 1 ? nullptr : to_lane; }
    const int32_t* memory_index() const { return G == 1 ? nullptr : to_memory; }

    // Vector v of a block of groups: its first channel in memory, and its lanes that exist.
    int64_t first(int64_t block, int64_t v) const { return block * G * width + v * kLanes; }
    int64_t lanes(int64_t block, int64_t v) const {
        if (vectors() > 1) return std::min(kLanes, width - v * kLanes);
        return std::min(G, groups - block * G) * width;
    }
};

// Copies of pixels with a zero rim left and right. Those that lie `step_w` apart stand beside each other, so a stride
// or a dilation moves the taps only. A row is [step_w][columns][pixel].
struct Frame {
    int64_t H, W, C;                       // of the image
    int64_t top, left;                     // rows above it, never written; columns before it
    int64_t step_h, step_w;                // from output to output
    int64_t columns, pixel;                // of a copy
    int64_t span = 1;                      // rows that an output row reads
    static constexpr int64_t kSlack = 16;  // pixels behind the last one that a tile may read

    int64_t row() const { return step_w * columns * pixel; }
    int64_t offset(int64_t d_h, int64_t d_w) const {  // of the tap that lies so far from an output's first pixel
        return d_h * row() + (d_w % step_w * columns + d_w / step_w) * pixel;
    }
    int64_t floats(int64_t rows) const { return ((rows - 1) * step_h + span) * row() + kSlack * pixel; }

    struct Blocks {  // `count` blocks of groups of `side`, `apart` floats from one to the next
        float* to;
        int64_t apart;
        const float* image;
        const Side& side;
        int64_t block, count;
        int64_t r0, r1;
    };
    // What the output rows [r0, r1) of an image read. Row by row, so that the blocks read lines that lie beside each
    // other at about the same time.
    void copy(const Blocks& a) const {
        const int64_t p0 = a.r0 * step_h, p1 = (a.r1 - 1) * step_h + span;
        for (int64_t p = std::max(p0, top); p < std::min(p1, top + H); ++p) {
            if (p + 1 < std::min(p1, top + H))
                fetch_row(a.image + (p + 1 - top) * W * C + a.side.first(a.block, 0), a.side, a.count);
            for (int64_t b = 0; b < a.count; ++b)
                for (int64_t plane = 0; plane < step_w; ++plane)
                    copy_plane({.to = a.to + b * a.apart + ((p - p0) * step_w + plane) * columns * pixel,
                                .from = a.image + (p - top) * W * C,
                                .side = a.side,
                                .block = a.block + b,
                                .plane = plane});
        }
    }

  private:
    struct Plane {  // of one row and one block
        float* to;
        const float* from;
        const Side& side;
        int64_t block, plane;
    };
    // To L2. Lines that lie C floats apart are no stream that the hardware would follow.
    void fetch_row(const float* row, const Side& side, int64_t count) const {
        const int64_t floats = count * side.G * side.width;
        for (int64_t w = 0; w < W; ++w)
            for (int64_t at = 0; at < floats; at += kLanes) __builtin_prefetch(row + w * C + at, 0, 2);
    }
    void copy_plane(const Plane& a) const {
        const Side& side = a.side;
        const int64_t begin = std::min(ceil_div(std::max<int64_t>(left - a.plane, 0), step_w), columns);
        const int64_t end = std::clamp(ceil_div(W + left - a.plane, step_w), begin, columns);
        std::memset(a.to, 0, sizeof(float) * begin * pixel);
        std::memset(a.to + end * pixel, 0, sizeof(float) * (columns - end) * pixel);
        const float* from = a.from + (begin * step_w + a.plane - left) * C;
        for (int64_t v = 0; v < side.vectors(); ++v)
            kernels().grouped_copy({a.to + begin * pixel + v * kLanes, pixel, from + side.first(a.block, v), step_w * C,
                                    end - begin, side.lanes(a.block, v), kLanes, side.lane_index()});
    }
};

// Blocks that are copied together: 512 bytes of a pixel, as far as a thread has them.
inline int64_t together(const Side& side) { return std::max<int64_t>(kTogether / (side.G * side.width), 1); }

// Output rows of a block: its copy stays in L2 while L1 holds the rows that an output row reads.
inline int64_t block_rows(const Frame& frame, int64_t rows) {
    constexpr int64_t kFloats = 8192;
    const int64_t fitting = (kFloats / std::max<int64_t>(frame.row(), 1) - frame.span) / frame.step_h + 1;
    const int64_t most = std::max<int64_t>(fitting, 1), blocks = std::max<int64_t>(ceil_div(rows, most), 1);
    return std::max<int64_t>(ceil_div(rows, blocks), 1);
}

}  // namespace pycnn::grouped
