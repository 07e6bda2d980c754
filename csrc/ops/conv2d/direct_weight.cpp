// Direct convolution, gradient of the weight: a product of patches and dy that never builds the patches.
//
//   dweight[(kh, kw, c)][oc] = sum over pixels (n, oh, ow) of padded[n][oh*s + kh*d][ow*s + kw*d][c] * dy[n][oh][ow][oc]
//
// Rows of the product are (kh, kw, c), its depth the pixels. Each thread owns some tiles of dweight and adds all pixels
// to them, a block of pixels after the other, so that a block of x and dy is in L2 for all its tiles. No tile is shared,
// so there is nothing to reduce, and its owner begins with zero (were all set to zero before, one core would hold their
// lines: 27x27x64->192 5x5, two threads of a Zen 4: 2385 us, now 2257). Only a dweight too small for that is computed in
// slots of the batch, whose number depends on the shape alone, and the slots are added in order. Pixels are added in
// order, so the bits are the same.
//
// Where there is a rim and the channels fill tiles, a tile has rows of one tap and leaves out the pixels whose tap lies
// outside, so x is read in place. Else all threads first copy the images with a zero rim; with slots few threads or one
// meet a block, so each copies it just before use, into L2.

#include <cstring>
#include <vector>

#include "ops/conv2d/conv2d.h"
#include "ops/runtime/dispatch.h"
#include "ops/runtime/parallel.h"
#include "ops/runtime/scratch.h"

