// Grouped convolution, gradient of the weight. A unit is a slot and one vector of dweight: a slot is a fixed run of
// bands of output rows, with sums of its own, which are added up in order at the end. How many slots there are is a
// matter of the shape.

#include "ops/conv2d/grouped.h"
#include "ops/conv2d/grouped_lanes.h"
#include "ops/runtime/parallel.h"
#include "ops/runtime/scratch.h"

namespace pycnn::grouped {
namespace {

struct Problem {
    const Conv2dShape& s;
    const float *x, *dy;
    Side from, to;
    Frame frame;
    int64_t tall, bands;          // rows of a band, bands of an image
    std::vector<int64_t> offset;  // of each tap

    int64_t sums() const { return s.taps() * s.group_C() * kLanes; }  // of a unit
    int64_t slots() const {
        constexpr int64_t kUnits = 16;  // of work for the threads
        return std::max<int64_t>(std::min(ceil_div(kUnits, to.blocks() * to.vectors()), s.N * bands), 1);
    }
};

Problem problem_of(const Conv2dShape& s) {
    const int64_t G = side_by_side(s);
    Problem p{s, nullptr, nullptr, Side(G, s.groups, s.group_C()), Side(G, s.groups, s.group_OC()), {}, 0, 0, {}};
    p.frame = {s.H, s.W, s.C, s.pad.top, s.pad.left, s.stride_h, s.stride_w, 0, p.from.vectors() * kLanes};
    p.frame.columns = s.OW() + extent(s.KW, s.dilation_w) / s.stride_w + 1;
    p.frame.span = extent(s.KH, s.dilation_h);
    for (int64_t t = 0; t < s.taps(); ++t)
        p.offset.push_back(p.frame.offset(t / s.KW * s.dilation_h, t % s.KW * s.dilation_w));
    p.tall = block_rows(p.frame, s.OH()), p.bands = ceil_div(s.OH(), p.tall);
    return p;
}

// The taps, with the rows among output rows [r0, r1) for which they lie inside the image.
void list_taps(std::vector<GroupedTap>& taps, const Problem& p, int64_t r0, int64_t r1) {
    const Conv2dShape& s = p.s;
    taps.clear();
    for (int64_t t = 0; t < s.taps(); ++t) {
        const int64_t above = s.pad.top - t / s.KW * s.dilation_h;  // rows: r * stride >= above, < above + H
        const int64_t first = std::clamp(ceil_div(std::max<int64_t>(above, 0), s.stride_h), r0, r1);
        const int64_t last = std::clamp(ceil_div(std::max<int64_t>(above + s.H, 0), s.stride_h), first, r1);
        taps.push_back({p.offset[t], first - r0, last - r0});
    }
}

// Sums of blocks [block, block + count) over some bands.
void add_bands(float* sums, const Problem& p, int64_t block, int64_t count, int64_t begin, int64_t end) {
    const Conv2dShape& s = p.s;
    const int64_t OH = s.OH(), OW = s.OW(), V = p.to.vectors(), apart = p.frame.floats(p.tall);
    Scratch scratch;
    float* x = scratch.floats(count * apart);
    const int64_t dy_apart = p.tall * OW * kLanes;
    float* dy = scratch.floats(count * V * dy_apart);
    std::vector<GroupedTap> taps;
    std::memset(sums, 0, sizeof(float) * count * V * p.sums());
    for (int64_t at = begin; at < end; ++at) {
        const int64_t n = at / p.bands, r0 = at % p.bands * p.tall, r1 = std::min(r0 + p.tall, OH);
        p.frame.copy({.to = x,
                      .apart = apart,
                      .image = p.x + n * s.H * s.W * s.C,
                      .side = p.from,
                      .block = block,
                      .count = count,
                      .r0 = r0,
                      .r1 = r1});
        for (int64_t r = r0; r < r1; ++r)
            for (int64_t i = 0; i < count * V; ++i)
                kernels().grouped_copy({dy + i * dy_apart + (r - r0) * OW * kLanes, kLanes,
                                        p.dy + (n * OH + r) * OW * s.OC + p.to.first(block + i / V, i % V), s.OC, OW,
                                        p.to.lanes(block + i / V, i % V), kLanes, p.to.lane_index()});
        list_taps(taps, p, r0, r1);
        for (int64_t i = 0; i < count * V; ++i)
            kernels().grouped_weight({sums + i * p.sums(), x + i / V * apart, s.stride_h * p.frame.row(), p.frame.pixel,
                                      s.group_C(), p.to.G, taps.data(), s.taps(), s.KW, dy + i * dy_apart, OW});
    }
}

}  // namespace

int64_t weight_units(const Conv2dShape& s) {
    const Problem p = problem_of(s);
    return p.slots() * p.to.blocks();
}

void backward_weight(float* dweight, const float* x, const float* dy, const Conv2dShape& s) {
    Problem p = problem_of(s);
    p.x = x, p.dy = dy;
    const int64_t V = p.to.vectors(), units = p.to.blocks() * V, bands = s.N * p.bands, size = p.sums(), S = p.slots();
    Scratch scratch;
    float* slots = scratch.floats(S * units * size);
    const auto finish = [&](const float* sums, int64_t block, int64_t v) {
        kernels().grouped_copy({dweight + p.to.first(block, v), s.OC, sums, kLanes, s.taps() * s.group_C(), kLanes,
                                p.to.lanes(block, v), p.to.memory_index()});
    };
    const double flop = 2.0 * s.N * s.OH() * s.OW() * size;
    const int64_t blocks = p.to.blocks(), most = together(p.from);
    parallel_for(S * blocks, grain_units(kGrainFlop, flop / S * V), [&](int64_t begin, int64_t end) {
        for (int64_t u = begin, count; u < end; u += count) {
            const int64_t slot = u / blocks, block = u % blocks;
            count = std::min({most, end - u, blocks - block});
            add_bands(slots + u * V * size, p, block, count, bands * slot / S, bands * (slot + 1) / S);
            for (int64_t i = 0; S == 1 && i < count * V; ++i) finish(slots + (u * V + i) * size, block + i / V, i % V);
        }
    });
    if (S > 1)
        parallel_for(units, grain_units(kGrainBytes, 4.0 * S * size), [&](int64_t begin, int64_t end) {
            for (int64_t u = begin; u < end; ++u) {
                for (int64_t slot = 1; slot < S; ++slot)
                    kernels().accumulate(slots + u * size, slots + (slot * units + u) * size, size);
                finish(slots + u * size, u / V, u % V);
            }
        });
}

}  // namespace pycnn::grouped
