// Direct convolution, forward and gradient of the input: one routine, since both are correlations.
//
//   out[n][r*os + r0][q*os + q0][:] = sum over taps t, channels c of padded[n][r*step + dh_t][q*step + dw_t][c] *
//   B[t][c][:]
//
// forward          in = x, step = stride, taps (kh*dilation, kw*dilation); out = y, dense (os = 1)
// backward_input   in = dy, step = 1; for each of the stride_h * stride_w phases of the pixels of dx, the taps that
// meet it
//                  (h + top - kh*dilation divisible by the stride), at row (h + top - kh*dilation) / stride of dy
//
// A thread copies a block of rows into its scratch with the zero rim that it needs (L2-sized; nothing is copied where
// there is no padding), lists its pixels, and hands them with one panel of packed weights after the other to
// kernels().indirect_block, which reads the patches in place. Rows of taps that lie in the rim are skipped.

#include <cstring>
#include <vector>

#include "conv2d.h"
#include "dispatch.h"
#include "parallel.h"
#include "workspace.h"

namespace pycnn::direct {
namespace {

struct Tap {
    int64_t dh, dw;  // in the padded image, never negative
    int64_t kh, kw;  // in the weight
};

struct Correlation {
    const float* in;  // [N][H][W][C]
    int64_t N, H, W, C;
    int64_t top, left, step_h, step_w;
    std::vector<Tap> taps;  // by dh, then dw

    float* out;  // [N][out_H][out_W][out_C]
    int64_t out_H, out_W, out_C, rows, cols, out_step_h, out_step_w, out_row, out_col;

    int64_t groups;       // input channels and output channels are cut into this many equal parts
    const float* packed;  // [groups][panels][K][NR]
    Epilogue epilogue;

