// Winograd's convolution as an entry of the registry: what fits, its cost, its three directions.

#include "ops/conv2d/winograd.h"

#include "ops/conv2d/pack.h"
#include "ops/runtime/dispatch.h"
#include "ops/runtime/parallel.h"

namespace pycnn::winograd {
namespace {

struct Size {  // what tiles cut: y, or dx
    int64_t H, W;
};
Size map_of(const Conv2dShape& s, Direction direction) {
    if (direction == Direction::backward_input) return {s.H, s.W};
    return {s.OH(), s.OW()};
}

bool large_tiles_pay(const Size& map) {
    return !is_exact() && 36 * ceil_div(map.H, 4) * ceil_div(map.W, 4) < 16 * ceil_div(map.H, 2) * ceil_div(map.W, 2);
}

// A group is whole vectors, and so narrow that a block takes several.
bool groups_fit(const Conv2dShape& s) {
    const auto fits = [](int64_t channels) { return channels == 16 || channels == 32; };
    return s.groups == 1 || (fits(s.group_C()) && fits(s.group_OC()));
}

template <int M>
bool fits(const Conv2dShape& s, Direction direction) {
    const bool can = s.KH == 3 && s.KW == 3 && s.stride_h == 1 && s.stride_w == 1 && s.dilation_h == 1 &&
                     s.dilation_w == 1 && groups_fit(s);
    return can && large_tiles_pay(map_of(s, direction)) == (M == 4);
}

// T^2 products a tile for each input and output channel, and the two transforms, whose sparse rows of B^T (20 operations
// of 6 x 6) and A^T (14 of 4 x 4) are applied to T columns and to T or m rows. Transforms and the shorter products run at
// about half of the FMA peak, direct convolution at 0.9 to 1.0 of it (docs/kernels.md), hence the factor 2 and the margin;
// v and m move beside the products and are in the margin too. Fewer channels than a vector has lanes leave them empty in
// every transform. What cut tiles leave out (Order) is not taken off, since what is below was fitted before.
//
// moved: what u costs, for each pair of channels, beyond what direct convolution pays for its weight, which it reads, packs
// and reads again; in multiply-adds, of which two cores do 115 while they move 0.2 bytes from memory. Packed, 36 floats
// are read instead of 9; else each part of u is made in L3. A gradient moves no u: du stays in L2, and direct convolution
// writes dweight more often. Fitted to docs/kernels.md, Wide layers.
//
// Groups: direct convolution reaches 0.85 of the peak there, and transforms see no memory but the cache, hence no factor 2;
// u costs 200, since four tiles are not faster than `grouped`. Past 8 MB of both maps the rows that groups lie in come from
// memory, and what is faster depends on the neighbours; and a thread owns groups of the gradient of the weight (docs/
// kernels.md, Narrow groups).
template <int M>
double cost(const Conv2dShape& s, Direction direction, bool packed) {
    constexpr double kMargin = 1.15, kNever = 1e300, kCached = 65536, kMaps = 1 << 21;
    constexpr int64_t kGroups = 16;
    if (s.group_C() < 16 || s.group_OC() < 16) return kNever;
    const Size map = map_of(s, direction);
    const bool grouped = s.groups > 1, gradient = direction == Direction::backward_weight;
    const double pixels = static_cast<double>(s.N) * static_cast<double>(map.H * map.W);
    if (grouped && (pixels * static_cast<double>(s.C + s.OC) > kMaps || (gradient && s.groups < kGroups)))
        return kNever;
    const double tiles = static_cast<double>(s.N) * ceil_div(map.H, M) * ceil_div(map.W, M);
    const double input = M == 4 ? 240 : 32, output = M == 4 ? 140 : 24, products = M == 4 ? 36 : 16;
    const double pairs = static_cast<double>(s.group_C()) * static_cast<double>(s.OC);
    const bool cached = pairs <= kCached;
    double moved = grouped ? 200 : packed ? (cached ? 50 : 500) : (cached ? 100 : 300);
    if (gradient) moved = 0;
    const double lanes = static_cast<double>(ceil_div(s.OC, 16) * 16) / static_cast<double>(s.OC);
    const double factor = grouped ? 1 : 2;
    return lanes * (kMargin * tiles * (products * pairs + factor * (input * s.C + output * s.OC)) + moved * pairs);
}

Filter as_it_is(const float* weight, const Conv2dShape& s) {
    return {nullptr, weight, kernels().NR, s.group_C() * s.OC, s.OC};
}

template <int M>
Cut cut(const Conv2dShape& s, Direction direction) {
    const Size map = map_of(s, direction);
    const Tiles tiles(M, s.N, map.H, map.W);
    if (direction == Direction::backward_weight) return cut_units(weight_units(s, tiles.elements()));
    if (direction == Direction::forward) return forward_cut(tiles, s.C, s.OC, s.groups);
    return forward_cut(tiles, s.OC, s.C, s.groups);
}

template <int M>
int64_t packed_floats(const Conv2dShape& s) {
    return filter_size(s.group_C(), s.OC, M);
}

template <int M>
void pack(float* u, const float* weight, const Conv2dShape& s) {
    transform_filter(u, as_it_is(weight, s), {.C = s.group_C(), .OC = s.OC, .m = M});
}

template <int M>
void forward(const Conv2dForward& call) {
    const Conv2dShape& s = call.shape;
    run({.in = call.x,
         .out = call.y,
         .where = call.where,
         .N = s.N,
         .H = s.H,
         .W = s.W,
         .C = s.C,
         .OH = s.OH(),
         .OW = s.OW(),
         .OC = s.OC,
         .groups = s.groups,
         .top = s.pad.top,
         .left = s.pad.left,
         .PH = call.PH,
         .PW = call.PW,
         .epilogue = call.epilogue},
        M, call.packed ? Filter{call.packed, nullptr, 0, 0, 0} : as_it_is(call.weight, s));
}

// The same as pack_backward, but a panel of NR columns goes on through groups.
const float* turned_groups(Scratch& scratch, const float* weight, const Conv2dShape& s) {
    const int64_t NR = kernels().NR, C = s.group_C(), K = s.group_OC();
    float* taps = scratch.floats(ceil_div(s.C, NR) * 9 * K * NR);
    parallel_for(s.groups, grain_units(kGrainBytes, 8.0 * 9 * K * C), [&](int64_t begin, int64_t end) {
        for (int64_t g = begin; g < end; ++g)
            for (int64_t c = 0; c < C; c += 16)
                for (int64_t t = 0; t < 9; ++t) {
                    const int64_t panel = (g * C + c) / NR, lane = (g * C + c) % NR;
                    kernels().transpose({.to = taps + (panel * 9 + t) * K * NR + lane,
                                         .to_row = NR,
                                         .from = weight + ((8 - t) * C + c) * s.OC + g * K,
                                         .from_row = s.OC,
                                         .rows = 16,
                                         .columns = K});
                }
    });
    return taps;
}

// The correlation of dy with the weight turned upside down.
template <int M>
void backward_input(const Conv2dBackwardInput& call) {
    const Conv2dShape& s = call.shape;
    const float* weight = call.weight;
    const int64_t tap = s.group_OC() * kernels().NR;
    Scratch scratch;
    const float* taps = s.groups > 1
                            ? turned_groups(scratch, weight, s)
                            : pack_backward(scratch, {.weight = weight, .shape = s, .kh = {2, 1, 0}, .kw = {2, 1, 0}});
    run({.in = call.dy,
         .out = call.dx,
         .where = nullptr,
         .N = s.N,
         .H = s.OH(),
         .W = s.OW(),
         .C = s.OC,
         .OH = s.H,
         .OW = s.W,
         .OC = s.C,
         .groups = s.groups,
         .top = 2 - s.pad.top,
         .left = 2 - s.pad.left,
         .PH = 0,
         .PW = 0,
         .epilogue = call.epilogue},
        M, {nullptr, taps, 9 * tap, tap, kernels().NR});
}

template <int M>
constexpr Algorithm entry(const char* reason) {
    return {.name = "winograd",
            .reason = reason,
            .computes = "3 x 3 windows with stride 1 and dilation 1, of one group or of groups of 16 or 32 channels",
            .fits = fits<M>,
            .cost = cost<M>,
            .cut = cut<M>,
            .forward = forward<M>,
            .backward_input = backward_input<M>,
            .backward_weight =
                [](float* dweight, const float* x, const float* dy, const Conv2dShape& s) {
                    winograd::backward_weight({.dweight = dweight, .x = x, .dy = dy, .shape = s, .m = M});
                },
            .pools = true,
            .packs_parts = true,
            .finishes_input = true,
            .packed_floats = packed_floats<M>,
            .pack = pack<M>};
}

}  // namespace

constinit const Algorithm large_tiles = entry<4>("F(4x4, 3x3) needs fewer operations, its transforms included");
constinit const Algorithm small_tiles = entry<2>("F(2x2, 3x3) needs fewer operations, its transforms included");

}  // namespace pycnn::winograd
