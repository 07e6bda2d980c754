// Products with a sparse factor: lists of (index, value) instead of a matrix of mostly zeros.
//
//   sparse_sum   out[s][r][j] += sum over e, in order, of values[e] * base[index[e] * scale + r * base_row + j]
//
//                                  s (segments)       index             r, j             base
//   gradient of the weight         output channels    patch of x        kh, (kw, c)      padded image
//   gradient of the input          pixels of a row    output channel    kh, (kw, c)      transposed weights
//
//   sparse_row    finds the non-zeros of a row of pixels behind a 2 x 2 max pool; makes both lists
//   picked_taps   the gradient of the weight of one input channel: too few products for lists
//   transpose     to[j][i] = from[i][j]
//
// A sum starts from zero and is added to `out` once, so tiles and lanes do not change the bits. An empty list reads and
// writes nothing. Products with zero are never computed: Inf or NaN in base show only where the list names them.

#include "kernels.h"
#include "simd.h"
#include "table.h"

namespace pycnn::PYCNN_ISA {
namespace {

// Accumulators that fit the registers beside the factor: of AVX2 12 of 16 registers, of the baseline too.
constexpr int64_t kVecs = REG == 64 ? 24 : MR == 6 ? 6 : 3;

// R rows of V vecs, all segments. `last`: lanes of the last vec of a row that exist.
template <int R, int V>
PYCNN_INLINE void sum_tile(const SparseSum& s, int64_t row, int64_t column, int64_t last) {
    const float* base = s.base + row * s.base_row + column;
    float* out = s.out + row * s.out_row + column;
    for (int64_t segment = 0; segment < s.segments; ++segment, out += s.out_step) {
        const int64_t begin = s.begin[segment], end = s.end[segment];
        if (begin == end) continue;
        vec acc[R][V];
        PYCNN_UNROLL for (int r = 0; r < R; ++r) PYCNN_UNROLL for (int v = 0; v < V; ++v) acc[r][v] = splat(0.0f);
        for (int64_t e = begin; e < end; ++e) {
            const float* at = base + s.index[e] * s.scale;
            const vec factor = splat(s.values[e]);
            PYCNN_UNROLL for (int r = 0; r < R; ++r) PYCNN_UNROLL for (int v = 0; v < V; ++v) acc[r][v] =
                fma(factor, load(at + r * s.base_row + v * VL), acc[r][v]);
        }
        PYCNN_UNROLL for (int r = 0; r < R; ++r) PYCNN_UNROLL for (int v = 0; v < V; ++v) {
            float* to = out + r * s.out_row + v * VL;
            const int64_t lanes = v == V - 1 ? last : VL;
            store_first(to, load_first(to, lanes) + acc[r][v], lanes);
        }
    }
}

template <int R, int V>
PYCNN_INLINE void sum_columns(const SparseSum& s, int64_t row, int64_t column) {
    const int64_t last = s.columns - column - (V - 1) * VL;
    last >= VL ? sum_tile<R, V>(s, row, column, VL) : sum_tile<R, V>(s, row, column, last);
}

// R rows, all columns, in tiles of the widest V that fits.
template <int R>
void sum_rows_of(const SparseSum& s, int64_t row) {
    constexpr int64_t kWidest = kVecs / R < 8 ? kVecs / R : 8;
    for (int64_t column = 0; column < s.columns;) {
        const int64_t left = (s.columns - column + VL - 1) / VL, vecs = left < kWidest ? left : kWidest;
        switch (vecs) {
#define PYCNN_WIDTH(V)                                                 \
    case V:                                                            \
        if constexpr (V <= kWidest) sum_columns<R, V>(s, row, column); \
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

// T taps of one row of the kernel, 16 channels, all cells of an image.
template <int T>
PYCNN_INLINE void pick_row(const PickedTaps& s, int64_t kh, int64_t kw) {
    float* sums = s.sums + (kh * s.KW + kw) * VL;
    vec acc[T];
    PYCNN_UNROLL for (int t = 0; t < T; ++t) acc[t] = load(sums + t * VL);
    for (int64_t ph = 0; ph < s.PH; ++ph) {
        const float* windows = s.windows + ((2 * ph + kh) * s.columns + kw) * 4;
        for (int64_t pw = 0; pw < s.PW; ++pw, windows += 8) {
            const int64_t at = (ph * s.PW + pw) * s.stride;
            const vec g = load_first(s.g + at, s.lanes);
            const ivec where = load_bytes(s.where + at, s.lanes);
            PYCNN_UNROLL for (int t = 0; t < T; ++t) acc[t] = fma(g, pick(windows + 4 * t, where), acc[t]);
        }
    }
    PYCNN_UNROLL for (int t = 0; t < T; ++t) store(sums + t * VL, acc[t]);
}

// Three rows of three taps at once: g and where are read once for all nine.
PYCNN_INLINE void pick_three_by_three(const PickedTaps& s) {
    vec acc[9];
    PYCNN_UNROLL for (int t = 0; t < 9; ++t) acc[t] = load(s.sums + t * VL);
    for (int64_t ph = 0; ph < s.PH; ++ph) {
        const float* windows = s.windows + 2 * ph * s.columns * 4;
        for (int64_t pw = 0; pw < s.PW; ++pw, windows += 8) {
            const int64_t at = (ph * s.PW + pw) * s.stride;
            const vec g = load_first(s.g + at, s.lanes);
            const ivec where = load_bytes(s.where + at, s.lanes);
            PYCNN_UNROLL for (int t = 0; t < 9; ++t) acc[t] =
                fma(g, pick(windows + (t / 3 * s.columns + t % 3) * 4, where), acc[t]);
        }
    }
    PYCNN_UNROLL for (int t = 0; t < 9; ++t) store(s.sums + t * VL, acc[t]);
}

}  // namespace

void sparse_sum(const SparseSum& s) {
    int64_t row = 0;
    while (row < s.rows) {
        const int64_t vecs = (s.columns + VL - 1) / VL, left = s.rows - row;
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

int32_t sparse_row(const SparseRow& s) {
    static constexpr int32_t kLane[VL] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    const ivec lane = load(kLane);
    int32_t n = s.count, position = s.position;
    for (int64_t cell = 0; cell < s.cells; ++cell)
        for (int32_t j = 0; j < 2; ++j, position += s.step) {
            const float* g = s.g + cell * s.stride;
            const uint8_t* where = s.where + cell * s.stride;
            const ivec here = isplat(2 * s.i + j), pixel = isplat(position);
            s.begin[2 * cell + j] = n;
            for (int64_t c = 0; c < s.channels; c += VL) {
                const int64_t lanes = s.channels - c < VL ? s.channels - c : VL;
                const vec v = load_first(g + c, lanes);
                const uint32_t bits = nonzero_bits(v) & equal_bits(load_bytes(where + c, lanes), here);
                store(s.pixel + n, pixel);
                n += static_cast<int32_t>(
                    compress(s.values + n, s.channel + n, bits, v, lane + isplat(static_cast<int32_t>(c))));
            }
        }
    s.begin[2 * s.cells] = n;
    return n;
}

void picked_taps(const PickedTaps& s) {
    if (REG == 64 && s.KH == 3 && s.KW == 3) return pick_three_by_three(s);
    for (int64_t kh = 0; kh < s.KH; ++kh) {
        int64_t kw = 0;
        for (; kw + 3 <= s.KW; kw += 3) pick_row<3>(s, kh, kw);
        for (; kw < s.KW; ++kw) pick_row<1>(s, kh, kw);
    }
}

void transpose(float* to, int64_t to_row, const float* from, int64_t from_row, int64_t rows, int64_t columns) {
    int64_t i = 0;
    for (; i + 4 <= rows; i += 4) {
        int64_t j = 0;
        for (; j + 4 <= columns; j += 4) transpose_4x4(to + j * to_row + i, to_row, from + i * from_row + j, from_row);
        for (; j < columns; ++j)
            for (int64_t k = i; k < i + 4; ++k) to[j * to_row + k] = from[k * from_row + j];
    }
    for (; i < rows; ++i)
        for (int64_t j = 0; j < columns; ++j) to[j * to_row + i] = from[i * from_row + j];
}

}  // namespace pycnn::PYCNN_ISA
