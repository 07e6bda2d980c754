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

    float* out = nullptr;  // [N][out_H][out_W][out_C]
    int64_t out_H = 0, out_W = 0, out_C = 0, out_step_h = 1, out_step_w = 1;
    Epilogue epilogue = {};
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
    for (const Sort& rows : p.h.sorts)
        for (int64_t r = std::max(r0, rows.begin); r < std::min(r1, rows.end); ++r) {
            float* out = s.out + ((n * s.out_H + r * s.out_step_h + p.row) * s.out_W + p.col) * s.out_C + at;
            kernels().grouped_row({.out = out,
                                   .out_step = s.out_step_w * s.out_C,
                                   .outputs = p.w.outputs,
                                   .lanes = s.to.lanes(block, v),
                                   .in = copy + (r - first) * s.frame.step_h * s.frame.row(),
                                   .pixel = s.frame.pixel,
                                   .C = C,
                                   .groups = s.to.G,
                                   .taps = p.taps.data() + rows.first * across,
                                   .count = (rows.last - rows.first) * across,
                                   .w = w + rows.first * across * C * kLanes,
                                   .to_lane = s.to.to_lane,
                                   .to_out = s.to.to_memory,
                                   .epilogue = part_of(s.epilogue, at, out - s.out)});
        }
}

// The weights of one tap for the gradient of the input: to[oc][lane of c].
void turn_tap(float* to, const float* tap, const Conv2dShape& s, const Side& side, int64_t block, int64_t v) {
    const int64_t G = side.G, OC = s.group_OC(), lanes = side.lanes(block, v);
    if (lanes < kLanes) std::memset(to, 0, sizeof(float) * OC * kLanes);
    tap += v * kLanes * s.OC + block * G * OC;
    if (G == 1)
        return kernels().transpose(
            {.to = to, .to_row = kLanes, .from = tap, .from_row = s.OC, .rows = lanes, .columns = OC});
    for (int64_t c = 0; c < side.width; ++c)
        for (int64_t g = 0; g < lanes / side.width; ++g)
            for (int64_t oc = 0; oc < OC; ++oc) to[oc * kLanes + c * G + g] = tap[c * s.OC + g * OC + oc];
}

// What threads take: one band of rows of one image, one block of groups.
struct Units {
    int64_t rows, tall, bands, blocks;  // rows of an image and of a band

    explicit Units(const Correlation& s)
        : rows(s.rows()), tall(block_rows(s.frame, rows)), bands(ceil_div(rows, tall)), blocks(s.to.blocks()) {}
};

void run(const Correlation& s) {
    const Units units(s);
    const int64_t rows = units.rows, tall = units.tall, bands = units.bands, blocks = units.blocks;
    double flop = 0;
    for (const Phase& p : s.phases)
        flop += 2.0 * p.w.outputs * p.count() * s.from.width * kLanes * tall * s.to.vectors();
    const int64_t most = together(s.from), apart = s.frame.floats(tall), V = s.to.vectors();
    parallel_for(s.N * bands * blocks, grain_units(kGrainFlop, flop), [&](int64_t begin, int64_t end) {
        Scratch of_thread;
        float* copy = of_thread.floats(most * apart);
        for (int64_t u = begin, count; u < end; u += count) {
            const int64_t block = u % blocks, band = u / blocks;
            count = std::min({most, end - u, blocks - block});
            const int64_t n = band / bands, r0 = band % bands * tall, r1 = std::min(r0 + tall, rows);
            s.frame.copy({.to = copy,
                          .apart = apart,
                          .image = s.in + n * s.frame.H * s.frame.W * s.frame.C,
                          .side = s.from,
                          .block = block,
                          .count = count,
                          .r0 = r0,
                          .r1 = r1});
            for (int64_t b = 0; b < count; ++b)
                for (int64_t v = 0; v < V; ++v)
                    for (const Phase& p : s.phases)
                        run_rows(s, p, copy + b * apart, n, block + b, v, r0, r0, std::min(r1, p.h.outputs));
        }
    });
}

Correlation forward_of(const Conv2dShape& s) {
    const int64_t G = side_by_side(s);
    Correlation p{nullptr, s.N, Side(G, s.groups, s.group_C()), Side(G, s.groups, s.group_OC()), {}, {}};
    p.out_H = s.OH(), p.out_W = s.OW(), p.out_C = s.OC;
    p.frame.H = s.H, p.frame.W = s.W, p.frame.C = s.C, p.frame.step_h = s.stride_h, p.frame.step_w = s.stride_w;
    p.frame.pixel = p.from.vectors() * kLanes;
    p.phases.push_back({forward_axis(s.along_h()), forward_axis(s.along_w()), 0, 0, 0, {}});
    place_taps(p);
    return p;
}

