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
// copied with its zero rim instead and all its pixels are of one sort: that shows where a weight is infinite, so the
// shape decides it, never the share of a thread.

#include "ops/conv2d/direct.h"

#include <cstring>
#include <vector>

#include "ops/conv2d/pack.h"
#include "ops/runtime/caches.h"
#include "ops/runtime/cut.h"
#include "ops/runtime/dispatch.h"
#include "ops/runtime/scratch.h"

namespace pycnn::direct {
namespace {

// One sort of pixels through panels [begin, end) of the flattened (g, panel). ahead: they come from memory.
void run_panels(const Correlation& s, Pixels& pixels, const std::vector<int64_t>& offset,
                const std::vector<Steps>& steps, int64_t begin, int64_t end, bool ahead) {
    const int64_t NR = kernels().NR, count = pixels.count(), panels = s.panels();
    pixels.a.resize(count), pixels.c.resize(count);
    for (int64_t panel = begin; panel < end; ++panel) {
        const int64_t g = panel / panels, jr = panel % panels * NR, oc = g * s.group_out() + jr;
        for (int64_t i = 0; i < count; ++i) {
            pixels.a[i] = pixels.in[i] + g * s.group_in();
            pixels.c[i] = pixels.out[i] + oc;
        }
        kernels().indirect_block({.c = pixels.c.data(),
                                  .a = pixels.a.data(),
                                  .rows = count,
                                  .columns = std::min(NR, s.group_out() - jr),
                                  .offset = offset.data(),
                                  .b = s.packed + panel * s.K() * NR,
                                  .ldb = NR,
                                  .steps = steps.data(),
                                  .ranges = static_cast<int64_t>(steps.size()),
                                  .epilogue = part_of(s.epilogue, oc, pixels.c[0] - s.out),
                                  .ahead = ahead && (panel == begin || jr == 0),
                                  .stream = s.stream});
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
                for (int64_t r = r0; r < r1; ++r) {
                    const int64_t h = r * s.h.step - s.h.before, w = cols.begin * s.w.step - s.w.before;
                    pixels.add(cols.end - cols.begin, s.in + ((n * s.h.size + h) * s.w.size + w) * s.C, s.w.step * s.C,
                               s.out_at(n, r, cols.begin), s.out_step_w * s.out_C);
                }
            });
            if (pixels.count() == 0) continue;
            list_steps(steps, s, rows, cols);
            run_panels(s, pixels, offset, steps, b.panel_begin, b.panel_end, s.taps() == 1);
        }
}

// Rows [p0, p1) of padded image n; floats between pixels are left as they are.
void copy_padded(float* to, const Correlation& s, int64_t n, int64_t p0, int64_t p1) {
    const int64_t pitch = s.pitch(), before = s.w.before * pitch, inside = s.w.size * s.C;
    const int64_t end = before + s.w.size * pitch, row = s.w.padded() * pitch;
    for (int64_t p = p0; p < p1; ++p, to += row) {
        const int64_t h = p - s.h.before;
        if (h < 0 || h >= s.h.size) {
            std::memset(to, 0, sizeof(float) * row);
            continue;
        }
        std::memset(to, 0, sizeof(float) * before);
        const float* from = s.in + (n * s.h.size + h) * inside;
        if (pitch == s.C)
            std::memcpy(to + before, from, sizeof(float) * inside);
        else
            for (int64_t w = 0; w < s.w.size; ++w)
                std::memcpy(to + before + w * pitch, from + w * s.C, sizeof(float) * s.C);
        std::memset(to + end, 0, sizeof(float) * (row - end));
    }
}

// With a zero rim, all pixels as one sort.
void run_padded(const Correlation& s, const Block& b, const std::vector<int64_t>& offset, Pixels& pixels) {
    const int64_t pitch = s.pitch(), row = s.w.padded() * pitch, halo = s.h.last_d() + 1;
    const int64_t images = (b.end - 1) / s.h.outputs - b.begin / s.h.outputs + 1;
    Scratch scratch;
    float* room = scratch.floats(((b.end - b.begin) * s.h.step + images * halo) * row);
    pixels.clear();
    for_rows_of(b, s.h, 0, s.h.outputs, [&](int64_t n, int64_t r0, int64_t r1) {
        const int64_t rows = (r1 - 1 - r0) * s.h.step + halo;
        copy_padded(room, s, n, r0 * s.h.step, r0 * s.h.step + rows);
        for (int64_t r = r0; r < r1; ++r)
            pixels.add(s.w.outputs, room + (r - r0) * s.h.step * row, s.w.step * pitch, s.out_at(n, r, 0),
                       s.out_step_w * s.out_C);
        room += rows * row;
    });
    run_panels(s, pixels, offset, {{0, s.K()}}, b.panel_begin, b.panel_end, false);
}

// Rows that the tiles of this many pixels compute: the last one may be a smaller one (kernels/indirect.cpp).
int64_t tile_rows(int64_t pixels) {
    const int64_t MR = kernels().MR, small = MR > 8 ? 4 : 2, rest = pixels % MR;
    return pixels - rest + std::min(MR, rest <= 2 * small ? ceil_div(rest, small) * small : MR);
}