namespace pycnn::direct {
namespace {

struct Images {  // padded, or x itself
    const float* data;
    int64_t H, W, C;
    int64_t top = 0, left = 0;  // of the rim that is not there
};

// Outputs along one axis whose tap k lies inside the image.
struct Inside {
    int64_t begin, end;
    int64_t count() const { return end - begin; }
};
Inside outputs_inside(int64_t size, int64_t before, int64_t tap, int64_t stride, int64_t outputs) {
    const int64_t begin = std::clamp<int64_t>(ceil_div(std::max<int64_t>(before - tap, 0), stride), 0, outputs);
    const int64_t end = ceil_div(std::max<int64_t>(size + before - tap, 0), stride);
    return {begin, std::clamp(end, begin, outputs)};
}
Inside columns_inside(const Conv2dShape& s, int64_t kw) {
    return outputs_inside(s.W, s.pad.left, kw * s.dilation_w, s.stride_w, s.OW());
}

// Whether tiles of one tap each, in place, cost no more than tiles of all rows over images with a rim: rows of tiles
// times pixels. A range of pixels costs one more. By one tile height for every machine: 14 rows, or the last 8 or 4.
bool in_place_pays(const Conv2dShape& s) {
    if (!s.padded()) return false;
    if (s.crops()) return true;  // there is no rim to copy
    const auto tile_rows = [](int64_t rows) {
        const int64_t rest = rows % 14;
        return rows - rest + (rest > 8 ? 14 : ceil_div(rest, 4) * 4);
    };
    int64_t pixels = 0;
    for (int64_t kh = 0; kh < s.KH; ++kh)
        for (int64_t kw = 0; kw < s.KW; ++kw) {
            const int64_t rows = outputs_inside(s.H, s.pad.top, kh * s.dilation_h, s.stride_h, s.OH()).count();
            const int64_t columns = columns_inside(s, kw).count();
            pixels += rows * (columns == 0 || columns == s.OW() ? columns : columns + 1);
        }
    return pixels * tile_rows(s.group_C()) <= s.OH() * s.OW() * tile_rows(s.taps() * s.group_C());
}

// Row h of image n, perhaps in the rim, with its zeros left and right.
void pad_row(float* to, const float* x, const Conv2dShape& s, int64_t n, int64_t h) {
    const int64_t before = s.pad.left * s.C, inside = s.W * s.C, row = before + inside + s.pad.right * s.C;
    if (h < 0 || h >= s.H) {
        std::memset(to, 0, sizeof(float) * row);
        return;
    }
    std::memset(to, 0, sizeof(float) * before);
    std::memcpy(to + before, x + (n * s.H + h) * inside, sizeof(float) * inside);
    std::memset(to + before + inside, 0, sizeof(float) * (row - before - inside));
}

Images pad_images(Scratch& scratch, const float* x, const Conv2dShape& s, int64_t n0, int64_t n1) {
    if (!s.padded()) return {x + n0 * s.H * s.W * s.C, s.H, s.W, s.C};
    const int64_t Hp = s.H + s.pad.top + s.pad.bottom, Wp = s.W + s.pad.left + s.pad.right, row = Wp * s.C;
    float* padded = scratch.floats((n1 - n0) * Hp * row);
    parallel_for((n1 - n0) * Hp, grain_units(kGrainBytes, 8.0 * row), [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r) pad_row(padded + r * row, x, s, n0 + r / Hp, r % Hp - s.pad.top);
    });
    return {padded, Hp, Wp, s.C};
}

struct Problem {
    const Conv2dShape& s;
    const float *x, *dy;
    float* slots;          // [S][taps * Cg][OC]
    int64_t S, M, panels;  // slots; rows (kh, kw, c) of a group; panels of NR columns of a group
    bool in_place;         // though there is a rim: pixels are left out
    int64_t bands, tiles;  // the M rows are cut into bands of one tap (or are one band), a band into tiles of MR
    int64_t n0, n1;        // images of this chunk
    Images images;         // no data: each block is copied on its own
    std::vector<int64_t> row_offset;  // [M]
};

// The rows (n, oh) of this chunk that slot `slot` adds.
struct Rows {
    int64_t begin, end;
};
Rows rows_of_slot(const Problem& p, int64_t slot) {
    const int64_t OH = p.s.OH(), all = p.s.N * OH;
    return {std::max(slot * all / p.S, p.n0 * OH), std::min((slot + 1) * all / p.S, p.n1 * OH)};
}

// The pixels of rows [first, last) that a band needs, counted from the first one.
void list_steps(std::vector<Steps>& steps, const Problem& p, int64_t band, int64_t first, int64_t last) {
    const Conv2dShape& s = p.s;
    const int64_t OH = s.OH(), OW = s.OW();
    const Inside cols = p.in_place ? columns_inside(s, band % s.KW) : Inside{0, OW};
    steps.clear();
    for (int64_t row = first; row < last; ++row) {
        const int64_t h = row % OH * s.stride_h + band / s.KW * s.dilation_h - s.pad.top, at = (row - first) * OW;
        if (p.in_place && (h < 0 || h >= s.H)) continue;
        if (steps.empty() || steps.back().end != at + cols.begin) steps.push_back({at + cols.begin, 0});
        steps.back().end = at + cols.end;
    }
}

// Where each pixel of rows [first, last) reads its first tap, from the pointer that is returned.
const float* find_pixels(Scratch& scratch, std::vector<int64_t>& offset, const Problem& p, int64_t first,
                         int64_t last) {
    const Conv2dShape& s = p.s;
    const int64_t OH = s.OH(), width = p.images.W * s.C, tall = extent(s.KH, s.dilation_h);
    const bool copied = !p.images.data;
    const int64_t most = (last - first) * s.stride_h + ((last - 1) / OH - first / OH + 1) * tall;
    float* room = copied ? scratch.floats(most * width) : nullptr;
    offset.clear();
    for (int64_t row = first, at = 0; row < last;) {  // the rows of one image after the other
        const int64_t n = row / OH, oh = row % OH, count = std::min(last - row, OH - oh);
        if (!copied) at = ((n - p.n0) * p.images.H + oh * s.stride_h - p.images.top) * width - p.images.left * s.C;
        for (int64_t r = 0; r < count; ++r)
            for (int64_t ow = 0; ow < s.OW(); ++ow)
                offset.push_back(at + r * s.stride_h * width + ow * s.stride_w * s.C);
        const int64_t rows = (count - 1) * s.stride_h + tall;
        for (int64_t r = 0; copied && r < rows; ++r)
            pad_row(room + at + r * width, p.x, s, n, oh * s.stride_h - s.pad.top + r);
        at += rows * width, row += count;
    }
    return copied ? room : p.images.data;
}

// Tiles [begin, end) of one slot, counted through (group, panel, band, tile), over all its pixels.
void add_pixels(const Problem& p, int64_t slot, int64_t begin, int64_t end) {
    const Conv2dShape& s = p.s;
    const int64_t OH = s.OH(), OW = s.OW(), MR = kernels().MR, NR = kernels().NR, band_rows = p.M / p.bands;
    // With one tap more pixels fit in L1, and each visit of dweight does more (28x28x256->256: 2 % less time).
    const int64_t block = std::max<int64_t>((s.taps() == 1 ? 256 : 128) / OW, 1);
    const Rows rows = rows_of_slot(p, slot);
    Scratch scratch;
    float* packed = scratch.floats(block * OW * NR);
    std::vector<int64_t> offset;
    std::vector<std::vector<Steps>> steps(p.bands);
    std::vector<const float*> a(p.M);
    std::vector<float*> c(p.M);
    const int64_t fresh = slot * s.N * OH / p.S;  // the slot's first row: sums start here, from zero
    for (int64_t first = rows.begin; first < rows.end; first += block) {
        const int64_t last = std::min(first + block, rows.end), pixels = (last - first) * OW;
        Scratch of_block;
        const float* images = find_pixels(of_block, offset, p, first, last);
        for (int64_t band = 0; band < p.bands; ++band) list_steps(steps[band], p, band, first, last);
        // What the next block reads: its rows of dy, and of x unless the stride skips some. Each call brings its share.
        const int64_t next = std::min(last + block, rows.end);
        const int64_t h = std::max<int64_t>(last % OH * s.stride_h - p.images.top, 0);
        const Images from = p.images.data ? p.images : Images{p.x + p.n0 * s.H * s.W * s.C, s.H, s.W, s.C};
        const float* next_x = from.data + ((last / OH - p.n0) * from.H + h) * from.W * s.C;
        const float* next_dy = p.dy + last * OW * s.OC;
        const int64_t x_rows = s.stride_h > extent(s.KH, s.dilation_h) ? 0 : (next - last) * s.stride_h;
        const auto share = [&](const float* data, int64_t floats, int64_t first_unit, int64_t last_unit) {
            const int64_t lines = floats / 16, units = end - begin, line = lines * (first_unit - begin) / units;
            return Fetch{data + line * 16, lines * (last_unit - begin) / units - line};
        };
        int64_t packed_panel = -1;
        for (int64_t at = begin; at < end;) {
            const int64_t tile = at % p.tiles, band = at / p.tiles % p.bands, panel = at / p.tiles / p.bands;
            const int64_t count = std::min(end - at, p.tiles - tile);
            const int64_t g = panel / p.panels, jr = panel % p.panels * NR, oc = g * s.group_OC() + jr;
            const int64_t columns = std::min(NR, s.group_OC() - jr);
            const int64_t i0 = band * band_rows + tile * MR;
            const int64_t i1 = band * band_rows + std::min((tile + count) * MR, band_rows);
            const float* b = p.dy + first * OW * s.OC + oc;
            int64_t ldb = s.OC;
            // Packed where the last panel is ragged, and where a panel is a quarter of a row or less: in place, its
            // lines would share a quarter of L1.
            if (columns % 16 || s.OC >= 4 * NR) {
                if (panel != packed_panel) kernels().gemm_pack_b(packed, {b, s.OC, 1}, pixels, columns);
                b = packed, ldb = NR, packed_panel = panel;
            }
            for (int64_t i = i0; i < i1; ++i) {
                a[i] = images + p.row_offset[i] + g * s.group_C();
                c[i] = p.slots + (slot * p.M + i) * s.OC + oc;
            }
            kernels().indirect_block({.c = c.data() + i0,
                                      .a = a.data() + i0,
                                      .rows = i1 - i0,
                                      .columns = columns,
                                      .offset = offset.data(),
                                      .b = b,
                                      .ldb = ldb,
                                      .steps = steps[band].data(),
                                      .ranges = static_cast<int64_t>(steps[band].size()),
                                      .accumulate = first != fresh,
                                      .fetch = {share(next_x, x_rows * from.W * s.C, at, at + count),
                                                share(next_dy, (next - last) * OW * s.OC, at, at + count)}});
            at += count;
        }
    }
}

// How many slots: 1 where dweight alone has tiles for many threads, else up to 64. By the shape, never by the machine.
int64_t slot_count(const Conv2dShape& s) {
    constexpr int64_t kTiles = 64, kTileRows = 12, kTileColumns = 32;
    const int64_t tiles = s.groups * ceil_div(s.taps() * s.group_C(), kTileRows) * ceil_div(s.group_OC(), kTileColumns);
    return std::max<int64_t>(std::min(ceil_div(kTiles, tiles), s.N * s.OH()), 1);
}

int64_t tiles_of_slot(const Conv2dShape& s) {
    const int64_t bands = in_place_pays(s) ? s.taps() : 1, M = s.taps() * s.group_C();
    return s.groups * ceil_div(s.group_OC(), kernels().NR) * bands * ceil_div(M / bands, kernels().MR);
}

}  // namespace

