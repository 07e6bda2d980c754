// Grouped convolution, forward and gradient of the input: one routine, as in conv2d/direct.cpp, whose sums and order of
// terms it has. A unit is an image (or some rows of it) and one vector of results: its block of groups is copied to a
// few KB where pixels lie beside each other, since 16 channels of pixels that lie C floats apart meet in few sets of L1
// (14x14x512 in 32 groups, batch 16, forward: direct.cpp took 4.1 ms).

#include "ops/conv2d/grouped.h"

#include "ops/conv2d/grouped_lanes.h"
#include "ops/runtime/parallel.h"
#include "ops/runtime/scratch.h"

namespace pycnn::grouped {

namespace {

struct Phase {  // forward has one; backward those of conv2d/axis.h
    Axis h, w;
    int64_t row, col;  // of its first output
    int64_t packed;    // floats before its weights
    std::vector<GroupedTap> taps;
    int64_t count() const { return h.taps_count() * w.taps_count(); }
};

struct Correlation {
    const float* in;
    int64_t N;
    Side from, to;
    Frame frame;
    std::vector<Phase> phases;

    float* out;  // [N][out_H][out_W][out_C]
    int64_t out_H, out_W, out_C, out_step_h, out_step_w;
    Epilogue epilogue;
    const float* packed = nullptr;  // [blocks][vectors][taps of all phases][channels of a group][16]

