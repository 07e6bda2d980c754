// What pools, relu and softmax need of a vec: the rule of maximum, the larger of two numbers, powers of two.
// Beside simd.h and simd_lists.h the only file with `#if` on the instruction set; static and inlined alike.
#pragma once
#include "simd.h"

namespace pycnn::PYCNN_ISA {

// The one rule of maximum, of pools and relu alike: a NaN beats every number, and of equals (also of NaNs, of 0.0 and
// -0.0) the first stays.
PYCNN_INLINE ivec beats(vec v, vec best) { return greater(v, best) | and_not(is_nan(v), is_nan(best)); }
struct Maximum {
    vec value;
    ivec at;  // which one it is
};
PYCNN_INLINE void take(Maximum& best, vec v, int64_t at) {
    const ivec better = beats(v, best.value);
    best.value = select(better, v, best.value);
    best.at = select(better, isplat(static_cast<int32_t>(at)), best.at);
}
// The maximum of v and 0 by that rule, v being the first: NaN stays NaN, and -0.0 stays -0.0.
// Where the machine's maximum of (a, b) is a > b ? a : b it is that of (0, v), and one instruction.
PYCNN_INLINE reg relu(reg v) {
#if defined(__AVX512F__)
    return (reg)_mm512_maskz_max_ps(0xffff, (__m512)reg{}, (__m512)v);
#elif defined(__AVX2__)
    return (reg)_mm256_max_ps((__m256)reg{}, (__m256)v);
#elif defined(__x86_64__)
    return (reg)_mm_max_ps((__m128)reg{}, (__m128)v);
#else
    return reg{} > v ? reg{} : v;
#endif
}
PYCNN_INLINE vec relu(vec v) {
    vec r;
    PYCNN_EACH r.part[p] = relu(v.part[p]);
    return r;
}

// a > b ? a : b, so b where one of them is NaN.
PYCNN_INLINE vec larger(vec a, vec b) {
    vec r;
#if defined(__AVX512F__)
    PYCNN_EACH r.part[p] = (reg)_mm512_maskz_max_ps(0xffff, (__m512)a.part[p], (__m512)b.part[p]);
#elif defined(__AVX2__)
    PYCNN_EACH r.part[p] = (reg)_mm256_max_ps((__m256)a.part[p], (__m256)b.part[p]);
#else
    PYCNN_EACH r.part[p] = a.part[p] > b.part[p] ? a.part[p] : b.part[p];
#endif
    return r;
}

// a < b ? a : b, so b where one of them is NaN.
PYCNN_INLINE vec smaller(vec a, vec b) {
    vec r;
#if defined(__AVX512F__)
    PYCNN_EACH r.part[p] = (reg)_mm512_maskz_min_ps(0xffff, (__m512)a.part[p], (__m512)b.part[p]);
#elif defined(__AVX2__)
    PYCNN_EACH r.part[p] = (reg)_mm256_min_ps((__m256)a.part[p], (__m256)b.part[p]);
#else
    PYCNN_EACH r.part[p] = a.part[p] < b.part[p] ? a.part[p] : b.part[p];
#endif
    return r;
}

// The better one of best and v, and its place: a larger number, and NaN before numbers; `best` where none is better.
PYCNN_INLINE void take_better(vec& best, ivec& where, vec v, ivec place) {
#if defined(__AVX512F__)  // masks stay in mask registers: GCC moves those of select() to vectors and back
    const __m512 old = (__m512)best.part[0], candidate = (__m512)v.part[0];
    const __mmask16 number = _mm512_cmp_ps_mask(old, old, _CMP_ORD_Q);
    const __mmask16 better = _mm512_mask_cmp_ps_mask(number, candidate, old, _CMP_NLE_UQ);
    best.part[0] = (reg)_mm512_mask_mov_ps(old, better, candidate);
    where.part[0] = (ireg)_mm512_mask_mov_epi32((__m512i)where.part[0], better, (__m512i)place.part[0]);
#else
    const ivec better = beats(v, best);
    best = select(better, v, best);
    where = select(better, place, where);
#endif
}

// e * 2^n, rounded once: |e| near 1, n a whole number from -150 to 128. A subnormal or infinite result needs two factors.
PYCNN_INLINE vec scaled_by_power(vec e, vec n) {
    vec r;
#if defined(__AVX512F__)
    r.part[0] = (reg)_mm512_maskz_scalef_ps(0xffff, (__m512)e.part[0], (__m512)n.part[0]);
#else
    PYCNN_EACH {  // 2^n of a normal number, from the bits of a float: (n + 127) << 23
        const ireg whole_n = __builtin_convertvector(n.part[p], ireg), half = whole_n >> 1;
        const ireg first = (half + 127) << 23, second = (whole_n - half + 127) << 23;
        r.part[p] = e.part[p] * (reg)first * (reg)second;
    }
#endif
    return r;
}

}  // namespace pycnn::PYCNN_ISA
