// The kernel of direct convolution: a product whose left matrix is gathered through pointers and offsets.
//
//   c[i][j] (+)= sum over k of a[i][offset[k]] * b[k * ldb + j]          (+ bias[j], then relu, on request)
//
//                                       i (rows)             k                               b
//   forward, gradient of the input      pixels of y (dx)     taps x channels of the patch    packed weights [K][NR]
//   gradient of the weight              taps x channels      pixels of dy                    dy itself [pixels][OC]
//
//   a[i] + offset[k] walks through a (padded) image in place: no im2col buffer is ever written.
//
// Rows come in tiles of MR, a last tile repeats its last row and drops it; columns: one panel of at most NR. Each
// element adds its k in order, starting from zero (or from c with `accumulate`), so tiles do not change the bits. All
// rows of a call skip the same k: the caller sorts pixels by the taps that lie inside the image.

#include "kernels.h"
#include "simd.h"
#include "table.h"

namespace pycnn::PYCNN_ISA {
namespace {

template <int V>  // vecs in a row of this panel
struct Tile {
    vec acc[MR][V];
};

template <int V>
PYCNN_INLINE void multiply(Tile<V>& t, const float* const* rows, const int64_t* offset, const float* b, int64_t ldb,
                           Steps steps) {
    const float* a[MR];
    PYCNN_UNROLL for (int i = 0; i < MR; ++i) a[i] = rows[i];
    b += steps.begin * ldb;
    for (int64_t k = steps.begin; k < steps.end; ++k, b += ldb) {
        const int64_t at = offset[k];
        vec row[V];
        PYCNN_UNROLL for (int v = 0; v < V; ++v) row[v] = load(b + v * VL);
        PYCNN_UNROLL for (int i = 0; i < MR; ++i) {
            const vec factor = splat(a[i][at]);
            PYCNN_UNROLL for (int v = 0; v < V; ++v) t.acc[i][v] = fma(factor, row[v], t.acc[i][v]);
        }
    }
}

// The same, and every 16 steps, a cache line of channels, the line of each row of the next tile: 14 short streams are
// more than the hardware follows.
template <int V>
PYCNN_INLINE void multiply_ahead(Tile<V>& t, const float* const* rows, const float* const* next, const int64_t* offset,
                                 const float* b, int64_t ldb, Steps steps) {
    for (int64_t k = steps.begin; k < steps.end; k += VL) {
        const int64_t at = offset[k];
        for (int i = 0; i < MR; ++i) __builtin_prefetch(next[i] + at);
        multiply<V>(t, rows, offset, b, ldb, {k, steps.end - k < VL ? steps.end : k + VL});
    }
}

// `last`: lanes of the last vec of the panel that exist.
template <int V>
PYCNN_INLINE void tile_of_rows(const IndirectBlock& s, int64_t first, int64_t last) {
    const int64_t count = s.rows - first < MR ? s.rows - first : MR;
    const float* a[MR];
    float* c[MR];
    for (int i = 0; i < MR; ++i) {
        const int64_t row = first + (i < count ? i : count - 1);
        a[i] = s.a[row];
        c[i] = s.c[row];
    }
    // Fetched for writing while a tile is computed, or 28 stores in a row wait for memory: this one, or the next where
    // this one is read at once.
    const bool more = s.rows - first >= 2 * MR;
    if (!s.accumulate && !s.stream) {
        for (int i = 0; i < MR; ++i)
            for (int v = 0; v < V; ++v) __builtin_prefetch(c[i] + v * VL, 1);
    } else if (s.accumulate && more) {
        for (int i = 0; i < MR; ++i)
            for (int v = 0; v < V; ++v) __builtin_prefetch(s.c[first + MR + i] + v * VL, 1);
    }
    Tile<V> t;
    PYCNN_UNROLL for (int i = 0; i < MR; ++i) PYCNN_UNROLL for (int v = 0; v < V; ++v) t.acc[i][v] = splat(0.0f);
    if (s.accumulate) {
        PYCNN_UNROLL for (int i = 0; i < MR; ++i) PYCNN_UNROLL for (int v = 0; v < V; ++v) t.acc[i][v] =
            load_first(c[i] + v * VL, v == V - 1 ? last : VL);
    }
    for (int64_t r = 0; r < s.ranges; ++r)
        if (s.ahead && more)
            multiply_ahead<V>(t, a, s.a + first + MR, s.offset, s.b, s.ldb, s.steps[r]);
        else
            multiply<V>(t, a, s.offset, s.b, s.ldb, s.steps[r]);
    if (s.bias) {
        PYCNN_UNROLL for (int v = 0; v < V; ++v) {
            const vec bias = load_first(s.bias + v * VL, v == V - 1 ? last : VL);
            PYCNN_UNROLL for (int i = 0; i < MR; ++i) t.acc[i][v] = t.acc[i][v] + bias;
        }
    }
    if (s.relu) {
        const vec zero = splat(0.0f);
        PYCNN_UNROLL for (int i = 0; i < MR; ++i) PYCNN_UNROLL for (int v = 0; v < V; ++v) t.acc[i][v] =
            select(greater(zero, t.acc[i][v]), zero, t.acc[i][v]);
    }
    if (s.stream && last == VL) {
        PYCNN_UNROLL for (int i = 0; i < MR; ++i) if (i < count) {
            PYCNN_UNROLL for (int v = 0; v < V; ++v) stream(c[i] + v * VL, t.acc[i][v]);
        }
        return;
    }
    PYCNN_UNROLL for (int i = 0; i < MR; ++i) if (i < count) {
        PYCNN_UNROLL for (int v = 0; v < V; ++v) store_first(c[i] + v * VL, t.acc[i][v], v == V - 1 ? last : VL);
    }
}

template <int V>
PYCNN_INLINE void panel(const IndirectBlock& s) {
    const int64_t last = s.columns - (V - 1) * VL;
    if (last == VL) {  // the same body twice: here the lanes are a constant and every masked load becomes a plain one
        for (int64_t first = 0; first < s.rows; first += MR) tile_of_rows<V>(s, first, VL);
    } else {
        for (int64_t first = 0; first < s.rows; first += MR) tile_of_rows<V>(s, first, last);
    }
}

}  // namespace

void indirect_block(const IndirectBlock& s) {
    if (NV == 1 || s.columns <= VL)
        panel<1>(s);
    else
        panel<NV>(s);
    if (s.stream) end_streams();
}

}  // namespace pycnn::PYCNN_ISA
