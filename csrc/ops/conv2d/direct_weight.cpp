// Direct convolution, gradient of the weight: a product of patches and dy that never builds the patches.
//
//   dweight[(kh, kw, c)][oc] = sum over pixels (n, oh, ow) of padded[n][oh*s + kh*d][ow*s + kw*d][c] * dy[n][oh][ow][oc]
//
// Rows of the product are (kh, kw, c), its depth the pixels; for one kh the rows of pixels that meet the rim only are
// left out. First all threads copy the images with their zero rim (nothing is copied without padding). Then each thread owns some tiles of dweight and adds all pixels to them, a block
// of pixels after the other, so that a block of x and dy is in L2 for all its tiles. No tile is shared, so there is
// nothing to reduce; only a dweight too small for that is computed in slots of the batch, whose number
// depends on the shape alone, and the slots are added in order. Pixels are added in order, so the bits are the same.
// With slots few threads or one meet a block, so each copies it with its rim just before use, into L2.

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
};

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
    int64_t bands, tiles;  // the M rows are cut into bands of one kh (or are one band), a band into tiles of MR
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
    steps.clear();
    for (int64_t row = first; row < last; ++row) {
        const int64_t h = row % OH * s.stride_h + band * s.dilation_h - s.pad.top, at = (row - first) * OW;
        if (p.bands > 1 && (h < 0 || h >= s.H)) continue;
        if (steps.empty() || steps.back().end != at) steps.push_back({at, at});
        steps.back().end = at + OW;
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
        if (!copied) at = ((n - p.n0) * p.images.H + oh * s.stride_h) * width;
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
    for (int64_t first = rows.begin; first < rows.end; first += block) {
        const int64_t last = std::min(first + block, rows.end), pixels = (last - first) * OW;
        Scratch of_block;
        const float* images = find_pixels(of_block, offset, p, first, last);
        for (int64_t band = 0; band < p.bands; ++band) list_steps(steps[band], p, band, first, last);
        // What the next block reads: its rows of dy, and of x unless the stride skips some. Each call brings its share.
        const int64_t next = std::min(last + block, rows.end), h = last % OH * s.stride_h;
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
            kernels().indirect_block({c.data() + i0,
                                      a.data() + i0,
                                      i1 - i0,
                                      columns,
                                      offset.data(),
                                      b,
                                      ldb,
                                      steps[band].data(),
                                      static_cast<int64_t>(steps[band].size()),
                                      nullptr,
                                      false,
                                      true,
                                      false,
                                      {share(next_x, x_rows * from.W * s.C, at, at + count),
                                       share(next_dy, (next - last) * OW * s.OC, at, at + count)}});
            at += count;
        }
    }
}

// One band for each kh if that fills the tiles as well and there is a rim to leave out, else one for all.
int64_t band_count(const Conv2dShape& s, int64_t MR) {
    const int64_t banded = s.KH * ceil_div(s.KW * s.group_C(), MR);
    return (s.pad.top || s.pad.bottom) && banded <= ceil_div(s.taps() * s.group_C(), MR) ? s.KH : 1;
}

// How many slots: 1 where dweight alone has tiles for many threads, else up to 64. By the shape, never by the machine.
int64_t slot_count(const Conv2dShape& s) {
    constexpr int64_t kTiles = 64, kTileRows = 12, kTileColumns = 32;
    const int64_t tiles = s.groups * ceil_div(s.taps() * s.group_C(), kTileRows) * ceil_div(s.group_OC(), kTileColumns);
    return std::max<int64_t>(std::min(ceil_div(kTiles, tiles), s.N * s.OH()), 1);
}

int64_t tiles_of_slot(const Conv2dShape& s) {
    const int64_t bands = band_count(s, kernels().MR), M = s.taps() * s.group_C();
    return s.groups * ceil_div(s.group_OC(), kernels().NR) * bands * ceil_div(M / bands, kernels().MR);
}

}  // namespace

int64_t weight_units(const Conv2dShape& s) { return slot_count(s) * tiles_of_slot(s); }

void backward_weight(float* dweight, const float* x, const float* dy, const Conv2dShape& s) {
    const int64_t M = s.taps() * s.group_C(), size = M * s.OC, S = slot_count(s);
    Scratch scratch;
    float* slots = S == 1 ? dweight : scratch.floats(S * size);
    std::memset(slots, 0, sizeof(float) * S * size);
    const int64_t bands = band_count(s, kernels().MR), tiles = ceil_div(M / bands, kernels().MR);
    Problem p{s, x, dy, slots, S, M, ceil_div(s.group_OC(), kernels().NR), bands, tiles, 0, 0, {}, {}};
    const int64_t per_slot = tiles_of_slot(s);
    // Large batches are padded in chunks of at most 64 MB. A chunk ends nothing: its sums are the next one's start.
    const int64_t image = (s.H + s.pad.top + s.pad.bottom) * (s.W + s.pad.left + s.pad.right) * s.C;
    const bool by_block = s.padded() && S > 1;
    const int64_t chunk =
        s.padded() && !by_block ? std::max<int64_t>((int64_t{1} << 24) / std::max<int64_t>(image, 1), 1) : s.N;
    for (p.n0 = 0; p.n0 < s.N; p.n0 = p.n1) {
        p.n1 = std::min(p.n0 + chunk, s.N);
        Scratch of_chunk;
        p.images =
            by_block ? Images{nullptr, 0, s.W + s.pad.left + s.pad.right, s.C} : pad_images(of_chunk, x, s, p.n0, p.n1);
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
