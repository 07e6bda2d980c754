// exp of numbers up to 0, written out: libm's differs from machine to machine.
#pragma once
#include "simd_maps.h"

namespace pycnn::PYCNN_ISA {

// exp(x) for x <= 0 (measured: the softmax of {0, x} is within 2 * 2^-23, relative, for -87 < x <= 0): x = n log 2 +
// r with |r| <= log(2) / 2, the Taylor polynomial of degree 7 for exp(r) (its remainder there is below 2^-27), times
// 2^n. NaN stays NaN.
PYCNN_INLINE vec exp_of_negative(vec x) {
    const vec clamped = larger(splat(-104.0f), x);  // exp of it rounds to zero
    const vec shift = splat(12582912.0f);           // 1.5 * 2^23: adding it rounds to the nearest integer
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
    return scaled_by_power(e, n);
}

}  // namespace pycnn::PYCNN_ISA
