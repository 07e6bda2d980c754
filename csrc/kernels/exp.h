// exp of numbers up to 0, written out: libm's differs from machine to machine.
#pragma once
#include "simd.h"

namespace pycnn::PYCNN_ISA {

// 2^n for -126 <= n <= 127, from the bits of a float: (n + 127) << 23.
PYCNN_INLINE vec power_of_two(vec n) {
    vec r;
    PYCNN_EACH {
        const ireg e = (__builtin_convertvector(n.part[p], ireg) + 127) << 23;
        memcpy(&r.part[p], &e, sizeof e);
    }
    return r;
}

// exp(x) for x <= 0 (measured: the softmax of {0, x} is within 1.5 * 2^-23, relative, for -87 < x <= 0): x = n log 2 +
// r with |r| <= log(2) / 2, the Taylor polynomial of degree 7 for exp(r) (its remainder there is below 2^-27), times
// 2^n in two factors so that a subnormal result is rounded once.
PYCNN_INLINE vec exp_of_negative(vec x) {
    const vec lowest = splat(-104.0f);  // exp of it rounds to zero
    const vec clamped = select(greater(lowest, x), lowest, x);
    const vec shift = splat(12582912.0f);  // 1.5 * 2^23: adding it rounds to the nearest integer
    const vec n = fma(clamped, splat(1.44269504f), shift) - shift;
    vec r = fma(n, splat(-0.693359375f), clamped);  // log 2 in two pieces, the first exact in 10 bits
    r = fma(n, splat(2.12194440e-4f), r);
    vec e = splat(1.0f / 5040.0f);
    e = fma(e, r, splat(1.0f / 720.0f));
    e = fma(e, r, splat(1.0f / 120.0f));
    e = fma(e, r, splat(1.0f / 24.0f));
    e = fma(e, r, splat(1.0f / 6.0f));
    e = fma(e, r, splat(0.5f));
    e = fma(e, r, splat(1.0f));
    e = fma(e, r, splat(1.0f));
    const vec half = fma(n, splat(0.5f), shift) - shift;
    e = e * power_of_two(half) * power_of_two(n - half);
    return select(is_nan(x), x, e);
}

}  // namespace pycnn::PYCNN_ISA