Correlation backward_of(const Conv2dShape& s) {
    const int64_t G = side_by_side(s);
    Correlation p{nullptr, s.N, Side(G, s.groups, s.group_OC()), Side(G, s.groups, s.group_C()), {}, {}};
    p.out_H = s.H, p.out_W = s.W, p.out_C = s.C, p.out_step_h = s.stride_h, p.out_step_w = s.stride_w;
    p.frame.H = s.OH(), p.frame.W = s.OW(), p.frame.C = s.OC, p.frame.step_h = p.frame.step_w = 1;
    p.frame.pixel = p.from.vectors() * kLanes;
    for (int64_t ph = 0; ph < std::min(s.stride_h, s.H); ++ph)
        for (int64_t pw = 0; pw < std::min(s.stride_w, s.W); ++pw)
            p.phases.push_back({backward_axis(s.along_h(), ph), backward_axis(s.along_w(), pw), ph, pw, 0, {}});
    place_taps(p);
    return p;
}

// Forward weights: [blocks][vectors][taps][channels of a group][16].
int64_t packed_floats(const Conv2dShape& s) {
    const Side to(side_by_side(s), s.groups, s.group_OC());
    return to.blocks() * to.vectors() * s.taps() * s.group_C() * kLanes;
}

// Channel after channel through many blocks, so that the weight is read in the order of memory.
void pack(float* packed, const float* weight, const Conv2dShape& s) {
    const Side to(side_by_side(s), s.groups, s.group_OC());
    const int64_t V = to.vectors(), K = s.taps() * s.group_C(), floats = K * kLanes;
    const auto copy = [&](int64_t k, int64_t v, int64_t block, int64_t count) {
        kernels().grouped_copy({packed + (block * V + v) * floats + k * kLanes, V * floats,
                                weight + k * s.OC + to.first(block, v), to.G * to.width, count, to.lanes(block, v),
                                kLanes, to.lane_index()});
    };
    parallel_for(to.blocks(), grain_units(kGrainBytes, 8.0 * floats * V), [&](int64_t begin, int64_t end) {
        const bool ragged = end == to.blocks() && s.groups % to.G != 0;  // the last block has fewer groups
        for (int64_t k = 0; k < K; ++k)
            for (int64_t v = 0; v < V; ++v) {
                copy(k, v, begin, end - begin - ragged);
                if (ragged) copy(k, v, end - 1, 1);
            }
    });
}

void forward(const Conv2dForward& call) {
    const Conv2dShape& s = call.shape;
    if (s.N * s.OH() * s.OW() == 0) return;
    Correlation p = forward_of(s);
    p.in = call.x, p.out = call.y, p.epilogue = call.epilogue, p.packed = call.packed;
    run(p);
}

int64_t packed_input_floats(const Conv2dShape& s) {
    const Correlation p = backward_of(s);
    return std::max<int64_t>(p.to.blocks() * p.to.vectors() * p.packed_floats(), 1);
}

void pack_input(float* packed, const float* weight, const Conv2dShape& s) {
    const Correlation p = backward_of(s);
    const int64_t V = p.to.vectors(), units = p.to.blocks() * V, floats = p.packed_floats();
    parallel_for(units, grain_units(kGrainBytes, 64.0 * floats), [&](int64_t begin, int64_t end) {
        for (int64_t u = begin; u < end; ++u) {
            float* tap = packed + u * floats;
            for (const Phase& phase : p.phases)
                for (const Tap& i : phase.h.taps)
                    for (const Tap& j : phase.w.taps) {
                        turn_tap(tap, weight + (i.k * s.KW + j.k) * s.group_C() * s.OC, s, p.to, u / V, u % V);
                        tap += p.from.width * kLanes;
                    }
        }
    });
}

void backward_input(const Conv2dBackwardInput& call) {
    const Conv2dShape& s = call.shape;
    if (s.N * s.H * s.W == 0) return;
    Correlation p = backward_of(s);
    p.in = call.dy, p.out = call.dx, p.epilogue = call.epilogue, p.packed = call.packed;
    Scratch scratch;
    if (!p.packed) {
        float* packed = scratch.floats(packed_input_floats(s));
        pack_input(packed, call.weight, s);
        p.packed = packed;
    }
    run(p);
}

bool fits(const Conv2dShape& s, Direction) {
    constexpr int64_t kWidest = 32;
    const bool depthwise = s.groups == s.C && s.OC == s.C;
    return s.groups > 1 && !depthwise && std::max(s.group_C(), s.group_OC()) <= kWidest;
}

Cut cut(const Conv2dShape& s, Direction direction) {
    if (direction == Direction::backward_weight) return cut_units(weight_units(s));
    if (s.N * s.H * s.W * s.OH() * s.OW() == 0) return cut_units(1);
    const Units units(direction == Direction::forward ? forward_of(s) : backward_of(s));
    return cut_units(s.N * units.bands * units.blocks);
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
                             .finishes_input = true,
                             .packed_floats = packed_floats,
                             .pack = pack,
                             .packed_input_floats = packed_input_floats,
                             .pack_input = pack_input};

}  // namespace pycnn::grouped
