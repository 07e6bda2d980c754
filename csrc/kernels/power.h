// A general power of float32: |x|^p = 2^n exp(r), n log 2 + r = p log |x|, in double, 16 at a time in plain loops that the
// compiler makes vectors of,
//
//   log x = e log 2 + 2 (s + s^3 / 3 + ... + s^19 / 19), s = (m - 1) / (m + 1), x = 2^e m, m from sqrt(1/2) to sqrt(2)
//   exp r by its Taylor polynomial of degree 13, |r| <= log(2) / 2
//
// with an error below 2^-44, relative, so that rounding to float32 is nearly all of the error (0.5 ulp); no libm, no fused
// multiply-add, so the bits are those of every machine. As pow of C: x^0 = 1, also of NaN; a negative x has a power only
// if the exponent is whole (-Inf too, unlike there); 0^p and Inf^p are 0, 1 or Inf.
#pragma once
#include "simd.h"

namespace pycnn::PYCNN_ISA {

PYCNN_INLINE uint64_t bits_of(double x) {
    uint64_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    return bits;
}
PYCNN_INLINE double with_bits(uint64_t bits) {
    double x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
}

constexpr double kLog2 = 0.6931471805599453, kLog2Rest = 2.3190468138462996e-17;
constexpr double kShift = 6755399441055744.0;  // 1.5 * 2^52: adding it rounds to the nearest integer

// log of a positive normal number.
PYCNN_INLINE double log_of(double x) {
    constexpr uint64_t kRootHalf = 0x3fe6a09e667f3bcd;  // sqrt(1/2)
    const uint64_t bits = bits_of(x);
    const uint64_t e = (bits - kRootHalf + (uint64_t{1024} << 52)) >> 52;  // the exponent + 1024
    const double m = with_bits(bits - ((e - 1024) << 52));
    const double exponent = with_bits(e | 0x4330000000000000) - (4503599627370496.0 + 1024.0);
    const double s = (m - 1.0) / (m + 1.0), q = s * s;
    double p = 1.0 / 19.0;
    p = p * q + 1.0 / 17.0;
    p = p * q + 1.0 / 15.0;
    p = p * q + 1.0 / 13.0;
    p = p * q + 1.0 / 11.0;
    p = p * q + 1.0 / 9.0;
    p = p * q + 1.0 / 7.0;
    p = p * q + 1.0 / 5.0;
    p = p * q + 1.0 / 3.0;
    return exponent * kLog2 + (2.0 * s + 2.0 * s * q * p);
}

// exp of a number from -1000 log 2 to 1000 log 2.
PYCNN_INLINE double exp_of(double x) {
    const double shifted = x * 1.4426950408889634 + kShift, n = shifted - kShift;
    const double r = (x - n * kLog2) - n * kLog2Rest;
    double p = 1.0 / 6227020800.0;
    p = p * r + 1.0 / 479001600.0;
    p = p * r + 1.0 / 39916800.0;
    p = p * r + 1.0 / 3628800.0;
    p = p * r + 1.0 / 362880.0;
    p = p * r + 1.0 / 40320.0;
    p = p * r + 1.0 / 5040.0;
    p = p * r + 1.0 / 720.0;
    p = p * r + 1.0 / 120.0;
    p = p * r + 1.0 / 24.0;
    p = p * r + 1.0 / 6.0;
    p = p * r + 0.5;
    p = p * r + 1.0;
    p = p * r + 1.0;
    return p * with_bits((bits_of(shifted) << 52) + (uint64_t{1023} << 52));
}

struct Exponent {
    double p;
    double of_zero, of_infinity;  // 0^p, Inf^p
    bool whole, odd;
};

PYCNN_INLINE double power_of(double x, const Exponent& e) {
    const double size = x < 0 ? -x : x;
    const bool plain = size > 0 && size < 1e300;  // a float32: neither 0, nor Inf, nor NaN
    double t = e.p * log_of(plain ? size : 1.0);
    t = t < 690.0 ? t : 690.0, t = t > -690.0 ? t : -690.0;
    const double limit = size == 0 ? e.of_zero : size > 0 ? e.of_infinity : size;  // or NaN
    const double value = plain ? exp_of(t) : limit;
    const double given = x < 0 && !e.whole ? with_bits(0x7ff8000000000000) : value;
    const uint64_t sign = e.odd ? bits_of(x) & (uint64_t{1} << 63) : 0;
    return with_bits(bits_of(given) ^ sign);
}

PYCNN_INLINE bool is_whole(double p) {  // from 2^52 on all numbers are
    constexpr double kAll = 4503599627370496.0;
    const double size = p < 0 ? -p : p;
    return size >= kAll || (size + kAll) - kAll == size;
}

PYCNN_INLINE Exponent exponent_of(double p) {
    const double infinity = with_bits(0x7ff0000000000000);
    return {p, p < 0 ? infinity : 0.0, p < 0 ? 0.0 : infinity, is_whole(p), is_whole(p) && !is_whole(p / 2)};
}

namespace {

// One copy a file: it is long, and a call costs nothing beside it.
[[maybe_unused]] __attribute__((noinline)) vec power_of(vec x, const Exponent& e) {
    float in[VL], out[VL];
    store(in, x);
    for (int i = 0; i < VL; ++i) out[i] = static_cast<float>(power_of(in[i], e));
    return load(out);
}

}  // namespace

}  // namespace pycnn::PYCNN_ISA