// Whether the sorts of such a block fill register tiles better than one padded sort of all pixels: rows times taps.
bool sorts_pay(const Correlation& s, const Block& b) {
    int64_t sorted = 0, all = 0;
    for (const Sort& rows : s.h.sorts) {
        int64_t count = 0;
        for_rows_of(b, s.h, rows.begin, rows.end, [&](int64_t, int64_t r0, int64_t r1) { count += r1 - r0; });
        for (const Sort& cols : s.w.sorts) {
            const int64_t pixels = count * (cols.end - cols.begin);
            sorted += tile_rows(pixels) * (rows.last - rows.first) * (cols.last - cols.first);
            all += pixels;
        }
    }
    return sorted <= tile_rows(all) * s.taps();
}

// Nothing meets these pixels of dx.
void run_zeros(const Correlation& s, const Block& b) {
    for_rows_of(b, s.h, 0, s.h.outputs, [&](int64_t n, int64_t r0, int64_t r1) {
        for (int64_t r = r0; r < r1; ++r)
            for (int64_t q = 0; q < s.w.outputs; ++q) {
                float* out = s.out_at(n, r, q);
                std::memset(out, 0, sizeof(float) * s.out_C);
                kernels().finish({.y = out, .x = out, .rows = 1, .C = s.out_C, .epilogue = s.epilogue});
            }
    });
}

// The correlations that write one map: the forward direction, or the phases of dx. A phase has its rows of every
// stride_h rows of dx, so all have `rows` of them an image, or the last one less.
struct Job {
    std::vector<Correlation> phases;
    std::vector<std::vector<int64_t>> in_place, padded;  // offsets of each
    std::vector<bool> sorts;                             // by phase; else padded
    int64_t rows;
    int64_t most;  // rows of a block

    // The rows of phase `s` among the flattened (n, row) below `at`.
    int64_t row(const Correlation& s, int64_t at) const {
        return at / rows * s.h.outputs + std::min(at % rows, s.h.outputs);
    }
};

// Rows whose input is about 256 KB; the lists of pixels stay small too. Half of that takes 2 to 6 % longer with one tap
// and a large map, twice that the same time, so it does not follow L2 (Zen 4, two threads). Twice that where the filter is larger than most L2, since each block streams all of it (16x7x7x1024->1024, one
// thread: 15.6 ms, else 16.7). With one tap the output counts as well, which is then as large: its panels are written
// one after the other, and lines of a pixel should meet in memory (16x112x112x32->64 on two threads of a Zen 4:
// 1.1 times faster, medians of two runs, 16x56x56x64->128 1.03 to 1.06).
int64_t most_rows(const Correlation& s) {
    constexpr int64_t kFloats = 65536, kPixels = 4096, kFilter = int64_t{1} << 19;
    const int64_t floats = s.K() * s.group_out() > kFilter ? 2 * kFloats : kFloats;
    int64_t row = s.h.step * s.w.size * s.C;
    if (s.taps() == 1) row += s.w.outputs * s.out_C;
    return std::max<int64_t>(std::min(floats / std::max<int64_t>(row, 1), kPixels / s.w.outputs), 1);
}

// Every phase through one block of rows before the next block: its part of dx is written while it is in L2.
void run_blocks(const Job& job, const Block& all) {
    Pixels pixels;
    const int64_t count = all.end - all.begin, blocks = ceil_div(count, job.most);  // of equal size
    for (int64_t block = 0; block < blocks; ++block) {
        const int64_t begin = all.begin + count * block / blocks, end = all.begin + count * (block + 1) / blocks;
        for (std::size_t i = 0; i < job.phases.size(); ++i) {
            const Correlation& s = job.phases[i];
            const Block b{job.row(s, begin), job.row(s, end), all.panel_begin, all.panel_end};
            if (b.begin == b.end) continue;
            if (s.taps() == 0) {
                if (b.panel_begin == 0) run_zeros(s, b);
            } else if (job.sorts[i]) {
                run_sorts(s, b, job.in_place[i], pixels);
            } else {
                run_padded(s, b, job.padded[i], pixels);
            }
        }
    }
}

void run(Job& job, int64_t like) {
    double flop = 0, bytes = 0;
    job.rows = 0;
    for (Correlation& s : job.phases) {
        s.h.sort_outputs(), s.w.sort_outputs();
        s.stream = streams(s.out, s.N * s.out_H * s.out_W * s.out_C, s.group_out()) && !reads_again(s.epilogue);
        job.in_place.push_back(tap_offsets(s, s.w.size, s.C));
        job.padded.push_back(tap_offsets(s, s.w.padded(), s.pitch()));
        job.rows = std::max(job.rows, s.h.outputs);
        flop += 2.0 * s.w.outputs * s.K() * s.out_C;  // a row
        bytes += 4.0 * s.w.outputs * s.out_C;
    }
    if (job.phases.empty() || job.rows == 0) return;
    const Correlation& any = job.phases.front();
    const int64_t panels = any.groups * any.panels(), rows = any.N * job.rows;
    if (rows == 0) return;
    job.most = most_rows(any);
    // Of `like` images, so that an image has the same bits wherever a caller's thread cuts its batch.
    const int64_t typical = std::min(job.most, std::max(like, any.N) * job.rows);
    for (const Correlation& s : job.phases)
        job.sorts.push_back(!s.collide() && sorts_pay(s, {0, job.row(s, typical), 0, 0}));
    const double row_cost = flop + bytes * (kGrainFlop / kGrainBytes);
    parallel_rectangles(cut_direct(rows, panels), kGrainFlop, row_cost * static_cast<double>(rows),
                        [&](int64_t r0, int64_t r1, int64_t p0, int64_t p1) { run_blocks(job, {r0, r1, p0, p1}); });
}

