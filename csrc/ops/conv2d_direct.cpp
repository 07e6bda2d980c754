// Direct convolution, forward and gradient of the input: one routine, since both are correlations.
//
//   out[n][r*os + r0][q*os + q0][:] = sum over taps (i, j), channels c of
//                                     in[n][r*step - top + dh_i][q*step - left + dw_j][c] * B[i][j][c][:]
//
//   forward          in = x, step = stride, taps (kh*dilation, kw*dilation); out = y, dense (os = 1)
//   backward_input   in = dy, step = 1; for each of the stride_h * stride_w phases of the pixels of dx, the taps that
//                    meet it (h + top - kh*dilation divisible by the stride), at row (h + top - kh*dilation) / stride
//
// A thread takes a block of output rows whose input stays in L2, sorts its pixels by the taps that lie inside the image
// (for 3x3 with a rim of one: corners, edges, the rest) and hands each sort with one panel of packed weights after the
// other to kernels().indirect_block. So the patches are read in place, no image is copied, and no product with a
// zero of the padding is computed. Where the sorts are too small to fill register tiles (one small image), the block is
// copied with its zero rim instead and all its pixels are of one sort.

#include <cstring>
#include <vector>

#include "conv2d.h"
#include "conv2d_axis.h"
#include "conv2d_depthwise.h"
#include "conv2d_first.h"
#include "conv2d_pack.h"
#include "dispatch.h"
#include "parallel.h"
#include "workspace.h"

namespace pycnn::direct {
namespace {

struct Correlation {
    const float* in;  // [N][h.size][w.size][C]
    int64_t N, C;
    Axis h, w;

    float* out;  // [N][out_H][out_W][out_C]
    int64_t out_H, out_W, out_C, out_step_h, out_step_w, out_row, out_col;

    int64_t groups;       // input channels and output channels are cut into this many equal parts
    const float* packed;  // [groups][panels][K][NR]
    Epilogue epilogue;

    int64_t taps() const { return h.taps_count() * w.taps_count(); }
    int64_t group_in() const { return C / groups; }
    int64_t group_out() const { return out_C / groups; }
    int64_t K() const { return taps() * group_in(); }
    int64_t panels() const { return ceil_div(group_out(), kernels().NR); }
    float* out_at(int64_t n, int64_t r, int64_t q) const {
        return out + ((n * out_H + r * out_step_h + out_row) * out_W + q * out_step_w + out_col) * out_C;
    }
};

// offset[k] of tap (i, j), channel c in an image of rows of W pixels.
std::vector<int64_t> tap_offsets(const Correlation& s, int64_t W) {
    std::vector<int64_t> offset;
    for (const Tap& i : s.h.taps)
        for (const Tap& j : s.w.taps)
            for (int64_t c = 0; c < s.group_in(); ++c) offset.push_back((i.d * W + j.d) * s.C + c);
    return offset;
}

struct Pixels {  // of one sort in one block: where each reads its first tap and where it writes
    std::vector<const float*> in;
    std::vector<float*> out;
    std::vector<const float*> a;  // the same for one panel
    std::vector<float*> c;

