// Few input channels, gradient of the input. In conv2d/direct.cpp the vector runs over the channels of dx, so with one
// or three of them it is mostly empty. Here it runs over pixels instead, in two steps:
//
//   product[(kh, kw, c)][pixel of dy] = sum over oc of weight[kh][kw][c][oc] * dy[pixel][oc]       kernels().gemm_block
//   dx[n][h][w][c] = sum over the taps (kh, kw) that meet (h, w) of product[(kh, kw, c)][pixel]    kernels().tap_sums
//
// Each thread walks down its rows of dx and keeps the products of the rows of dy that it needs in a ring that stays in
// L2. One row of dx is computed as stride_w * C planes, one for each phase (w % stride_w) and channel, and then
// interleaved. A product adds its oc in order and a pixel of dx its taps, whatever the ring and the threads are.

#include "ops/conv2d/few_channels.h"
#include "ops/runtime/dispatch.h"
#include "ops/runtime/parallel.h"
#include "ops/runtime/scratch.h"

namespace pycnn::few_channels {

// Measured against conv2d/direct.cpp on Zen 4 with two threads, 16 images (microseconds, direct -> here, AVX-512 /
// AVX2): 3x3 to 32 channels, 32x32x4 749 -> 302 / 698 -> 279, 32x32x8 750 -> 566 / 700 -> 511, with stride 2 428 -> 203
// / 446 -> 190; 28x28x8->16 5x5 644 -> 598 / 590 -> 582. With 12 channels direct won: 797 -> 911 / 1,013 -> 1,095.
bool fits_backward_input(const Conv2dShape& s) { return s.groups == 1 && s.C <= 8; }

namespace {

struct Column {  // one (kw, c) of one phase: dx column j of the phase reads dy column j + shift
    int64_t kw, shift, begin, end;
};

struct Problem {
    const Conv2dShape& s;
    float* dx;
    const float *dy, *packed;  // packed: the weight as the left matrix [taps * C][OC]
    int64_t OH, OW, M;
    int64_t kept;                               // rows of dy in the ring
    std::vector<std::vector<Column>> of_phase;  // [stride_w]
    std::vector<int64_t> width;                 // [stride_w] pixels of a phase in a row of dx

    // Rows of dy, of all images, that row `at` of dx, of all images, needs: [low, high). Neither ever descends.
    int64_t low(int64_t at) const {
        const int64_t h = at % s.H + s.pad.top - (extent(s.KH, s.dilation_h) - 1);
        return at / s.H * OH + std::min(ceil_div(std::max<int64_t>(h, 0), s.stride_h), OH);
    }
    int64_t high(int64_t at) const { return at / s.H * OH + std::min((at % s.H + s.pad.top) / s.stride_h + 1, OH); }
};

void list_columns(Problem& p) {
    const Conv2dShape& s = p.s;
    for (int64_t phase = 0; phase < s.stride_w; ++phase) {
        p.width.push_back(phase < s.W ? ceil_div(s.W - phase, s.stride_w) : 0);
        p.of_phase.emplace_back();
        for (int64_t kw = 0; kw < s.KW; ++kw) {
            const int64_t at = phase + s.pad.left - kw * s.dilation_w;
            if (at % s.stride_w) continue;
            const int64_t shift = at / s.stride_w;
            const int64_t begin = std::max<int64_t>(-shift, 0), end = std::min(p.width.back(), p.OW - shift);
            if (begin < end) p.of_phase.back().push_back({kw, shift, begin, end});
        }
    }
}

struct Ring {  // [M][kept * OW], with room on both sides for what tap_sums reads beside its ranges
    Scratch scratch;
    float* data;
    int64_t row;

