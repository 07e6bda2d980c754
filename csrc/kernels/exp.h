// exp, log, tanh, erf and their kin in float32, written out: libm's differ from machine to machine.
//
// Errors against the exact value, in units in the last place of the result, the largest over all floats of the range
// (docs/kernels.md has how they were measured; with FMA, that is on every instruction set but the baseline):
//
//   exp 0.94   expm1 1.3 (x <= 0)   log 2.9   tanh 1.6   erf 1.0      softplus, with log1p, 3.3
//
// NaN stays NaN in all of them.
#pragma once
#include "simd_maps.h"

namespace pycnn::PYCNN_ISA {

// exp(x) = 2^n (1 + r tail): x = n log 2 + r with |r| <= log(2) / 2, and the Taylor polynomial of degree 7 for exp(r) (its
// remainder there is below 2^-27). -104 <= x <= 89.
struct ExpParts {
    vec n, r, tail;
};
PYCNN_INLINE ExpParts exp_parts(vec x) {
    const vec shift = splat(12582912.0f);  // 1.5 * 2^23: adding it rounds to the nearest integer
    const vec n = fma(x, splat(1.44269504f), shift) - shift;
    vec r = fma(n, splat(-0.693359375f), x);  // log 2 in two pieces, the first exact in 10 bits
    r = fma(n, splat(2.12194440e-4f), r);
    vec e = splat(1.0f / 5040.0f);
    e = fma(e, r, splat(1.0f / 720.0f));
    e = fma(e, r, splat(1.0f / 120.0f));
    e = fma(e, r, splat(1.0f / 24.0f));
    e = fma(e, r, splat(1.0f / 6.0f));
    e = fma(e, r, splat(0.5f));
    return {n, r, fma(e, r, splat(1.0f))};
}
PYCNN_INLINE vec exp_within(vec x) {
    const ExpParts e = exp_parts(x);
    return scaled_by_power(fma(e.tail, e.r, splat(1.0f)), e.n);
}

// exp of -104 rounds to zero, of 89 to Inf.
PYCNN_INLINE vec exp_of_negative(vec x) { return exp_within(larger(splat(-104.0f), x)); }  // x <= 0
PYCNN_INLINE vec exp_of(vec x) { return exp_within(smaller(splat(89.0f), larger(splat(-104.0f), x))); }
// exp(x) - 1, x <= 0; nothing cancels near 0, where n is 0.
PYCNN_INLINE vec expm1_of_negative(vec x) {
    const ExpParts e = exp_parts(larger(splat(-104.0f), x));
    const vec power = scaled_by_power(splat(1.0f), e.n);
    return fma(power, e.tail * e.r, power - splat(1.0f));
}

// log(x 2^-down) of normal numbers x: x = 2^n m with m in [0.7, 1.4], log m = 2 (s + s^3/3 + s^5/5 + ...) with
// s = (m - 1) / (m + 1), so a log near 0 keeps its digits too.
PYCNN_INLINE vec log_within(vec x, vec down) {
    vec n, m;
    PYCNN_EACH {
        const ireg bits = (ireg)x.part[p], power = (bits - 0x3f3504f3) >> 23;  // from the square root of 1/2 on
        n.part[p] = __builtin_convertvector(power, reg);
        m.part[p] = (reg)(bits - (power << 23));
    }
    n = n - down;
    const vec s = (m - splat(1.0f)) / (m + splat(1.0f)), s2 = s * s;
    vec series = splat(2.0f / 11.0f);
    series = fma(series, s2, splat(2.0f / 9.0f));
    series = fma(series, s2, splat(2.0f / 7.0f));
    series = fma(series, s2, splat(2.0f / 5.0f));
    series = fma(series, s2, splat(2.0f / 3.0f));
    series = fma(series, s2, splat(2.0f));
    const vec low = fma(n, splat(-2.12194440e-4f), s * series);  // log 2 in two pieces, as in exp_parts
    return fma(n, splat(0.693359375f), low);
}
// Of any x: -Inf of 0, NaN of what is below.
PYCNN_INLINE vec log_of(vec x) {
    const vec zero = splat(0.0f), infinity = splat(__builtin_inff());
    const ivec tiny = greater(splat(0x1p-126f), x);  // subnormal numbers become normal ones
    const vec y = log_within(select(tiny, x * splat(0x1p24f), x), select(tiny, splat(24.0f), zero));
    const vec rest = select(greater(zero, x), splat(__builtin_nanf("")), x - infinity);  // of 0 and NaN too
    return select(greater(x, zero), select(greater(infinity, x), y, x), rest);
}
// log(1 + x), 0 <= x <= 1: the same series, s = x / (2 + x) <= 1/3.
PYCNN_INLINE vec log1p_of(vec x) {
    const vec s = x / (splat(2.0f) + x), s2 = s * s;
    vec series = splat(2.0f / 15.0f);
    series = fma(series, s2, splat(2.0f / 13.0f));
    series = fma(series, s2, splat(2.0f / 11.0f));
    series = fma(series, s2, splat(2.0f / 9.0f));
    series = fma(series, s2, splat(2.0f / 7.0f));
    series = fma(series, s2, splat(2.0f / 5.0f));
    series = fma(series, s2, splat(2.0f / 3.0f));
    return s * fma(series, s2, splat(2.0f));
}

PYCNN_INLINE vec like(vec, double c) { return splat(static_cast<float>(c)); }
PYCNN_INLINE vec absolute(vec x) { return select(greater(x, splat(0.0f)), x, splat(0.0f) - x); }
PYCNN_INLINE vec with_sign_of(vec x, vec size) { return select(greater(splat(0.0f), x), splat(0.0f) - size, size); }

// (1 - e) / (1 + e) with e = exp(-2 |x|); it cancels near zero, and there it is the polynomial of Cephes' tanhf.
PYCNN_INLINE vec tanh_of(vec x) {
    const vec one = splat(1.0f), size = absolute(x), e = exp_of_negative(splat(-2.0f) * size);
    const vec far = (one - e) / (one + e), square = x * x;
    vec p = splat(-5.70498872745e-3f);
    p = fma(p, square, splat(2.06390887954e-2f));
    p = fma(p, square, splat(-5.37397155531e-2f));
    p = fma(p, square, splat(1.33314422036e-1f));
    p = fma(p, square, splat(-3.33332819422e-1f));
    const vec near = fma(x * square, p, x);
    return select(greater(splat(0.625f), size), near, with_sign_of(x, far));
}

// erf(x) where |x| < kErfNear, a polynomial; beyond, 1 - erf(|x|) is exp of another one.
constexpr float kErfNear = 0.927734375f;
PYCNN_INLINE vec erf_near(vec x) {
    const vec square = x * x;
    vec p = splat(-5.96761703e-4f);
    p = fma(p, square, splat(4.99119423e-3f));
    p = fma(p, square, splat(-2.67681349e-2f));
    p = fma(p, square, splat(1.12819925e-1f));
    p = fma(p, square, splat(-3.76125336e-1f));
    p = fma(p, square, splat(1.28379166e-1f));
    return fma(p, x, x);
}
PYCNN_INLINE vec erfc_far(vec size) {
    const vec t = smaller(splat(10.0f), size), square = t * t;  // of 10 it rounds to zero
    vec p = fma(splat(-1.72853470e-5f), t, splat(3.83197126e-4f));
    const vec u = fma(splat(-3.88396438e-3f), t, splat(2.42546219e-2f));
    p = fma(p, square, u);
    p = fma(p, t, splat(-1.06777877e-1f));
    p = fma(p, t, splat(-6.34846687e-1f));
    p = fma(p, t, splat(-1.28717512e-1f));
    return exp_of_negative(fma(p, t, splat(0.0f) - t));
}
PYCNN_INLINE vec erf_of(vec x) {
    const vec size = absolute(x);
    const vec far = with_sign_of(x, splat(1.0f) - erfc_far(size));
    return select(greater(size, splat(kErfNear)), far, erf_near(x));
}
// (1 + erf(x / sqrt 2)) / 2, the share of a normal distribution below x: nothing cancels where it is small.
PYCNN_INLINE vec normal_share(vec x) {
    const vec half = splat(0.5f), z = x * splat(0.70710678f), size = absolute(z);
    const vec tail = half * erfc_far(size);
    const vec far = select(greater(x, splat(0.0f)), splat(1.0f) - tail, tail);
    return select(greater(size, splat(kErfNear)), far, fma(half, erf_near(z), half));
}

}  // namespace pycnn::PYCNN_ISA