int64_t weight_units(const Conv2dShape& s) { return slot_count(s) * tiles_of_slot(s); }

void backward_weight(float* dweight, const float* x, const float* dy, const Conv2dShape& s) {
    const int64_t M = s.taps() * s.group_C(), size = M * s.OC, S = slot_count(s);
    if (s.N * s.OH() * s.OW() == 0) {
        std::memset(dweight, 0, sizeof(float) * size);
        return;
    }
    Scratch scratch;
    float* slots = S == 1 ? dweight : scratch.floats(S * size);
    const bool in_place = in_place_pays(s);
    const int64_t bands = in_place ? s.taps() : 1, tiles = ceil_div(M / bands, kernels().MR);
    Problem p{s, x, dy, slots, S, M, ceil_div(s.group_OC(), kernels().NR), in_place, bands, tiles, 0, 0, {}, {}};
    const int64_t per_slot = tiles_of_slot(s);
    // Large batches are padded in chunks of at most 64 MB. A chunk ends nothing: its sums are the next one's start.
    const int64_t image = (s.H + s.pad.top + s.pad.bottom) * (s.W + s.pad.left + s.pad.right) * s.C;
    const bool by_block = s.padded() && !in_place && S > 1;
    const int64_t chunk = s.padded() && !in_place && !by_block
                              ? std::max<int64_t>((int64_t{1} << 24) / std::max<int64_t>(image, 1), 1)
                              : s.N;
    for (p.n0 = 0; p.n0 < s.N; p.n0 = p.n1) {
        p.n1 = std::min(p.n0 + chunk, s.N);
        Scratch of_chunk;
        if (in_place)
            p.images = {x, s.H, s.W, s.C, s.pad.top, s.pad.left};
        else if (by_block)
            p.images = {nullptr, 0, s.W + s.pad.left + s.pad.right, s.C};
        else
            p.images = pad_images(of_chunk, x, s, p.n0, p.n1);
        p.row_offset.clear();
        for (int64_t kh = 0; kh < s.KH; ++kh)
            for (int64_t kw = 0; kw < s.KW; ++kw)
                for (int64_t c = 0; c < s.group_C(); ++c)
                    p.row_offset.push_back((kh * s.dilation_h * p.images.W + kw * s.dilation_w) * s.C + c);
        const double unit = s.flop() * (p.n1 - p.n0) / s.N / static_cast<double>(S * per_slot);
        parallel_for(S * per_slot, grain_units(kGrainFlop, unit), [&](int64_t begin, int64_t end) {
            for (int64_t at = begin; at < end;) {
                const int64_t slot = at / per_slot, first = at % per_slot;
                const int64_t last = std::min(per_slot, first + end - at);
                add_pixels(p, slot, first, last);
                at += last - first;
            }
        });
    }
    if (S > 1)
        parallel_for(size, grain_units(kGrainBytes, 4.0 * S), [&](int64_t begin, int64_t end) {
            std::memcpy(dweight + begin, slots + begin, sizeof(float) * (end - begin));
            for (int64_t slot = 1; slot < S; ++slot)
                kernels().accumulate(dweight + begin, slots + slot * size + begin, end - begin);
        });
}

}  // namespace pycnn::direct
