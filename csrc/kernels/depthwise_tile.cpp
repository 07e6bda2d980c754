// Depthwise convolution of the common shapes (3x3, 5x5, stride 1 and 2): a register of channels walks along a row.
//
//   forward, gradient of the input   out[q] = sum over kw, then kh, of in[stride q + kw - before][row of kh] * w[kh][kw]
//   gradient of the weight           dw[kh][kw] += sum over q, then rows, of x[stride q + kw - before][..] * dy[q]
//
// Each pixel is loaded once a tile of one or two rows and used for every output (for dw: every tap) that it belongs to,
// while the sums wait in registers. So nothing is asked of L1, which a stride of 2 or 4 KB from pixel to pixel would
// confine to a few sets, and 18 FMAs have 4 loads. Lanes never meet, hence registers instead of vecs: with AVX2 a vec
// would need 18 registers for the weights alone. Taps outside the image are skipped.

#include "finish.h"
#include "kernels.h"
#include "simd_maps.h"
#include "table.h"

namespace pycnn::PYCNN_ISA {
namespace {

// Narrower registers fill a line in two walks along the row; streamed, each would go to memory as half a line: 4.6 ms
// instead of 1.5 at 16 x 112 x 112 x 32 with AVX2.
constexpr bool kWholeLines = REG == 64;

// A register of channels from c on. One that is not WHOLE, the last of a row, is walked as rim from end to end: its inner
// step would be as much code again.
template <bool WHOLE>
struct Channels {
    int64_t c, lanes;
};

template <class Body>
PYCNN_INLINE void each_register(int64_t channels, Body body) {
    int64_t c = 0;
    for (; c + LANES <= channels; c += LANES) body(Channels<true>{c, LANES});
    if (c < channels) body(Channels<false>{c, channels - c});
}

template <int R, int A>
struct Sums {
    reg of[R][A];  // of[r][a]: output column q - a of row r
};

// Column q: all its input pixels, of which those of phase s are taps s, s + S, .. of outputs q, q - 1, ..
template <int K, int S, int R, bool EDGE>
PYCNN_INLINE void step(const DepthwiseTile& s, const reg (&w)[K][K], Sums<R, (K + S - 1) / S>& sums, int64_t q,
                       int64_t c, int64_t lanes) {
    constexpr int A = (K + S - 1) / S, ROWS = S * (R - 1) + K;
    PYCNN_UNROLL for (int phase = 0; phase < S; ++phase) {
        const int64_t column = S * q + phase - s.before;
        if (EDGE && (column < 0 || column >= s.in_columns)) continue;
        const float* in = s.in + column * s.in_pixel + c;
        PYCNN_UNROLL for (int i = 0; i < ROWS; ++i) {
            if (i < s.in_begin || i >= s.in_end) continue;
            const reg x = load_reg(in + i * s.in_row, lanes);
            if (i >= ROWS - S * R) prefetch(in + (i + S * R) * s.in_row);
            PYCNN_UNROLL for (int r = 0; r < R; ++r) {
                const int kh = i - S * r;
                if (kh < 0 || kh >= K) continue;
                PYCNN_UNROLL for (int a = 0; a < A; ++a) {
                    const int kw = phase + S * a;
                    if (kw < K) sums.of[r][a] = fma(x, w[kh][kw], sums.of[r][a]);
                }
            }
        }
    }
}

template <int R, int A>
PYCNN_INLINE void shift(Sums<R, A>& sums) {
    PYCNN_UNROLL for (int r = 0; r < R; ++r) {
        PYCNN_UNROLL for (int a = A - 1; a > 0; --a) sums.of[r][a] = sums.of[r][a - 1];
        sums.of[r][0] = reg{};
    }
}

template <int R, bool ADD>
PYCNN_INLINE void finish(const DepthwiseTile& s, const reg (&sum)[R], reg bias, bool relu, int64_t q, int64_t c,
                         int64_t lanes) {
    PYCNN_UNROLL for (int r = 0; r < R; ++r) {
        const int64_t at = r * s.out_row + q * s.out_pixel + c;
        reg y = sum[r] + bias;
        if (ADD) y = y + load_reg(s.epilogue.residual + at, lanes);
        y = relu_if(relu, y);
        if (kWholeLines && s.stream)
            stream_reg(s.out + at, y);
        else
            store_reg(s.out + at, y, lanes);
    }
}

template <int K, int S, int R, bool ADD, bool WHOLE>
PYCNN_INLINE void tile(const DepthwiseTile& s, Channels<WHOLE> channels) {
    constexpr int A = (K + S - 1) / S;
    const int64_t c = channels.c, lanes = channels.lanes;
    reg w[K][K];
    PYCNN_UNROLL for (int kh = 0; kh < K; ++kh) PYCNN_UNROLL for (int kw = 0; kw < K; ++kw) w[kh][kw] =
        load_reg(s.w + kh * s.w_row + kw * s.w_column + c, lanes);
    const reg bias = s.epilogue.bias ? load_reg(s.epilogue.bias + c, lanes) : reg{};
    const bool relu = has_relu(s.epilogue);
    Sums<R, A> sums;
    PYCNN_UNROLL for (int r = 0; r < R; ++r) PYCNN_UNROLL for (int a = 0; a < A; ++a) sums.of[r][a] = reg{};
    const auto finish_column = [&](int64_t q) __attribute__((always_inline)) {
        reg sum[R];
        PYCNN_UNROLL for (int r = 0; r < R; ++r) sum[r] = sums.of[r][A - 1];
        finish<R, ADD>(s, sum, bias, relu, q - (A - 1), c, lanes);
    };
    // Inside: also an output to finish.
    const int64_t end = s.out_columns + A - 1;
    int64_t inside = (s.before + S - 1) / S, inside_end = (s.in_columns + s.before) / S;
    if (inside < A - 1) inside = A - 1;
    if (inside_end > end) inside_end = end;
    const auto rim = [&](int64_t q) __attribute__((always_inline)) {
        step<K, S, R, true>(s, w, sums, q, c, lanes);
        if (q >= A - 1) finish_column(q);
        shift(sums);
    };
    int64_t q = 0;
    if (WHOLE) {
        for (; q < end && q < inside; ++q) rim(q);
        for (; q < inside_end; ++q) {
            step<K, S, R, false>(s, w, sums, q, c, lanes);
            finish_column(q);
            shift(sums);
        }
    }
    for (; q < end; ++q) rim(q);
}

// These work on copies of what they are given, which GCC would otherwise read again after every vector that is stored:
// 1.16 times as fast with AVX2, 1.10 with AVX-512 (geometric means of 9 cases, Zen 4), but forward with a stride of 2
// and AVX2: 0.74. ADD: with a residual; asked for in the loop it costs all others up to 1.09 times their time (AVX2).
template <int K, int S, int R, bool ADD>
void tiles(const DepthwiseTile& given) {
    const auto rows = [](const DepthwiseTile& s) __attribute__((always_inline)) {
        each_register(s.channels,
                      [&](auto channels) __attribute__((always_inline)) { tile<K, S, R, ADD>(s, channels); });
        for (int r = 0; r < R; ++r)
            finish_late({.y = s.out + r * s.out_row, .size = s.channels, .rows = s.out_columns, .row = s.out_pixel},
                        s.epilogue);
    };
    if (S == 2 && REG < 64) return rows(given);
    const DepthwiseTile s = given;
    rows(s);
}

template <int K, int S>
void tiles(const DepthwiseTile& s, int64_t rows) {
    if (s.epilogue.residual) return rows == 2 ? tiles<K, S, 2, true>(s) : tiles<K, S, 1, true>(s);
    return rows == 2 ? tiles<K, S, 2, false>(s) : tiles<K, S, 1, false>(s);
}

// ---- gradient of the input, stride 2 ----------------------------------------------------------------------------

// A row of dx, of whose taps kh = parity + 2 i belongs to row i of dy, upwards; kw = column parity + 2 a to column q - a.
template <int K, int PARITY>
struct Spread {
    static constexpr int ROWS = (K - PARITY + 1) / 2, A = (K + 1) / 2;
    reg w[ROWS][K], d[ROWS][A];
};

// dx columns 2 q - before and the next.
template <int K, int PARITY, bool EDGE>
PYCNN_INLINE void spread_step(const DepthwiseSpread& s, const Spread<K, PARITY>& t, int64_t q, int64_t c,
                              int64_t lanes) {
    constexpr int ROWS = Spread<K, PARITY>::ROWS, A = Spread<K, PARITY>::A;
    reg sum[2] = {};
    PYCNN_UNROLL for (int i = 0; i < ROWS; ++i) {
        if (i < s.dy_begin || i >= s.dy_end) continue;
        PYCNN_UNROLL for (int a = 0; a < A; ++a) {
            if (EDGE && (q < a || q - a >= s.dy_columns)) continue;
            sum[0] = fma(t.d[i][a], t.w[i][2 * a], sum[0]);
            if (2 * a + 1 < K) sum[1] = fma(t.d[i][a], t.w[i][2 * a + 1], sum[1]);
        }
    }
    PYCNN_UNROLL for (int j = 0; j < 2; ++j) {
        const int64_t column = 2 * q + j - s.before;
        if (EDGE && (column < 0 || column >= s.dx_columns)) continue;
        if (kWholeLines && s.stream)
            stream_reg(s.dx + column * s.dx_pixel + c, sum[j]);
        else
            store_reg(s.dx + column * s.dx_pixel + c, sum[j], lanes);
    }
}

template <int K, int PARITY, bool WHOLE>
PYCNN_INLINE void spread(const DepthwiseSpread& s, Channels<WHOLE> channels) {
    constexpr int ROWS = Spread<K, PARITY>::ROWS, A = Spread<K, PARITY>::A;
    const int64_t c = channels.c, lanes = channels.lanes;
    Spread<K, PARITY> t;
    PYCNN_UNROLL for (int i = 0; i < ROWS; ++i) {
        PYCNN_UNROLL for (int kw = 0; kw < K; ++kw) t.w[i][kw] =
            load_reg(s.w + ((PARITY + 2 * i) * K + kw) * s.w_tap + c, lanes);
        PYCNN_UNROLL for (int a = 0; a < A; ++a) t.d[i][a] = reg{};
    }
    const auto move_to = [&](int64_t q) __attribute__((always_inline)) {
        PYCNN_UNROLL for (int i = 0; i < ROWS; ++i) {
            PYCNN_UNROLL for (int a = A - 1; a > 0; --a) t.d[i][a] = t.d[i][a - 1];
            if (q >= s.dy_columns || i < s.dy_begin || i >= s.dy_end) continue;
            t.d[i][0] = load_reg(s.dy - i * s.dy_row + q * s.dy_pixel + c, lanes);
            if (PARITY == 0 && i == 0) prefetch(s.dy + s.dy_row + q * s.dy_pixel + c);
        }
    };
    const int64_t end = (s.dx_columns + s.before + 1) / 2;
    int64_t inside = (s.before + 1) / 2, inside_end = (s.dx_columns + s.before) / 2;
    if (inside < A - 1) inside = A - 1;
    if (inside_end > s.dy_columns) inside_end = s.dy_columns;
    int64_t q = 0;
    if (WHOLE) {
        for (; q < end && q < inside; ++q) move_to(q), spread_step<K, PARITY, true>(s, t, q, c, lanes);
        for (; q < inside_end; ++q) move_to(q), spread_step<K, PARITY, false>(s, t, q, c, lanes);
    }
    for (; q < end; ++q) move_to(q), spread_step<K, PARITY, true>(s, t, q, c, lanes);
}

template <int K, int PARITY>
void spreads(const DepthwiseSpread& given) {
    const DepthwiseSpread s = given;
    each_register(s.channels, [&](auto channels) __attribute__((always_inline)) { spread<K, PARITY>(s, channels); });
}

// ---- gradient of the weight ---------------------------------------------------------------------------------------

// 25 sums fit into the registers of AVX-512 only; else a walk takes one row of a 5x5 kernel.
constexpr int kBand = REG == 64 ? 5 : 1;

// Of KH rows of taps of K columns. d[r][a]: dy of row r, column q - a.
template <int KH, int K, int S, int R, bool EDGE>
PYCNN_INLINE void weight_step(const DepthwiseWeightTile& s, reg (&sum)[KH][K], const reg (&d)[R][(K + S - 1) / S],
                              int64_t q, int64_t c, int64_t lanes) {
    constexpr int A = (K + S - 1) / S, ROWS = S * (R - 1) + KH;
    PYCNN_UNROLL for (int phase = 0; phase < S; ++phase) {
        const int64_t column = S * q + phase - s.before;
        if (EDGE && (column < 0 || column >= s.x_columns)) continue;
        const float* in = s.x + column * s.x_pixel + c;
        PYCNN_UNROLL for (int i = 0; i < ROWS; ++i) {
            if (i < s.x_begin || i >= s.x_end) continue;
            const reg x = load_reg(in + i * s.x_row, lanes);
            if (i >= ROWS - S * R) prefetch(in + (i + S * R) * s.x_row);
            PYCNN_UNROLL for (int r = 0; r < R; ++r) {
                const int kh = i - S * r;
                if (kh < 0 || kh >= KH) continue;
                PYCNN_UNROLL for (int a = 0; a < A; ++a) {
                    const int kw = phase + S * a;
                    if (kw >= K || (EDGE && (q < a || q - a >= s.dy_columns))) continue;
                    sum[kh][kw] = fma(x, d[r][a], sum[kh][kw]);
                }
            }
        }
    }
}

template <int KH, int K, int S, int R, bool WHOLE>
PYCNN_INLINE void weight_tile(const DepthwiseWeightTile& s, Channels<WHOLE> channels) {
    constexpr int A = (K + S - 1) / S;
    const int64_t c = channels.c, lanes = channels.lanes;
    reg sum[KH][K], d[R][A] = {};
    float* dw = s.dw + c;
    PYCNN_UNROLL for (int kh = 0; kh < KH; ++kh) PYCNN_UNROLL for (int kw = 0; kw < K; ++kw) sum[kh][kw] =
        load_reg(dw + (kh * K + kw) * s.dw_tap, lanes);
    const auto move_to = [&](int64_t q) __attribute__((always_inline)) {
        PYCNN_UNROLL for (int r = 0; r < R; ++r) {
            PYCNN_UNROLL for (int a = A - 1; a > 0; --a) d[r][a] = d[r][a - 1];
            if (q >= s.dy_columns) continue;
            const float* dy = s.dy + r * s.dy_row + q * s.dy_pixel + c;
            d[r][0] = load_reg(dy, lanes);
            prefetch(dy + R * s.dy_row);
        }
    };
    const int64_t end = s.dy_columns + A - 1;
    int64_t inside = (s.before + S - 1) / S, inside_end = (s.x_columns + s.before) / S;
    if (inside < A - 1) inside = A - 1;
    if (inside_end > s.dy_columns) inside_end = s.dy_columns;
    int64_t q = 0;
    if (WHOLE) {
        for (; q < end && q < inside; ++q) move_to(q), weight_step<KH, K, S, R, true>(s, sum, d, q, c, lanes);
        for (; q < inside_end; ++q) move_to(q), weight_step<KH, K, S, R, false>(s, sum, d, q, c, lanes);
    }
    for (; q < end; ++q) move_to(q), weight_step<KH, K, S, R, true>(s, sum, d, q, c, lanes);
    PYCNN_UNROLL for (int kh = 0; kh < KH; ++kh) PYCNN_UNROLL for (int kw = 0; kw < K; ++kw)
        store_reg(dw + (kh * K + kw) * s.dw_tap, sum[kh][kw], lanes);
}

template <int KH, int K, int S, int R>
void weight_tiles(const DepthwiseWeightTile& given) {
    const DepthwiseWeightTile s = given;
    each_register(s.channels,
                  [&](auto channels) __attribute__((always_inline)) { weight_tile<KH, K, S, R>(s, channels); });
}

template <int S>
void weight_bands(const DepthwiseWeightTile& s) {
    for (int64_t kh = 0; kh < 5; kh += kBand) {
        DepthwiseWeightTile band = s;
        band.dw += kh * 5 * s.dw_tap, band.x += kh * s.x_row;
        band.x_begin -= kh, band.x_end -= kh;
        weight_tiles<kBand, 5, S, 1>(band);
    }
}

}  // namespace

void depthwise_tile(const DepthwiseTile& s, int64_t kernel, int64_t stride, int64_t rows) {
    if (kernel == 3) return stride == 1 ? tiles<3, 1>(s, rows) : tiles<3, 2>(s, rows);
    return stride == 1 ? tiles<5, 1>(s, rows) : tiles<5, 2>(s, rows);
}

void depthwise_spread(const DepthwiseSpread& s, int64_t kernel, int64_t parity) {
    if (kernel == 3) return parity ? spreads<3, 1>(s) : spreads<3, 0>(s);
    return parity ? spreads<5, 1>(s) : spreads<5, 0>(s);
}

void depthwise_weight_tile(const DepthwiseWeightTile& s, int64_t kernel, int64_t stride, int64_t rows) {
    if (kernel == 5) return stride == 1 ? weight_bands<1>(s) : weight_bands<2>(s);
    if (stride == 1) return rows == 2 ? weight_tiles<3, 3, 1, 2>(s) : weight_tiles<3, 3, 1, 1>(s);
    return rows == 2 ? weight_tiles<3, 3, 2, 2>(s) : weight_tiles<3, 3, 2, 1>(s);
}

void finish_stream() { end_stream(); }

}  // namespace pycnn::PYCNN_ISA
