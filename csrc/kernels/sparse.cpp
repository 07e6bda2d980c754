// Products with a sparse factor: lists of (index, value) instead of a matrix of mostly zeros.
//
//   sparse_sum     out[s][r][j] += sum over e of values[e] * base[index[e] + r * base_row + j]
//                  gradient of the weight: s output channels, r kh, j (kw, c); the list names patches of the image
//   sparse_pixels  out[q * width + j] += sum over e of g[q / 2][channel[e]] * weights[channel[e]][j]
//                  gradient of the input: q pixels of a row, j (kw, c) of one kh; the list names output channels
//   sparse_row     finds the non-zeros of the pixels behind a row of 2 x 2 windows
//   picked_taps    the gradient of the weight of one input channel: too few products for lists
//   transpose      to[j][i] = from[i][j]
//
// A sum runs through its list in order, starts from zero and is added to `out` once, so tiles and lanes do not change
// the bits. Products with zero are never computed: Inf or NaN of the other factor shows only where a list names it.

#include "kernels.h"
#include "simd.h"
#include "simd_lists.h"
#include "table.h"

namespace pycnn::PYCNN_ISA {
namespace {

// Accumulators that fit the registers beside the factor: of AVX2 12 of 16 registers, of the baseline too.
constexpr int64_t kVecs = REG == 64 ? 24 : MR == 6 ? 6 : 3;

// R rows of V vecs, all segments.
template <int R, int V>
PYCNN_INLINE void sum_tile(const SparseSum& s, int64_t row, int64_t column) {
    const float* base = s.base + row * s.base_row + column;
    float* out = s.out + row * s.out_row + column;
    for (int64_t segment = 0; segment < s.segments; ++segment, out += s.out_step) {
        const int64_t begin = s.begin[segment], end = s.end[segment];
        if (begin == end) continue;
        vec acc[R][V];
        PYCNN_UNROLL for (int r = 0; r < R; ++r) PYCNN_UNROLL for (int v = 0; v < V; ++v) acc[r][v] = splat(0.0f);
        for (int64_t e = begin; e < end; ++e) {
            const float* at = base + s.index[e];
            const vec factor = splat(s.values[e]);
            PYCNN_UNROLL for (int r = 0; r < R; ++r, at += s.base_row) {
                at = whole(at);
                PYCNN_UNROLL for (int v = 0; v < V; ++v) acc[r][v] = fma(factor, load(at + v * VL), acc[r][v]);
            }
        }
        PYCNN_UNROLL for (int r = 0; r < R; ++r) PYCNN_UNROLL for (int v = 0; v < V; ++v) {
            float* to = out + r * s.out_row + v * VL;
            store(to, load(to) + acc[r][v]);
        }
    }
}

// R rows, all columns, in tiles of the widest V that fits.
template <int R>
void sum_rows_of(const SparseSum& s, int64_t row) {
    constexpr int64_t kWidest = kVecs / R < 8 ? kVecs / R : 8;
    for (int64_t column = 0; column < s.columns;) {
        const int64_t left = (s.columns - column) / VL, vecs = left < kWidest ? left : kWidest;
        switch (vecs) {
#define PYCNN_WIDTH(V)                                              \
    case V:                                                         \
        if constexpr (V <= kWidest) sum_tile<R, V>(s, row, column); \
        break;
            PYCNN_WIDTH(1)
            PYCNN_WIDTH(2)
            PYCNN_WIDTH(3)
            PYCNN_WIDTH(4)
            PYCNN_WIDTH(5)
            PYCNN_WIDTH(6)
            PYCNN_WIDTH(7)
            PYCNN_WIDTH(8)
#undef PYCNN_WIDTH
        }
        column += vecs * VL;
    }
}

// Adds the list of cell `cell` at position `p` to the accumulators.
template <int V>
PYCNN_INLINE void add_list(vec (&acc)[V], const SparsePixels& s, const float* weights, int64_t p, int64_t cell) {
    const int32_t* channel = s.lists.channel[p];
    const float* g = s.g + cell * s.stride;
    const int64_t end = s.lists.begin[p][cell + 1];
    for (int64_t e = s.lists.begin[p][cell]; e < end; ++e) {
        const int64_t c = channel[e];
        const float* at = whole(weights + c * s.row);
        const vec factor = splat(g[c]);
        PYCNN_UNROLL for (int v = 0; v < V; ++v) acc[v] = fma(factor, load(at + v * VL), acc[v]);
    }
}

// Patches of three pixels of W vecs: the window of accumulators moves along the row, and each pixel of `out` is loaded
// and stored once instead of three times.
template <int W>
PYCNN_INLINE void slide(const SparsePixels& s) {
    vec acc[3 * W];
    PYCNN_UNROLL for (int v = 0; v < 3 * W; ++v) acc[v] = splat(0.0f);
    float* out = s.out;
    for (int64_t q = 0; q < 2 * s.cells; ++q, out += W * VL) {
        add_list<3 * W>(acc, s, s.weights, 2 * s.i + q % 2, q / 2);
        PYCNN_UNROLL for (int v = 0; v < W; ++v) {
            store(out + v * VL, load(out + v * VL) + acc[v]);
            acc[v] = acc[v + W], acc[v + W] = acc[v + 2 * W], acc[v + 2 * W] = splat(0.0f);
        }
    }
    PYCNN_UNROLL for (int v = 0; v < 2 * W; ++v) store(out + v * VL, load(out + v * VL) + acc[v]);
}

// Any patch, V vecs of it from `column` on; `last`: lanes of the last one that exist.
template <int V>
PYCNN_INLINE void patch(const SparsePixels& s, int64_t column, int64_t last) {
    for (int64_t q = 0; q < 2 * s.cells; ++q) {
        vec acc[V];
        PYCNN_UNROLL for (int v = 0; v < V; ++v) acc[v] = splat(0.0f);
        add_list<V>(acc, s, s.weights + column, 2 * s.i + q % 2, q / 2);
        float* out = s.out + q * s.width + column;
        PYCNN_UNROLL for (int v = 0; v < V; ++v) {
            const int64_t lanes = v == V - 1 ? last : VL;
            store_first(out + v * VL, load_first(out + v * VL, lanes) + acc[v], lanes);
        }
    }
}

// R rows of T taps of the kernel from (kh, kw) on, 16 channels, all cells of an image: g and where are read once for all.
template <int R, int T>
PYCNN_INLINE void pick_block(const PickedTaps& s, int64_t kh, int64_t kw) {
    float* sums = s.sums + (kh * s.KW + kw) * VL;
    const int64_t row = 4 * s.columns;
    vec acc[R][T];
    PYCNN_UNROLL for (int r = 0; r < R; ++r) PYCNN_UNROLL for (int t = 0; t < T; ++t) acc[r][t] =
        load(sums + (r * s.KW + t) * VL);
    for (int64_t ph = 0; ph < s.PH; ++ph) {
        const float* windows = s.windows + (2 * ph + kh) * row + 4 * kw;
        for (int64_t pw = 0; pw < s.PW; ++pw, windows += 8) {
            const int64_t at = (ph * s.PW + pw) * s.stride;
            const vec g = load_first(s.g + at, s.lanes);
            const ivec where = load_bytes(s.where + at, s.lanes);
            PYCNN_UNROLL for (int r = 0; r < R; ++r) PYCNN_UNROLL for (int t = 0; t < T; ++t) acc[r][t] =
                fma(g, pick(windows + r * row + 4 * t, where), acc[r][t]);
        }
    }
    PYCNN_UNROLL for (int r = 0; r < R; ++r) PYCNN_UNROLL for (int t = 0; t < T; ++t)
        store(sums + (r * s.KW + t) * VL, acc[r][t]);
}

// Sixteen cells of `lanes` channels: turned, so that a vec holds the cells of one channel.
PYCNN_INLINE void append_tile(const SparseChannels& s, int64_t c, int64_t lanes, int64_t cell) {
    float g[VL * VL], pixel[VL * VL], g_turned[VL * VL], pixel_turned[VL * VL];
    const int64_t rows = s.cells - cell < VL ? s.cells - cell : VL;
    for (int64_t i = 0; i < (rows + 3) / 4 * 4; ++i) {
        const int64_t row = i < rows ? cell + i : cell, at = row * s.channels + c;
        store(g + i * VL, i < rows ? load_first(s.g + at, lanes) : splat(0.0f));
        store(pixel + i * VL, as_floats(pick(s.pixel + 4 * row, load_bytes(s.where + at, lanes))));
    }
    for (int64_t i = 0; i < rows; i += 4)
        for (int64_t j = 0; j < lanes; j += 4) {
            transpose_4x4(g_turned + j * VL + i, VL, g + i * VL + j, VL);
            transpose_4x4(pixel_turned + j * VL + i, VL, pixel + i * VL + j, VL);
        }
    for (int64_t j = 0; j < lanes; ++j) {
        const vec v = load(g_turned + j * VL);
        const uint32_t bits = nonzero_bits(v) & ((1u << rows) - 1);
        const int32_t n = s.next[c + j];
        const ivec at = bits_of(load(pixel_turned + j * VL));
        s.next[c + j] = n + static_cast<int32_t>(compress(s.values + n, s.index + n, bits, v, at));
    }
}

}  // namespace

void sparse_sum(const SparseSum& s) {
    int64_t row = 0;
    while (row < s.rows) {
        const int64_t vecs = s.columns / VL, left = s.rows - row;
        if (left >= 3 && 3 * vecs <= kVecs) {
            sum_rows_of<3>(s, row);
            row += 3;
        } else if (left >= 2 && 2 * vecs <= kVecs) {
            sum_rows_of<2>(s, row);
            row += 2;
        } else {
            sum_rows_of<1>(s, row);
            row += 1;
        }
    }
}

void sparse_pixels(const SparsePixels& s) {
    if (s.columns == 3 * s.width && s.width == VL) return slide<1>(s);
    if (s.columns == 3 * s.width && s.width == 2 * VL) return slide<2>(s);
    int64_t column = 0;
    for (; column + 4 * VL <= s.columns; column += 4 * VL) patch<4>(s, column, VL);
    for (; column + VL <= s.columns; column += VL) patch<1>(s, column, VL);
    if (column < s.columns) patch<1>(s, column, s.columns - column);
}

void sparse_row(const SparseRow& s) {
    int32_t *channel[4], n[4];
    PYCNN_UNROLL for (int p = 0; p < 4; ++p) channel[p] = s.lists.channel[p], n[p] = 0;
    for (int64_t cell = 0; cell < s.cells; ++cell) {
        const float* g = s.g + cell * s.stride;
        const uint8_t* where = s.where + cell * s.stride;
        PYCNN_UNROLL for (int p = 0; p < 4; ++p) s.lists.begin[p][cell] = n[p];
        for (int64_t c = 0; c < s.channels; c += VL) {
            const int64_t lanes = s.channels - c < VL ? s.channels - c : VL;
            const uint32_t active = nonzero_bits(load_first(g + c, lanes));
            const ivec at = load_bytes(where + c, lanes);
            PYCNN_UNROLL for (int p = 0; p < 4; ++p) n[p] += static_cast<int32_t>(
                list_bits(channel[p] + n[p], active & equal_bits(at, isplat(p)), static_cast<int32_t>(c)));
        }
    }
    PYCNN_UNROLL for (int p = 0; p < 4; ++p) s.lists.begin[p][s.cells] = n[p];
}

void sparse_channels(const SparseChannels& s) {
    for (int64_t c = 0; c < s.channels; c += VL) {
        const int64_t lanes = s.channels - c < VL ? s.channels - c : VL;
        for (int64_t cell = 0; cell < s.cells; cell += VL) append_tile(s, c, lanes, cell);
    }
}

void picked_taps(const PickedTaps& s) {
    if (REG == 64 && s.KH == 3 && s.KW == 3) return pick_block<3, 3>(s, 0, 0);
    if (REG == 64 && s.KH == 5 && s.KW == 5) return pick_block<5, 5>(s, 0, 0);
    for (int64_t kh = 0; kh < s.KH; ++kh) {
        int64_t kw = 0;
        for (; kw + 5 <= s.KW; kw += 5) pick_block<1, 5>(s, kh, kw);
        for (; kw + 3 <= s.KW; kw += 3) pick_block<1, 3>(s, kh, kw);
        for (; kw < s.KW; ++kw) pick_block<1, 1>(s, kh, kw);
    }
}

void transpose(const Transpose& s) {
    int64_t i = 0;
    for (; i + 4 <= s.rows; i += 4) {
        int64_t j = 0;
        for (; j + 4 <= s.columns; j += 4)
            transpose_4x4(s.to + j * s.to_row + i, s.to_row, s.from + i * s.from_row + j, s.from_row);
        for (; j < s.columns; ++j)
            for (int64_t k = i; k < i + 4; ++k) s.to[j * s.to_row + k] = s.from[k * s.from_row + j];
    }
    for (; i < s.rows; ++i)
        for (int64_t j = 0; j < s.columns; ++j) s.to[j * s.to_row + i] = s.from[i * s.from_row + j];
}

}  // namespace pycnn::PYCNN_ISA
