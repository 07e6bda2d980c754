// Element by element, 16 at a time: prelu, sums, the conversion of bytes. Activations stand in epilogue.cpp.
//
//   prelu           y = x < 0 ? x * slope[c] : x, rows of C channels
//   prelu_gradient  dx = x < 0 ? dy * slope[c] : dy;  dslope[c] += sum over r of dy x where x < 0, r in order
//   accumulate      total += part
//   combine         y = a + b, a - b, a * b or a / b, rows of them, where a or b may repeat; y may be a or b
//   affine          y = x * scale + shift, rounded twice everywhere (no fma); y may be x
//   sum_rows        total[c] += sum over r of x[r][c], r in order
//   row_sums        total[r] = sum over c of x[r][c], in an order that depends on C alone
//   scale_bytes     y = float(x) * scale
//   scale           x *= factor
//   map_bytes       y = (float(x) * scale - mean) / std, each operation rounded: the bits of NumPy in float32
//   map_floats      the same of floats; NaN stays NaN

#include "kernels.h"
#include "simd_lists.h"
#include "simd_maps.h"
#include "table.h"

namespace pycnn::PYCNN_ISA {
namespace {

PYCNN_INLINE int64_t lanes_from(int64_t at, int64_t size) { return size - at < VL ? size - at : VL; }

template <Combine OP>
PYCNN_INLINE vec combined(vec a, vec b) {
    switch (OP) {
        case Combine::add:
            return a + b;
        case Combine::subtract:
            return a - b;
        case Combine::multiply:
            return a * b;
        case Combine::divide:
            return a / b;
    }
    return a;
}

// A row of one element is read as 16 of them, over and over: one loop for all that may repeat.
PYCNN_INLINE const float* row_of(float* once, const float* row, int64_t step) {
    if (step != 0) return row;
    store(once, splat(*row));
    return once;
}

template <Combine OP>
PYCNN_INLINE void combine_rows(const Combination& s) {
    const int64_t rows = s.rows, C = s.C, a_step = s.a_step, b_step = s.b_step;
    float a_once[VL], b_once[VL];
    for (int64_t r = 0; r < rows; ++r) {
        float* y = s.y + r * C;
        const float* a = row_of(a_once, s.a + r * s.a_row, a_step);
        const float* b = row_of(b_once, s.b + r * s.b_row, b_step);
        const auto some = [&](int64_t c, int64_t lanes) __attribute__((always_inline)) {
            const vec left = load_first(a + c * a_step, lanes), right = load_first(b + c * b_step, lanes);
            store_first(y + c, combined<OP>(left, right), lanes);
        };
        int64_t c = 0;
        for (; c + VL <= C; c += VL) some(c, VL);
        if (c < C) some(c, C - c);
    }
}

PYCNN_INLINE vec pixels(const uint8_t* x, int64_t lanes) { return to_floats(load_bytes(x, lanes)); }
PYCNN_INLINE vec pixels(const float* x, int64_t lanes) { return load_first(x, lanes); }

template <class T>
PYCNN_INLINE void map_pixels(float* y, const T* x, const PixelMap& map, int64_t size) {
    const vec scale = splat(map.scale);
    for (int64_t i = 0, at = 0; i < size; i += VL) {
        const int64_t lanes = lanes_from(i, size);
        vec v = pixels(x + i, lanes) * scale;
        if (map.mean) v = (v - load(map.mean + at)) / load(map.std + at);
        store_first(y + i, v, lanes);
        at = at + VL == map.period ? 0 : at + VL;
    }
}

// Up to four vecs of channels are summed in registers while the rows stream by.
template <int V>
PYCNN_INLINE void sum_columns(float* total, const float* x, int64_t rows, int64_t C, int64_t last) {
    vec acc[V];
    PYCNN_UNROLL for (int v = 0; v < V; ++v) acc[v] = load_first(total + v * VL, v == V - 1 ? last : VL);
    for (int64_t r = 0; r < rows; ++r, x += C) {
        PYCNN_UNROLL for (int v = 0; v < V; ++v) acc[v] = acc[v] + load_first(x + v * VL, v == V - 1 ? last : VL);
    }
    PYCNN_UNROLL for (int v = 0; v < V; ++v) store_first(total + v * VL, acc[v], v == V - 1 ? last : VL);
}

}  // namespace

void prelu(const Prelu& s) {
    for (int64_t r = 0; r < s.rows; ++r)
        for (int64_t c = 0; c < s.C; c += VL) {
            const int64_t at = r * s.C + c, lanes = lanes_from(c, s.C);
            const vec x = load_first(s.x + at, lanes);
            store_first(s.y + at, select(greater(splat(0.0f), x), x * load_first(s.slope + c, lanes), x), lanes);
        }
}

void prelu_gradient(const PreluGradient& s) {
    const vec zero = splat(0.0f);
    for (int64_t c = 0; c < s.C; c += VL) {
        const int64_t lanes = lanes_from(c, s.C);
        const vec slope = load_first(s.slope + c, lanes);
        vec sum = load_first(s.dslope + c, lanes);
        for (int64_t r = 0; r < s.rows; ++r) {
            const int64_t at = r * s.C + c;
            const vec x = load_first(s.x + at, lanes), dy = load_first(s.dy + at, lanes);
            const ivec below = greater(zero, x);
            sum = select(below, fma(dy, x, sum), sum);
            if (s.dx) store_first(s.dx + at, select(below, dy * slope, dy), lanes);
        }
        store_first(s.dslope + c, sum, lanes);
    }
}

void accumulate(float* total, const float* part, int64_t size) {
    combine_rows<Combine::add>({.y = total,
                                .a = total,
                                .b = part,
                                .rows = 1,
                                .C = size,
                                .a_row = 0,
                                .b_row = 0,
                                .a_step = 1,
                                .b_step = 1,
                                .op = Combine::add});
}

void combine(const Combination& s) {
    switch (s.op) {
        case Combine::add:
            return combine_rows<Combine::add>(s);
        case Combine::subtract:
            return combine_rows<Combine::subtract>(s);
        case Combine::multiply:
            return combine_rows<Combine::multiply>(s);
        case Combine::divide:
            return combine_rows<Combine::divide>(s);
    }
}

void affine(const Affine& s) {
    for (int64_t i = 0; i < s.size; i += VL) {
        const int64_t lanes = lanes_from(i, s.size);
        store_first(s.y + i, load_first(s.x + i, lanes) * splat(s.scale) + splat(s.shift), lanes);
    }
}

void sum_rows(float* total, const float* x, int64_t rows, int64_t C) {
    int64_t c = 0;
    for (; c + 4 * VL <= C; c += 4 * VL) sum_columns<4>(total + c, x + c, rows, C, VL);
    for (; c + VL <= C; c += VL) sum_columns<1>(total + c, x + c, rows, C, VL);
    if (c < C) sum_columns<1>(total + c, x + c, rows, C, C - c);
}

void row_sums(float* total, const float* x, int64_t rows, int64_t C) {
    for (int64_t r = 0; r < rows; ++r, x += C) {
        vec acc[4];
        PYCNN_UNROLL for (int v = 0; v < 4; ++v) acc[v] = splat(0.0f);
        int64_t c = 0;
        for (; c + 4 * VL <= C; c += 4 * VL)
            PYCNN_UNROLL for (int v = 0; v < 4; ++v) acc[v] = acc[v] + load(x + c + v * VL);
        for (; c < C; c += VL) acc[0] = acc[0] + load_first(x + c, lanes_from(c, C));
        total[r] = sum_lanes((acc[0] + acc[1]) + (acc[2] + acc[3]));
    }
}

void scale_bytes(float* y, const uint8_t* x, float scale, int64_t size) {
    for (int64_t i = 0; i < size; ++i) y[i] = static_cast<float>(x[i]) * scale;
}

void scale(float* x, float factor, int64_t size) {
    for (int64_t i = 0; i < size; i += VL) {
        const int64_t lanes = lanes_from(i, size);
        store_first(x + i, load_first(x + i, lanes) * splat(factor), lanes);
    }
}

void map_bytes(float* y, const uint8_t* x, const PixelMap& map, int64_t size) { map_pixels(y, x, map, size); }

void map_floats(float* y, const float* x, const PixelMap& map, int64_t size) { map_pixels(y, x, map, size); }

}  // namespace pycnn::PYCNN_ISA