    int64_t K() const { return static_cast<int64_t>(taps.size()) * (C / groups); }
    int64_t group_out() const { return out_C / groups; }
    int64_t panels() const { return ceil_div(group_out(), kernels().NR); }
    int64_t last_dh() const { return taps.empty() ? 0 : taps.back().dh; }
    int64_t last_dw() const {
        int64_t last = 0;
        for (const Tap& t : taps) last = std::max(last, t.dw);
        return last;
    }
    bool in_place() const {
        return top == 0 && left == 0 && (rows - 1) * step_h + last_dh() < H && (cols - 1) * step_w + last_dw() < W;
    }
    int64_t padded_W() const { return in_place() ? W : std::max(left + W, (cols - 1) * step_w + last_dw() + 1); }
};

// Rows [p0, p1) of padded image n, C channels wide.
void copy_padded(float* to, const Correlation& s, int64_t n, int64_t p0, int64_t p1, int64_t Wp) {
    for (int64_t p = p0; p < p1; ++p, to += Wp * s.C) {
        const int64_t h = p - s.top;
        if (h < 0 || h >= s.H) {
            std::memset(to, 0, sizeof(float) * Wp * s.C);
            continue;
        }
        std::memset(to, 0, sizeof(float) * s.left * s.C);
        std::memcpy(to + s.left * s.C, s.in + (n * s.H + h) * s.W * s.C, sizeof(float) * s.W * s.C);
        std::memset(to + (s.left + s.W) * s.C, 0, sizeof(float) * (Wp - s.left - s.W) * s.C);
    }
}

// The pixels of one block: where each reads, where it writes, and which k are not in the rim above or below.
struct Pixels {
    std::vector<const float*> in;
    std::vector<float*> out;
    std::vector<int64_t> k_begin, k_end;
    std::vector<const float*> a;
    std::vector<float*> c;
};

void list_row(Pixels& pixels, const Correlation& s, const float* row_start, int64_t n, int64_t r) {
    const int64_t Cg = s.C / s.groups;
    int64_t first = s.K(), end = 0;
    for (int64_t t = 0; t < static_cast<int64_t>(s.taps.size()); ++t) {
        const int64_t h = r * s.step_h + s.taps[t].dh - s.top;
        if (h < 0 || h >= s.H) continue;
        first = std::min(first, t * Cg);
        end = (t + 1) * Cg;
    }
    float* out = s.out + ((n * s.out_H + r * s.out_step_h + s.out_row) * s.out_W + s.out_col) * s.out_C;
    for (int64_t q = 0; q < s.cols; ++q) {
        pixels.in.push_back(row_start + q * s.step_w * s.C);
        pixels.out.push_back(out + q * s.out_step_w * s.out_C);
        pixels.k_begin.push_back(first);
        pixels.k_end.push_back(end);
    }
}

// Output rows [begin, end) of the flattened (n, row), through panels [panel_begin, panel_end) of the flattened (g,
// panel).
void run_rows(const Correlation& s, const int64_t* offset, int64_t begin, int64_t end, int64_t panel_begin,
              int64_t panel_end) {
    // About 196 pixels a block: 14 tiles of 14, 33 of 6; their padded rows (1 to 170 KB in the lecture) stay in L2.
    constexpr int64_t kPixels = 196;
    const int64_t block = std::max<int64_t>(kPixels / s.cols, 1), NR = kernels().NR, Cg = s.C / s.groups;
    const int64_t Wp = s.padded_W(), panels = s.panels(), halo = s.last_dh() + 1;
    const bool in_place = s.in_place();
    Pixels pixels;
    for (int64_t first = begin; first < end; first += block) {
        const int64_t last = std::min(first + block, end);
        pixels.in.clear(), pixels.out.clear(), pixels.k_begin.clear(), pixels.k_end.clear();
        const int64_t images = (last - 1) / s.rows - first / s.rows + 1;
        float* room =
            in_place ? nullptr : scratch(Scratch::padded, ((last - first) * s.step_h + images * halo) * Wp * s.C);
        for (int64_t at = first; at < last;) {  // the part of this block in each image
            const int64_t n = at / s.rows, r0 = at % s.rows, r1 = std::min(r0 + last - at, s.rows);
            const float* start = s.in + (n * s.H + r0 * s.step_h) * s.W * s.C;
            if (!in_place) {
                const int64_t padded_rows = (r1 - 1 - r0) * s.step_h + halo;
                copy_padded(room, s, n, r0 * s.step_h, r0 * s.step_h + padded_rows, Wp);
                start = room;
                room += padded_rows * Wp * s.C;
            }
            for (int64_t r = r0; r < r1; ++r) list_row(pixels, s, start + (r - r0) * s.step_h * Wp * s.C, n, r);
            at += r1 - r0;
        }
        const int64_t count = static_cast<int64_t>(pixels.in.size());
        pixels.a.resize(count), pixels.c.resize(count);
        for (int64_t panel = panel_begin; panel < panel_end; ++panel) {
            const int64_t g = panel / panels, jr = panel % panels * NR, oc = g * s.group_out() + jr;
            for (int64_t i = 0; i < count; ++i) {
                pixels.a[i] = pixels.in[i] + g * Cg;
                pixels.c[i] = pixels.out[i] + oc;
            }
            kernels().indirect_block({pixels.c.data(), pixels.a.data(), count, std::min(NR, s.group_out() - jr), offset,
                                      s.packed + panel * s.K() * NR, NR, s.K(), pixels.k_begin.data(),
                                      pixels.k_end.data(), s.epilogue.bias ? s.epilogue.bias + oc : nullptr,
                                      s.epilogue.relu, false});
        }
    }
}

void run(const Correlation& s) {
    if (s.N * s.rows == 0 || s.cols == 0) return;
    const int64_t Cg = s.C / s.groups, Wp = s.padded_W(), panels = s.groups * s.panels();
    std::vector<int64_t> offset;
    for (const Tap& t : s.taps)
        for (int64_t c = 0; c < Cg; ++c) offset.push_back((t.dh * Wp + t.dw) * s.C + c);
    const double row_flop = 2.0 * s.cols * s.K() * s.out_C;
    constexpr int64_t kFewRows = 32;
    if (s.N * s.rows >= kFewRows || panels == 1) {
        parallel_for(s.N * s.rows, grain_units(kGrainFlop, row_flop),
                     [&](int64_t begin, int64_t end) { run_rows(s, offset.data(), begin, end, 0, panels); });
    } else {  // a small batch of small images: threads take channels
        parallel_for(panels, grain_units(kGrainFlop, row_flop * s.N * s.rows / panels),
                     [&](int64_t begin, int64_t end) { run_rows(s, offset.data(), 0, s.N * s.rows, begin, end); });
    }
}

// weight [taps][Cg][OC] as panels [K = taps x Cg][NR] of each group's output channels.
const float* pack_forward(const float* weight, const Conv2dShape& s) {
    const int64_t NR = kernels().NR, panels = ceil_div(s.group_OC(), NR), K = s.taps() * s.group_C();
    float* packed = scratch(Scratch::weights, s.groups * panels * K * NR);
    parallel_for(s.groups * panels, grain_units(kGrainBytes, 8.0 * K * NR), [&](int64_t begin, int64_t end) {
        for (int64_t p = begin; p < end; ++p) {
            const int64_t g = p / panels, jr = p % panels * NR;
            kernels().gemm_pack_b(packed + p * K * NR, {weight + g * s.group_OC() + jr, s.OC, 1}, K,
                                  std::min(NR, s.group_OC() - jr));
        }
    });
    return packed;
}

// The same weight as panels [K = these taps x OCg][NR] of each group's input channels.
const float* pack_backward(const float* weight, const Conv2dShape& s, const std::vector<Tap>& taps) {
    const int64_t NR = kernels().NR, Cg = s.group_C(), OCg = s.group_OC(), panels = ceil_div(Cg, NR);
    const int64_t T = static_cast<int64_t>(taps.size()), K = T * OCg;
    float* packed = scratch(Scratch::weights, std::max<int64_t>(s.groups * panels * K * NR, 1));
    parallel_for(s.groups * panels * T, grain_units(kGrainBytes, 16.0 * OCg * NR), [&](int64_t begin, int64_t end) {
        for (int64_t unit = begin; unit < end; ++unit) {
            const int64_t t = unit % T, p = unit / T, g = p / panels, jr = p % panels * NR;
            const float* tap = weight + ((taps[t].kh * s.KW + taps[t].kw) * Cg + jr) * s.OC + g * OCg;
            kernels().gemm_pack_b(packed + p * K * NR + t * OCg * NR, {tap, 1, s.OC}, OCg, std::min(NR, Cg - jr));
        }
    });
    return packed;
}

struct AxisTap {
    int64_t shift, k;  // dy row of output row r of the phase: r + shift; tap k of the weight
};

// The taps along one axis that meet phase `phase` of dx, in ascending order of their row of dy.
std::vector<AxisTap> taps_of_phase(int64_t phase, int64_t before, int64_t kernel, int64_t stride, int64_t dilation) {
    std::vector<AxisTap> taps;
    for (int64_t k = kernel - 1; k >= 0; --k)
        if ((phase + before - k * dilation) % stride == 0)
            taps.push_back({(phase + before - k * dilation) / stride, k});
    return taps;
}

}  // namespace

void forward(float* y, const float* x, const float* weight, const Conv2dShape& s, const Epilogue& epilogue) {
    Correlation p{};
    p.in = x, p.N = s.N, p.H = s.H, p.W = s.W, p.C = s.C;
    p.top = s.pad.top, p.left = s.pad.left, p.step_h = s.stride_h, p.step_w = s.stride_w;
    for (int64_t kh = 0; kh < s.KH; ++kh)
        for (int64_t kw = 0; kw < s.KW; ++kw) p.taps.push_back({kh * s.dilation_h, kw * s.dilation_w, kh, kw});
    p.out = y, p.out_H = p.rows = s.OH(), p.out_W = p.cols = s.OW(), p.out_C = s.OC;
    p.out_step_h = p.out_step_w = 1;
    p.groups = s.groups, p.packed = pack_forward(weight, s), p.epilogue = epilogue;
    run(p);
}

void backward_input(float* dx, const float* dy, const float* weight, const Conv2dShape& s) {
    for (int64_t ph = 0; ph < std::min(s.stride_h, s.H); ++ph)
        for (int64_t pw = 0; pw < std::min(s.stride_w, s.W); ++pw) {
            const auto rows = taps_of_phase(ph, s.pad.top, s.KH, s.stride_h, s.dilation_h);
            const auto cols = taps_of_phase(pw, s.pad.left, s.KW, s.stride_w, s.dilation_w);
            Correlation p{};
            p.in = dy, p.N = s.N, p.H = s.OH(), p.W = s.OW(), p.C = s.OC;
            p.top = rows.empty() ? 0 : std::max<int64_t>(-rows.front().shift, 0);
            p.left = cols.empty() ? 0 : std::max<int64_t>(-cols.front().shift, 0);
            p.step_h = p.step_w = 1;
            for (const AxisTap& h : rows)
                for (const AxisTap& w : cols) p.taps.push_back({h.shift + p.top, w.shift + p.left, h.k, w.k});
            p.out = dx, p.out_H = s.H, p.out_W = s.W, p.out_C = s.C;
            p.rows = ceil_div(s.H - ph, s.stride_h), p.cols = ceil_div(s.W - pw, s.stride_w);
            p.out_step_h = s.stride_h, p.out_step_w = s.stride_w, p.out_row = ph, p.out_col = pw;
            p.groups = s.groups, p.packed = pack_backward(weight, s, p.taps);
            run(p);
        }
}

}  // namespace pycnn::direct
