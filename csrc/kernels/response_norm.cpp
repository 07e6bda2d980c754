// Local response normalisation of each row [C] by itself, across its channels (Krizhevsky, Sutskever & Hinton 2012):
//
//   response_norm            y = x * p, p = d^-beta, d = k + scale * sum over the window of x^2
//   response_norm_gradient   dx = dy * p - 2 scale beta x * sum over the windows that hold c of dy y / d; may be dy
//
// The window of channel c is [c - before, c + after], cut at the ends; c lies in those of [c - after, c + before]. What is
// summed lies between zeros in the caller's room, so sums need no branch: window by window, from its first channel on.
// d^(-3/4), the usual one, is 1 / (sqrt(d) sqrt(sqrt(d))), others a general power.

#include "kernels.h"
#include "power.h"
#include "simd.h"
#include "table.h"

namespace pycnn::PYCNN_ISA {
namespace {

void clear_rims(float* terms, const ResponseNorm& s) {
    const int64_t rim = s.before + s.after;
    for (int64_t i = 0; i < rim; ++i) terms[i] = terms[rim + s.C + i] = 0.0f;
    for (int64_t i = 0; i < VL; ++i) terms[2 * rim + s.C + i] = 0.0f;
}

// The sum over [c - first, c - first + size) of the terms, 16 windows at once; terms[rim + c] belongs to channel c.
PYCNN_INLINE vec window(const float* terms, const ResponseNorm& s, int64_t c, int64_t first) {
    const float* at = terms + s.before + s.after + c - first;
    vec sum = load(at);
    for (int64_t i = 1; i <= s.before + s.after; ++i) sum = sum + load(at + i);
    return sum;
}

PYCNN_INLINE vec inverse_power(vec d, const Exponent& e) {
    if (e.p == -0.75) {
        const vec root = square_root(d);
        return splat(1.0f) / (root * square_root(root));
    }
    return power_of(d, e);
}

template <class Body>
PYCNN_INLINE void for_vecs(int64_t C, Body&& body) {
    int64_t c = 0;
    for (; c + VL <= C; c += VL) body(c, int64_t{VL});
    if (c < C) body(c, C - c);
}

}  // namespace

void response_norm(float* y, const float* x, const ResponseNorm& s) {
    const int64_t rim = s.before + s.after;
    const Exponent e = exponent_of(-s.beta);
    float* squares = s.room;
    clear_rims(squares, s);
    for (int64_t r = 0; r < s.rows; ++r, x += s.C, y += s.C) {
        for_vecs(s.C, [&](int64_t c, int64_t lanes) __attribute__((always_inline)) {
            const vec v = load_first(x + c, lanes);
            store_first(squares + rim + c, v * v, lanes);
        });
        for_vecs(s.C, [&](int64_t c, int64_t lanes) __attribute__((always_inline)) {
            const vec d = fma(window(squares, s, c, s.before), splat(s.scale), splat(s.k));
            store_first(y + c, load_first(x + c, lanes) * inverse_power(d, e), lanes);
        });
    }
}

void response_norm_gradient(float* dx, const float* dy, const float* x, const ResponseNorm& s) {
    const int64_t rim = s.before + s.after;
    float *squares = s.room, *shares = s.room + s.C + 2 * rim + VL;
    clear_rims(squares, s), clear_rims(shares, s);
    const Exponent e = exponent_of(-s.beta);
    const vec factor = splat(static_cast<float>(-2.0 * s.scale * s.beta));
    for (int64_t r = 0; r < s.rows; ++r, x += s.C, dy += s.C, dx += s.C) {
        for_vecs(s.C, [&](int64_t c, int64_t lanes) __attribute__((always_inline)) {
            const vec v = load_first(x + c, lanes);
            store_first(squares + rim + c, v * v, lanes);
        });
        for_vecs(s.C, [&](int64_t c, int64_t lanes) __attribute__((always_inline)) {
            const vec d = fma(window(squares, s, c, s.before), splat(s.scale), splat(s.k));
            const vec own = load_first(dy + c, lanes) * inverse_power(d, e);
            store_first(shares + rim + c, own * load_first(x + c, lanes) / d, lanes);
            store_first(dx + c, own, lanes);
        });
        for_vecs(s.C, [&](int64_t c, int64_t lanes) __attribute__((always_inline)) {
            const vec others = load_first(x + c, lanes) * factor * window(shares, s, c, s.after);
            store_first(dx + c, load_first(dx + c, lanes) + others, lanes);
        });
    }
}

}  // namespace pycnn::PYCNN_ISA