std::vector<int64_t> weight_taps(const Axis& axis) {
    std::vector<int64_t> k;
    for (const Tap& t : axis.taps) k.push_back(t.k);
    return k;
}

}  // namespace

static void forward(const Conv2dForward& call) {
    const Conv2dShape& s = call.shape;
    Correlation p{};
    p.in = call.x, p.N = s.N, p.C = s.C;
    p.h = forward_axis(s.along_h());
    p.w = forward_axis(s.along_w());
    p.out = call.y, p.out_H = s.OH(), p.out_W = s.OW(), p.out_C = s.OC;
    p.out_step_h = p.out_step_w = 1;
    p.groups = s.groups, p.packed = call.packed, p.epilogue = call.epilogue;
    if (p.w.outputs == 0) return;
    Job job{{p}, {}, {}, {}, 0, 0};
    run(job, call.like);
}

// Of each phase, with its first pixel.
template <class Visit>
static void for_phases(const Conv2dShape& s, Visit&& visit) {
    for (int64_t ph = 0; ph < std::min(s.stride_h, s.H); ++ph)
        for (int64_t pw = 0; pw < std::min(s.stride_w, s.W); ++pw)
            visit(ph, pw, backward_axis(s.along_h(), ph), backward_axis(s.along_w(), pw));
}

static int64_t packed_tap(const Conv2dShape& s) {
    return s.groups * ceil_div(s.group_C(), kernels().NR) * s.group_OC() * kernels().NR;
}

// A tap belongs to one phase at most.
static int64_t packed_input_floats(const Conv2dShape& s) { return std::max<int64_t>(s.taps() * packed_tap(s), 1); }

static void pack_input(float* packed, const float* weight, const Conv2dShape& s) {
    for_phases(s, [&](int64_t, int64_t, const Axis& h, const Axis& w) {
        pack_backward(packed, {.weight = weight, .shape = s, .kh = weight_taps(h), .kw = weight_taps(w)});
        packed += h.taps_count() * w.taps_count() * packed_tap(s);
    });
}

static void backward_input(const Conv2dBackwardInput& call) {
    const Conv2dShape& s = call.shape;
    Scratch scratch;
    const float* packed = call.packed;
    if (!packed) {
        float* room = scratch.floats(packed_input_floats(s));
        pack_input(room, call.weight, s);
        packed = room;
    }
    Job job{};
    for_phases(s, [&](int64_t ph, int64_t pw, const Axis& h, const Axis& w) {
        Correlation p{};
        p.in = call.dy, p.N = s.N, p.C = s.OC, p.h = h, p.w = w;
        p.out = call.dx, p.out_H = s.H, p.out_W = s.W, p.out_C = s.C;
        p.out_step_h = s.stride_h, p.out_step_w = s.stride_w, p.out_row = ph, p.out_col = pw;
        p.groups = s.groups, p.packed = packed, p.epilogue = call.epilogue;
        packed += p.taps() * packed_tap(s);
        job.phases.push_back(p);
    });
    run(job, s.N);
}

// Vectors run over the output channels of a group (in backward_input its input channels), so a narrow one leaves lanes
// empty.
static double cost(const Conv2dShape& s, Direction direction, bool) {
    const int64_t columns = direction == Direction::backward_input ? s.group_C() : s.group_OC();
    return inner_products(s) * static_cast<double>(ceil_div(columns, 16) * 16) / static_cast<double>(columns);
}

static Cut cut(const Conv2dShape& s, Direction direction) {
    if (direction == Direction::backward_weight) return cut_units(weight_units(s));
    const bool back = direction == Direction::backward_input;
    return cut_direct(s.N * (back ? ceil_div(s.H, s.stride_h) : s.OH()),
                      s.groups * ceil_div(back ? s.group_C() : s.group_OC(), kernels().NR));
}

const Algorithm algorithm = {.name = "direct",
                             .reason = "patches are read in place, so no im2col buffer is written",
                             .computes = "any convolution",
                             .fits = [](const Conv2dShape&, Direction) { return true; },
                             .cost = cost,
                             .cut = cut,
                             .forward = forward,
                             .backward_input = backward_input,
                             .backward_weight = backward_weight,
                             .finishes_input = true,
                             .crops = true,
                             .packed_floats = packed_forward_floats,
                             .pack = pack_forward,
                             .packed_input_floats = packed_input_floats,
                             .pack_input = pack_input};

}  // namespace pycnn::direct
