// The kernel of direct convolution: a product whose left matrix is gathered through pointers and offsets.
//
//   c[i][j] (+)= sum over k of a[i][offset[k]] * b[k * ldb + j]    (and an epilogue, on request)
//
//                                       i (rows)             k                               b
//   forward, gradient of the input      pixels of y (dx)     taps x channels of the patch    packed weights [K][NR]
//   gradient of the weight              taps x channels      pixels of dy                    dy itself [pixels][OC]
//
//   a[i] + offset[k] walks through a (padded) image in place: no im2col buffer is ever written.
//
// Rows come in tiles of MR, last a smaller one that repeats its last row and drops it; columns: one panel of at most
// NR. Each element adds its k in order, starting from zero (or with `accumulate` from c, or from a residual), so tiles do not change the bits. All rows of a call skip the same k: the caller sorts pixels by the taps that
// lie inside the image.

#include "finish.h"
#include "kernels.h"
#include "simd_maps.h"
#include "table.h"

namespace pycnn::PYCNN_ISA {
namespace {

// Rows of a tile that the last rows of a call leave half empty: 32 channels are 14 + 14 + 4 rows, not three times 14.
// Fewer than 4 (2 with AVX2) leave the FMA units waiting for each other, so they cost as much.
constexpr int MIDDLE = MR > 8 ? 8 : MR > 4 ? 4 : MR, SMALL = MR > 4 ? MIDDLE / 2 : MR;

template <int R, int V>  // rows; vecs in a row of this panel
struct Tile {
    vec acc[R][V];
};

template <int R, int V>
PYCNN_INLINE void multiply(Tile<R, V>& t, const float* const* rows, const int64_t* offset, const float* b, int64_t ldb,
                           Steps steps) {
    // Pointers past the integer registers are read again each step. Left alone, GCC 12 parks them in vector registers,
    // and moving them back takes turns with the FMAs.
    constexpr int kHeld = R < 9 ? R : 9;
    const float* a[kHeld];
    PYCNN_UNROLL for (int i = 0; i < kHeld; ++i) a[i] = rows[i];
    b += steps.begin * ldb;
    for (int64_t k = steps.begin; k < steps.end; ++k, b += ldb) {
        const int64_t at = offset[k];
        vec row[V];
        PYCNN_UNROLL for (int v = 0; v < V; ++v) row[v] = load(b + v * VL);
        PYCNN_UNROLL for (int i = 0; i < R; ++i) {
            const float* row_i = i < kHeld ? a[i % kHeld] : *const_cast<const float* const volatile*>(rows + i);
            const vec factor = splat(row_i[at]);
            PYCNN_UNROLL for (int v = 0; v < V; ++v) t.acc[i][v] = fma(factor, row[v], t.acc[i][v]);
        }
    }
}

struct Fetching {  // one Fetch on its way
    const float *at, *end;
    int64_t pace;  // lines every 16 steps
};

// To L2: the line at `offset` of each row of the next tile, since 14 short streams are more than the hardware follows,
// and some lines of what the caller reads next.
template <int R>
PYCNN_INLINE void fetch_some(const float* const* next, int64_t offset, Fetching (&fetch)[2]) {
    if (next)
        for (int i = 0; i < R; ++i) __builtin_prefetch(next[i] + offset, 0, 2);
    for (Fetching& f : fetch)
        for (int64_t line = 0; line < f.pace && f.at < f.end; ++line, f.at += VL) __builtin_prefetch(f.at, 0, 2);
}

// Where the sums start: floats from c, of a residual. They are two arrays, so their addresses are subtracted as numbers.
struct Start {
    bool reads;
    int64_t from_c;
};
PYCNN_INLINE Start start_of(const IndirectBlock& s) {
    if (!s.epilogue.residual) return {s.accumulate, 0};
    const uintptr_t from = reinterpret_cast<uintptr_t>(s.c[0]), to = reinterpret_cast<uintptr_t>(s.epilogue.residual);
    return {true, static_cast<int64_t>(to - from) / static_cast<int64_t>(sizeof(float))};
}

// `last`: lanes of the last vec of the panel that exist.
template <int R, int V>
PYCNN_INLINE void tile_of_rows(const IndirectBlock& s, const Start& start, int64_t first, int64_t last,
                               Fetching (&fetch)[2]) {
    const int64_t count = s.rows - first < R ? s.rows - first : R;
    const float* a[R];
    float* c[R];
    for (int i = 0; i < R; ++i) {
        const int64_t row = first + (i < count ? i : count - 1);
        a[i] = s.a[row];
        c[i] = s.c[row];
    }
    // Fetched for writing while a tile is computed, or 28 stores in a row wait for memory: this one, or the next where
    // this one is read at once.
    const bool more = s.rows - first >= 2 * R;
    if (!start.reads && !s.stream) {
        for (int i = 0; i < R; ++i)
            for (int v = 0; v < V; ++v) __builtin_prefetch(c[i] + v * VL, 1);
    } else if (start.reads && more) {
        for (int i = 0; i < R; ++i)
            for (int v = 0; v < V; ++v) __builtin_prefetch(s.c[first + R + i] + start.from_c + v * VL, 1);
    }
    Tile<R, V> t;
    PYCNN_UNROLL for (int i = 0; i < R; ++i) PYCNN_UNROLL for (int v = 0; v < V; ++v) t.acc[i][v] = splat(0.0f);
    if (start.reads) {
        PYCNN_UNROLL for (int i = 0; i < R; ++i) PYCNN_UNROLL for (int v = 0; v < V; ++v) t.acc[i][v] =
            load_first(c[i] + start.from_c + v * VL, v == V - 1 ? last : VL);
    }
    // One loop of steps, with a stop every 16 where there is something to fetch: with two loops GCC 12 spills.
    const float* const* next = s.ahead && more ? s.a + first + R : nullptr;
    const bool fetches = next || fetch[0].at < fetch[0].end || fetch[1].at < fetch[1].end;
    for (int64_t r = 0; r < s.ranges; ++r)
        for (int64_t k = s.steps[r].begin, end = 0; k < s.steps[r].end; k = end) {
            end = s.steps[r].end;
            if (fetches) {
                if (end - k > VL) end = k + VL;
                fetch_some<R>(next, s.offset[k], fetch);
            }
            multiply<R, V>(t, a, s.offset, s.b, s.ldb, {k, end});
        }
    if (s.epilogue.bias) {
        PYCNN_UNROLL for (int v = 0; v < V; ++v) {
            const vec bias = load_first(s.epilogue.bias + v * VL, v == V - 1 ? last : VL);
            PYCNN_UNROLL for (int i = 0; i < R; ++i) t.acc[i][v] = t.acc[i][v] + bias;
        }
    }
    if (s.epilogue.activation.kind == Activation::relu) {
        PYCNN_UNROLL for (int i = 0; i < R; ++i) PYCNN_UNROLL for (int v = 0; v < V; ++v) t.acc[i][v] =
            relu(t.acc[i][v]);
    }
    if (s.stream && last == VL) {
        PYCNN_UNROLL for (int i = 0; i < R; ++i) if (i < count) {
            PYCNN_UNROLL for (int v = 0; v < V; ++v) stream(c[i] + v * VL, t.acc[i][v]);
        }
        return;
    }
    PYCNN_UNROLL for (int i = 0; i < R; ++i) if (i < count) {
        PYCNN_UNROLL for (int v = 0; v < V; ++v) store_first(c[i] + v * VL, t.acc[i][v], v == V - 1 ? last : VL);
    }
}

template <int V>
PYCNN_INLINE void tiles(const IndirectBlock& s, int64_t last) {
    const Start start = start_of(s);
    Fetching fetch[2];
    int64_t first = 0, chunks = 0;
    for (int64_t r = 0; r < s.ranges; ++r) chunks += (s.steps[r].end - s.steps[r].begin + VL - 1) / VL;
    chunks = chunks * ((s.rows + MR - 1) / MR) + 1;
    for (int i = 0; i < 2; ++i)
        fetch[i] = {s.fetch[i].from, s.fetch[i].from + s.fetch[i].lines * VL, s.fetch[i].lines / chunks + 1};
    for (; s.rows - first > MIDDLE; first += MR) tile_of_rows<MR, V>(s, start, first, last, fetch);
    if (s.rows - first > SMALL)
        tile_of_rows<MIDDLE, V>(s, start, first, last, fetch);
    else if (s.rows > first)
        tile_of_rows<SMALL, V>(s, start, first, last, fetch);
}

template <int V>
PYCNN_INLINE void panel(const IndirectBlock& s) {
    const int64_t last = s.columns - (V - 1) * VL;
    if (last == VL)  // the same body twice: here the lanes are a constant and every masked load becomes a plain one
        tiles<V>(s, VL);
    else
        tiles<V>(s, last);
}

// Not in tile_of_rows, where a call makes GCC 12 spill accumulators: 15 % of the speed with AVX-512.
__attribute__((noinline)) void finish_all(const IndirectBlock& s) {
    for (int64_t i = 0; i < s.rows; ++i) finish_late({.y = s.c[i], .size = s.columns}, s.epilogue);
}

}  // namespace

void indirect_block(const IndirectBlock& s) {
    if (NV == 1 || s.columns <= VL)
        panel<1>(s);
    else
        panel<NV>(s);
    if (s.stream) end_stream();
    if (is_late(s.epilogue)) finish_all(s);
}

}  // namespace pycnn::PYCNN_ISA