    void clear() { in.clear(), out.clear(); }
    int64_t count() const { return static_cast<int64_t>(in.size()); }
};

// One sort of pixels through panels [begin, end) of the flattened (g, panel).
void run_panels(const Correlation& s, Pixels& pixels, const std::vector<int64_t>& offset,
                const std::vector<Steps>& steps, int64_t begin, int64_t end) {
    const int64_t NR = kernels().NR, count = pixels.count(), panels = s.panels();
    pixels.a.resize(count), pixels.c.resize(count);
    for (int64_t panel = begin; panel < end; ++panel) {
        const int64_t g = panel / panels, jr = panel % panels * NR, oc = g * s.group_out() + jr;
        for (int64_t i = 0; i < count; ++i) {
            pixels.a[i] = pixels.in[i] + g * s.group_in();
            pixels.c[i] = pixels.out[i] + oc;
        }
        kernels().indirect_block({pixels.c.data(), pixels.a.data(), count, std::min(NR, s.group_out() - jr),
                                  offset.data(), s.packed + panel * s.K() * NR, NR, steps.data(),
                                  static_cast<int64_t>(steps.size()), s.epilogue.bias ? s.epilogue.bias + oc : nullptr,
                                  s.epilogue.relu, false});
    }
}

// The k of the taps that lie inside for this sort of rows and of columns: one range where whole rows of taps do.
void list_steps(std::vector<Steps>& steps, const Correlation& s, const Sort& rows, const Sort& cols) {
    const int64_t across = s.w.taps_count(), Cg = s.group_in();
    steps.clear();
    if (cols.first == cols.last || rows.first == rows.last) return;
    if (cols.last - cols.first == across) {
        steps.push_back({rows.first * across * Cg, rows.last * across * Cg});
        return;
    }
    for (int64_t i = rows.first; i < rows.last; ++i)
        steps.push_back({(i * across + cols.first) * Cg, (i * across + cols.last) * Cg});
}

struct Block {  // output rows [begin, end) of the flattened (n, row), through these panels
    int64_t begin, end, panel_begin, panel_end;
};

// Visits (n, rows) of a block that lie in [r_begin, r_end) of their image.
template <class Visit>
void for_rows_of(const Block& b, const Axis& h, int64_t r_begin, int64_t r_end, Visit&& visit) {
    for (int64_t n = b.begin / h.outputs; n * h.outputs < b.end; ++n) {
        const int64_t r0 = std::max(b.begin - n * h.outputs, r_begin), r1 = std::min(b.end - n * h.outputs, r_end);
        if (r0 < r1) visit(n, r0, r1);
    }
}

// In place, one sort after the other.
void run_sorts(const Correlation& s, const Block& b, const std::vector<int64_t>& offset, Pixels& pixels) {
    std::vector<Steps> steps;
    for (const Sort& rows : s.h.sorts)
        for (const Sort& cols : s.w.sorts) {
            pixels.clear();
            for_rows_of(b, s.h, rows.begin, rows.end, [&](int64_t n, int64_t r0, int64_t r1) {
                for (int64_t r = r0; r < r1; ++r)
                    for (int64_t q = cols.begin; q < cols.end; ++q) {
                        const int64_t h = r * s.h.step - s.h.before, w = q * s.w.step - s.w.before;
                        pixels.in.push_back(s.in + ((n * s.h.size + h) * s.w.size + w) * s.C);
                        pixels.out.push_back(s.out_at(n, r, q));
                    }
            });
            if (pixels.count() == 0) continue;
            list_steps(steps, s, rows, cols);
            run_panels(s, pixels, offset, steps, b.panel_begin, b.panel_end);
        }
}

// Rows [p0, p1) of padded image n.
void copy_padded(float* to, const Correlation& s, int64_t n, int64_t p0, int64_t p1) {
    const int64_t before = s.w.before * s.C, inside = s.w.size * s.C, row = s.w.padded() * s.C;
    for (int64_t p = p0; p < p1; ++p, to += row) {
        const int64_t h = p - s.h.before;
        if (h < 0 || h >= s.h.size) {
            std::memset(to, 0, sizeof(float) * row);
            continue;
        }
        std::memset(to, 0, sizeof(float) * before);
        std::memcpy(to + before, s.in + (n * s.h.size + h) * inside, sizeof(float) * inside);
        std::memset(to + before + inside, 0, sizeof(float) * (row - before - inside));
    }
}

// With a zero rim, all pixels as one sort.
void run_padded(const Correlation& s, const Block& b, const std::vector<int64_t>& offset, Pixels& pixels) {
    const int64_t row = s.w.padded() * s.C, halo = s.h.last_d() + 1;
    const int64_t images = (b.end - 1) / s.h.outputs - b.begin / s.h.outputs + 1;
    float* room = scratch(Scratch::padded, ((b.end - b.begin) * s.h.step + images * halo) * row);
    pixels.clear();
    for_rows_of(b, s.h, 0, s.h.outputs, [&](int64_t n, int64_t r0, int64_t r1) {
        const int64_t rows = (r1 - 1 - r0) * s.h.step + halo;
        copy_padded(room, s, n, r0 * s.h.step, r0 * s.h.step + rows);
        for (int64_t r = r0; r < r1; ++r)
            for (int64_t q = 0; q < s.w.outputs; ++q) {
                pixels.in.push_back(room + ((r - r0) * s.h.step * s.w.padded() + q * s.w.step) * s.C);
                pixels.out.push_back(s.out_at(n, r, q));
            }
        room += rows * row;
    });
    run_panels(s, pixels, offset, {{0, s.K()}}, b.panel_begin, b.panel_end);
}

// Whether the sorts of this block fill register tiles better than one padded sort of all pixels: tiles times taps.
bool sorts_pay(const Correlation& s, const Block& b) {
    const int64_t MR = kernels().MR;
    int64_t sorted = 0, all = 0;
    for (const Sort& rows : s.h.sorts) {
        int64_t count = 0;
        for_rows_of(b, s.h, rows.begin, rows.end, [&](int64_t, int64_t r0, int64_t r1) { count += r1 - r0; });
        for (const Sort& cols : s.w.sorts) {
            const int64_t pixels = count * (cols.end - cols.begin);
            sorted += ceil_div(pixels, MR) * (rows.last - rows.first) * (cols.last - cols.first);
            all += pixels;
        }
    }
    return sorted <= ceil_div(all, MR) * s.taps();
}

void run_blocks(const Correlation& s, const std::vector<int64_t>& in_place, const std::vector<int64_t>& padded,
                const Block& all) {
    // Rows whose input is about 256 KB, half of the smallest L2 that we tune for; the lists of pixels stay small too.
    constexpr int64_t kFloats = 65536, kPixels = 4096;
    const int64_t rows = std::max<int64_t>(
        std::min(kFloats / std::max<int64_t>(s.h.step * s.w.size * s.C, 1), kPixels / s.w.outputs), 1);
    Pixels pixels;
    Block b = all;
    for (b.begin = all.begin; b.begin < all.end; b.begin = b.end) {
        b.end = std::min(b.begin + rows, all.end);
        sorts_pay(s, b) ? run_sorts(s, b, in_place, pixels) : run_padded(s, b, padded, pixels);
    }
}

void run(Correlation& s) {
    if (s.N * s.h.outputs == 0 || s.w.outputs == 0) return;
    s.h.sort_outputs(), s.w.sort_outputs();
    const int64_t panels = s.groups * s.panels(), rows = s.N * s.h.outputs;
    const auto in_place = tap_offsets(s, s.w.size), padded = tap_offsets(s, s.w.padded());
    const double row_flop = 2.0 * s.w.outputs * s.K() * s.out_C;
    constexpr int64_t kFewRows = 32;
    if (rows >= kFewRows || panels == 1) {
        parallel_for(rows, grain_units(kGrainFlop, row_flop),
                     [&](int64_t begin, int64_t end) { run_blocks(s, in_place, padded, {begin, end, 0, panels}); });
    } else {  // a small batch of small images: threads take channels
        parallel_for(panels, grain_units(kGrainFlop, row_flop * rows / panels),
                     [&](int64_t begin, int64_t end) { run_blocks(s, in_place, padded, {0, rows, begin, end}); });
    }
}

std::vector<int64_t> weight_taps(const Axis& axis) {
    std::vector<int64_t> k;
    for (const Tap& t : axis.taps) k.push_back(t.k);
    return k;
}

}  // namespace

void forward(float* y, const float* x, const float* weight, const Conv2dShape& s, const Epilogue& epilogue) {
    if (depthwise::fits(s)) return depthwise::forward(y, x, weight, s, epilogue);
    if (first::fits(s)) return first::forward(y, x, weight, s, epilogue);
    Correlation p{};
    p.in = x, p.N = s.N, p.C = s.C;
    p.h = forward_axis(s.H, s.pad.top, s.KH, s.stride_h, s.dilation_h, s.OH());
    p.w = forward_axis(s.W, s.pad.left, s.KW, s.stride_w, s.dilation_w, s.OW());
    p.out = y, p.out_H = s.OH(), p.out_W = s.OW(), p.out_C = s.OC;
    p.out_step_h = p.out_step_w = 1;
    p.groups = s.groups, p.packed = pack_forward(weight, s), p.epilogue = epilogue;
    run(p);
}

void backward_input(float* dx, const float* dy, const float* weight, const Conv2dShape& s) {
    if (depthwise::fits(s)) return depthwise::backward_input(dx, dy, weight, s);
    if (first::fits_backward_input(s)) return first::backward_input(dx, dy, weight, s);
    for (int64_t ph = 0; ph < std::min(s.stride_h, s.H); ++ph)
        for (int64_t pw = 0; pw < std::min(s.stride_w, s.W); ++pw) {
            Correlation p{};
            p.in = dy, p.N = s.N, p.C = s.OC;
            p.h = backward_axis(ph, s.H, s.pad.top, s.KH, s.stride_h, s.dilation_h, s.OH());
            p.w = backward_axis(pw, s.W, s.pad.left, s.KW, s.stride_w, s.dilation_w, s.OW());
            p.out = dx, p.out_H = s.H, p.out_W = s.W, p.out_C = s.C;
            p.out_step_h = s.stride_h, p.out_step_w = s.stride_w, p.out_row = ph, p.out_col = pw;
            p.groups = s.groups, p.packed = pack_backward(weight, s, weight_taps(p.h), weight_taps(p.w));
            run(p);
        }
}

}  // namespace pycnn::direct