    explicit Ring(const Problem& p) : row((p.kept * p.OW + 15) / 16 * 16) {
        data = scratch.floats(p.M * row + 32) + 16;
    }
};

// Rows [begin, end) of dy, no more than fit, into the ring.
void multiply(const Problem& p, const Ring& ring, int64_t begin, int64_t end) {
    const int64_t NR = kernels().NR, OC = p.s.OC;
    Scratch scratch;
    float* panel = scratch.floats(OC * NR);
    for (int64_t r = begin; r < end;) {
        const int64_t slot = r % p.kept, last = std::min(end, r + p.kept - slot), pixels = (last - r) * p.OW;
        for (int64_t q = 0; q < pixels; q += NR) {
            const int64_t columns = std::min(NR, pixels - q);
            kernels().gemm_pack_b(panel, {p.dy + (r * p.OW + q) * OC, 1, OC}, OC, columns);
            kernels().gemm_block({.c = ring.data + slot * p.OW + q,
                                  .ldc = ring.row,
                                  .a = p.packed,
                                  .b = panel,
                                  .mc = p.M,
                                  .nc = columns,
                                  .kc = OC,
                                  .accumulate = false});
        }
        r = last;
    }
}

// Row `at` of dx, from products that are in the ring.
void add_taps(const Problem& p, const Ring& ring, int64_t at, std::vector<TapRow>& taps) {
    const Conv2dShape& s = p.s;
    const int64_t n = at / s.H, h = at % s.H, planes = s.stride_w * s.C;
    const int64_t plane = (ceil_div(s.W, s.stride_w) + 15) / 16 * 16;
    float* to = p.dx + at * s.W * s.C;
    Scratch scratch;
    float* room = planes > 1 ? scratch.floats(planes * plane) : to;
    for (int64_t phase = 0; phase < s.stride_w; ++phase)
        for (int64_t c = 0; c < s.C; ++c) {
            taps.clear();
            for (int64_t kh = 0; kh < s.KH; ++kh) {
                const int64_t row = h + s.pad.top - kh * s.dilation_h;
                if (row < 0 || row % s.stride_h || row / s.stride_h >= p.OH) continue;
                const float* products = ring.data + (n * p.OH + row / s.stride_h) % p.kept * p.OW;
                for (const Column& column : p.of_phase[phase])
                    taps.push_back({products + ((kh * s.KW + column.kw) * s.C + c) * ring.row + column.shift,
                                    column.begin, column.end});
            }
            kernels().tap_sums({.out = room + (phase * s.C + c) * plane,
                                .n = p.width[phase],
                                .taps = taps.data(),
                                .count = static_cast<int64_t>(taps.size())});
        }
    if (planes == 1) return;
    const int64_t whole = s.W / s.stride_w;  // the last pixels, where some phases have one more, follow
    kernels().transpose(
        {.to = to, .to_row = planes, .from = room, .from_row = plane, .rows = planes, .columns = whole});
    for (int64_t i = 0; i < s.W % s.stride_w * s.C; ++i) to[whole * planes + i] = room[i * plane + whole];
}

// Rows [begin, end) of dx, of all images.
void run(const Problem& p, int64_t begin, int64_t end) {
    const Ring ring(p);
    std::vector<TapRow> taps;
    int64_t done = 0;  // rows of dy before this one are, or were, in the ring
    for (int64_t first = begin, last; first < end; first = last) {
        for (last = first + 1; last < end && p.high(last) - p.low(first) <= p.kept;) ++last;
        const int64_t needed = p.high(last - 1);
        multiply(p, ring, std::max(done, p.low(first)), needed);
        done = std::max(done, needed);
        for (int64_t at = first; at < last; ++at) add_taps(p, ring, at, taps);
    }
}

}  // namespace

void backward_input(const Conv2dBackwardInput& call) {
    const Conv2dShape& s = call.shape;
    if (s.N * s.H * s.W == 0) return;
    constexpr int64_t kFloats = 65536;  // 256 KB of products: half of the smallest L2 that we tune for
    const int64_t MR = kernels().MR, M = s.taps() * s.C, reach = (extent(s.KH, s.dilation_h) - 1) / s.stride_h + 1;
    Scratch scratch;
    float* packed = scratch.floats(ceil_div(M, MR) * MR * s.OC);
    kernels().gemm_pack_a(packed, {call.weight, s.OC, 1}, M, s.OC);
    Problem p{s, call.dx, call.dy, packed, s.OH(), s.OW(), M, 0, {}, {}};
    p.kept = std::max(kFloats / std::max<int64_t>(M * p.OW, 1), reach + 1);
    list_columns(p);
    const double flop = s.flop() / static_cast<double>(s.N * s.H);
    parallel_for(s.N * s.H, grain_units(kGrainFlop / 2, flop), [&](int64_t begin, int64_t end) { run(p, begin, end); });
}

}  // namespace pycnn::few_channels