    int64_t packed_floats() const {  // of a unit
        return (phases.back().packed + phases.back().count() * from.width * kLanes);
    }
    int64_t rows() const {
        int64_t most = 0;
        for (const Phase& p : phases) most = std::max(most, p.h.outputs);
        return most;
    }
};

// The frame in which the taps of all phases lie, and their offsets in it.
void place_taps(Correlation& s) {
    Frame& frame = s.frame;
    frame.top = frame.left = 0;
    for (const Phase& p : s.phases)
        frame.top = std::max(frame.top, p.h.before), frame.left = std::max(frame.left, p.w.before);
    for (const Phase& p : s.phases) {
        frame.span = std::max(frame.span, frame.top - p.h.before + p.h.last_d() + 1);
        for (const Tap& t : p.w.taps)
            frame.columns = std::max(frame.columns, p.w.outputs + (frame.left - p.w.before + t.d) / frame.step_w);
    }
    int64_t packed = 0;
    for (Phase& p : s.phases) {
        p.packed = packed;
        packed += p.count() * s.from.width * kLanes;
        p.h.sort_outputs();
        for (const Tap& i : p.h.taps)
            for (const Tap& j : p.w.taps)
                p.taps.push_back({frame.offset(frame.top - p.h.before + i.d, frame.left - p.w.before + j.d), 0, 0});
    }
}

// Rows [r0, r1) of a phase, one vector of the results of image n, from a copy that begins at output row `first`.
void run_rows(const Correlation& s, const Phase& p, const float* copy, int64_t n, int64_t block, int64_t v,
              int64_t first, int64_t r0, int64_t r1) {
    const int64_t across = p.w.taps_count(), C = s.from.width, at = s.to.first(block, v);
    const float* w = s.packed + (block * s.to.vectors() + v) * s.packed_floats() + p.packed;
    const int64_t from_out =
        s.epilogue.residual ? (reinterpret_cast<intptr_t>(s.epilogue.residual) - reinterpret_cast<intptr_t>(s.out)) /
                                  static_cast<int64_t>(sizeof(float))
                            : 0;
    for (const Sort& rows : p.h.sorts)
        for (int64_t r = std::max(r0, rows.begin); r < std::min(r1, rows.end); ++r) {
            float* out = s.out + ((n * s.out_H + r * s.out_step_h + p.row) * s.out_W + p.col) * s.out_C + at;
            kernels().grouped_row({out, s.out_step_w * s.out_C, p.w.outputs, s.to.lanes(block, v),
                                   copy + (r - first) * s.frame.step_h * s.frame.row(), s.frame.pixel, C, s.to.G,
                                   p.taps.data() + rows.first * across, (rows.last - rows.first) * across,
                                   w + rows.first * across * C * kLanes, s.to.to_lane, s.to.to_memory,
                                   s.epilogue.bias ? s.epilogue.bias + at : nullptr, s.epilogue.relu,
                                   s.epilogue.residual != nullptr, from_out});
        }
}

// The weights of one tap for the gradient of the input: to[oc][lane of c].
void turn_tap(float* to, const float* tap, const Conv2dShape& s, const Side& side, int64_t block, int64_t v) {
    const int64_t G = side.G, OC = s.group_OC(), lanes = side.lanes(block, v);
    if (lanes < kLanes) std::memset(to, 0, sizeof(float) * OC * kLanes);
    tap += v * kLanes * s.OC + block * G * OC;
    if (G == 1) return kernels().transpose(to, kLanes, tap, s.OC, lanes, OC);
    for (int64_t c = 0; c < side.width; ++c)
        for (int64_t g = 0; g < lanes / side.width; ++g)
            for (int64_t oc = 0; oc < OC; ++oc) to[oc * kLanes + c * G + g] = tap[c * s.OC + g * OC + oc];
}

// pack(to, block, v) packs the weights of one vector of results: before the region that multiplies, or, where each is
// needed once, by the thread that needs it, so that they are in its cache.
template <class Pack>
void run(Correlation& s, const Pack& pack) {
    const int64_t rows = s.rows(), tall = block_rows(s.frame, rows), bands = ceil_div(rows, tall);
    if (s.N * bands == 0) return;
    double flop = 0;
    for (const Phase& p : s.phases)
        flop += 2.0 * p.w.outputs * p.count() * s.from.width * kLanes * tall * s.to.vectors();
    const int64_t blocks = s.to.blocks(), most = together(s.from), apart = s.frame.floats(tall);
    const int64_t V = s.to.vectors(), floats = s.packed_floats();
    Scratch scratch;
    float* packed = scratch.floats(std::max<int64_t>(blocks * V * floats, 1));
    s.packed = packed;
    const auto pack_block = [&](int64_t block) {
        for (int64_t v = 0; v < V; ++v) pack(packed + (block * V + v) * floats, block, v);
    };
    const bool once = s.N * bands == 1;
    if (!once)
        parallel_for(blocks, grain_units(kGrainBytes, 16.0 * floats * V), [&](int64_t begin, int64_t end) {
            for (int64_t block = begin; block < end; ++block) pack_block(block);
        });
    parallel_for(s.N * bands * blocks, grain_units(kGrainFlop, flop), [&](int64_t begin, int64_t end) {
        Scratch of_thread;
        float* copy = of_thread.floats(most * apart);
        for (int64_t u = begin, count; u < end; u += count) {
            const int64_t block = u % blocks, band = u / blocks;
            count = std::min({most, end - u, blocks - block});
            const int64_t n = band / bands, r0 = band % bands * tall, r1 = std::min(r0 + tall, rows);
            s.frame.copy(copy, apart, s.in + n * s.frame.H * s.frame.W * s.frame.C, s.from, block, count, r0, r1);
            for (int64_t b = 0; b < count; ++b) {
                if (once) pack_block(block + b);
                for (int64_t v = 0; v < V; ++v)
                    for (const Phase& p : s.phases)
                        run_rows(s, p, copy + b * apart, n, block + b, v, r0, r0, std::min(r1, p.h.outputs));
            }
        }
    });
}

void forward(const Conv2dForward& call) {
    const Conv2dShape& s = call.shape;
    const float* weight = call.packed;
    const int64_t G = side_by_side(s);
    const Side from(G, s.groups, s.group_C()), to(G, s.groups, s.group_OC());
    Correlation p{call.x, s.N, from, to, {}, {}, call.y, s.OH(), s.OW(), s.OC, 1, 1, call.epilogue};
    if (p.out_W == 0 || p.out_H == 0) return;
    p.frame.H = s.H, p.frame.W = s.W, p.frame.C = s.C, p.frame.step_h = s.stride_h, p.frame.step_w = s.stride_w;
    p.frame.pixel = from.vectors() * kLanes;
    p.phases.push_back({forward_axis(s.H, s.pad.top, s.KH, s.stride_h, s.dilation_h, s.OH()),
                        forward_axis(s.W, s.pad.left, s.KW, s.stride_w, s.dilation_w, s.OW()),
                        0,
                        0,
                        0,
                        {}});
    place_taps(p);
    run(p, [&](float* packed, int64_t block, int64_t v) {
        kernels().grouped_copy({packed, kLanes, weight + to.first(block, v), s.OC, s.taps() * s.group_C(),
                                to.lanes(block, v), kLanes, to.lane_index()});
    });
}

void backward_input(float* dx, const float* dy, const float* weight, const Conv2dShape& s) {
    const int64_t G = side_by_side(s);
    const Side from(G, s.groups, s.group_OC()), to(G, s.groups, s.group_C());
    Correlation p{dy, s.N, from, to, {}, {}, dx, s.H, s.W, s.C, s.stride_h, s.stride_w, {}};
    if (s.H == 0 || s.W == 0) return;
    p.frame.H = s.OH(), p.frame.W = s.OW(), p.frame.C = s.OC, p.frame.step_h = p.frame.step_w = 1;
    p.frame.pixel = from.vectors() * kLanes;
    for (int64_t ph = 0; ph < std::min(s.stride_h, s.H); ++ph)
        for (int64_t pw = 0; pw < std::min(s.stride_w, s.W); ++pw)
            p.phases.push_back({backward_axis(ph, s.H, s.pad.top, s.KH, s.stride_h, s.dilation_h, s.OH()),
                                backward_axis(pw, s.W, s.pad.left, s.KW, s.stride_w, s.dilation_w, s.OW()),
                                ph,
                                pw,
                                0,
                                {}});
    place_taps(p);
    run(p, [&](float* packed, int64_t block, int64_t v) {
        for (const Phase& phase : p.phases)
            for (const Tap& i : phase.h.taps)
                for (const Tap& j : phase.w.taps) {
                    turn_tap(packed, weight + (i.k * s.KW + j.k) * s.group_C() * s.OC, s, to, block, v);
                    packed += from.width * kLanes;
                }
    });
}

bool fits(const Conv2dShape& s, Direction) {
    constexpr int64_t kWidest = 32;
    const bool depthwise = s.groups == s.C && s.OC == s.C;
    return s.groups > 1 && !depthwise && std::max(s.group_C(), s.group_OC()) <= kWidest;
}

// Large maps are cut into bands of rows, too.
Cut cut(const Conv2dShape& s, Direction direction) {
    const int64_t blocks = ceil_div(s.groups, side_by_side(s));
    if (direction == Direction::backward_weight)
        return cut_units(std::max(blocks, std::min<int64_t>(16, s.N * blocks)));
    return cut_units(s.N * blocks);
}

}  // namespace

const Algorithm algorithm = {.name = "grouped",
                             .reason = "narrow groups: lanes are the channels of several groups",
                             .computes = "more than one group, of at most 32 channels in and out, but not depthwise",
                             .fits = fits,
                             .cost = [](const Conv2dShape& s, Direction, bool) { return 0.9 * inner_products(s); },
                             .cut = cut,
                             .forward = forward,
                             .backward_input = backward_input,
                             .backward_weight = backward_weight,
                             .adds_residual = true};

}  // namespace pycnn::grouped
