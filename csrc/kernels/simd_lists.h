// What zero-skipping, augmentation and groups need of a vec: bytes, bit masks of lanes, lists of the lanes that a mask
// names, a choice of four, loads from anywhere, another order of the lanes.
// Beside simd.h the only file with `#if` on the instruction set; static and inlined alike.
#pragma once
#include "simd.h"

namespace pycnn::PYCNN_ISA {

// 16 small numbers, one byte each; lanes past `lanes` are zero.
PYCNN_INLINE ivec load_bytes(const uint8_t* a, int64_t lanes) {
    uint8_t padded[VL] = {};
    if (lanes < VL) {
        for (int64_t i = 0; i < lanes; ++i) padded[i] = a[i];
        a = padded;
    }
    ivec r;
#if defined(__AVX512F__)
    r.part[0] = (ireg)_mm512_maskz_cvtepu8_epi32(0xffff, _mm_loadu_si128(reinterpret_cast<const __m128i*>(a)));
#elif defined(__AVX2__)
    PYCNN_EACH r.part[p] =
        (ireg)_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(a + p * REG / 4)));
#else
    PYCNN_EACH for (int i = 0; i < REG / 4; ++i) r.part[p][i] = a[p * REG / 4 + i];
#endif
    return r;
}

// Bit i is set where lane i is not zero; NaN is not zero.
PYCNN_INLINE uint32_t nonzero_bits(vec a) {
#if defined(__AVX512F__)
    return _mm512_cmp_ps_mask((__m512)a.part[0], _mm512_setzero_ps(), _CMP_NEQ_UQ);
#elif defined(__AVX2__)
    uint32_t bits = 0;
    PYCNN_EACH bits |=
        static_cast<uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps((__m256)a.part[p], _mm256_setzero_ps(), _CMP_NEQ_UQ)))
        << (p * REG / 4);
    return bits;
#else
    float lane[VL];
    store(lane, a);
    uint32_t bits = 0;
    for (int i = 0; i < VL; ++i) bits |= static_cast<uint32_t>(lane[i] != 0.0f) << i;
    return bits;
#endif
}
PYCNN_INLINE uint32_t equal_bits(ivec a, ivec b) {
#if defined(__AVX512F__)
    return _mm512_cmpeq_epi32_mask((__m512i)a.part[0], (__m512i)b.part[0]);
#elif defined(__AVX2__)
    uint32_t bits = 0;
    PYCNN_EACH bits |=
        static_cast<uint32_t>(_mm256_movemask_ps((__m256)_mm256_cmpeq_epi32((__m256i)a.part[p], (__m256i)b.part[p])))
        << (p * REG / 4);
    return bits;
#else
    int32_t left[VL], right[VL];
    store(left, a), store(right, b);
    uint32_t bits = 0;
    for (int i = 0; i < VL; ++i) bits |= static_cast<uint32_t>(left[i] == right[i]) << i;
    return bits;
#endif
}

#if defined(__AVX2__) && !defined(__AVX512F__)
struct LanesOfBits {  // byte i of order[bits]: the i-th set bit
    uint64_t order[256];
    constexpr LanesOfBits() : order() {
        for (uint64_t bits = 0; bits < 256; ++bits) {
            uint64_t count = 0;
            for (uint64_t lane = 0; lane < 8; ++lane)
                if (bits >> lane & 1) order[bits] |= lane << (8 * count++);
        }
    }
};
static constexpr LanesOfBits kLanesOfBits;
#endif

// Writes first + i for each bit i that is set, ascending; returns their number. May write 16 elements.
PYCNN_INLINE int64_t list_bits(int32_t* to, uint32_t bits, int32_t first) {
#if defined(__AVX512F__)
    const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i all = _mm512_add_epi32(lane, _mm512_set1_epi32(first));
    _mm512_storeu_si512(to, _mm512_maskz_compress_epi32((__mmask16)bits, all));
    return __builtin_popcount(bits);
#elif defined(__AVX2__)
    int64_t n = 0;
    PYCNN_EACH {
        const uint32_t eight = bits >> (8 * p) & 255;
        const __m128i order = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(kLanesOfBits.order + eight));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + n),
                            _mm256_add_epi32(_mm256_cvtepu8_epi32(order), _mm256_set1_epi32(first + 8 * p)));
        n += __builtin_popcount(eight);
    }
    return n;
#else
    int64_t n = 0;
    for (int i = 0; i < VL; ++i) {
        to[n] = first + i;
        n += bits >> i & 1;
    }
    return n;
#endif
}

// The lanes of a and b that `bits` names go to to_a and to_b without gaps; returns their number. May write 16 elements.
PYCNN_INLINE int64_t compress(float* to_a, int32_t* to_b, uint32_t bits, vec a, ivec b) {
#if defined(__AVX512F__)
    _mm512_storeu_ps(to_a, _mm512_maskz_compress_ps((__mmask16)bits, (__m512)a.part[0]));
    _mm512_storeu_si512(to_b, _mm512_maskz_compress_epi32((__mmask16)bits, (__m512i)b.part[0]));
    return __builtin_popcount(bits);
#elif defined(__AVX2__)
    int64_t n = 0;
    PYCNN_EACH {
        const uint32_t eight = bits >> (8 * p) & 255;
        const __m256i order =
            _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(kLanesOfBits.order + eight)));
        _mm256_storeu_ps(to_a + n, _mm256_permutevar8x32_ps((__m256)a.part[p], order));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to_b + n),
                            _mm256_permutevar8x32_epi32((__m256i)b.part[p], order));
        n += __builtin_popcount(eight);
    }
    return n;
#else
    float lane_a[VL];
    int32_t lane_b[VL];
    store(lane_a, a), store(lane_b, b);
    int64_t n = 0;
    for (int i = 0; i < VL; ++i) {
        to_a[n] = lane_a[i], to_b[n] = lane_b[i];
        n += bits >> i & 1;
    }
    return n;
#endif
}

PYCNN_INLINE ivec bits_of(vec a) {
    ivec r;
    PYCNN_EACH r.part[p] = (ireg)a.part[p];
    return r;
}
PYCNN_INLINE vec as_floats(ivec a) {
    vec r;
    PYCNN_EACH r.part[p] = (reg)a.part[p];
    return r;
}

// Lane i is four[which[i]]; which holds 0 to 3.
template <class T, class V>
static inline __attribute__((always_inline)) V pick_any(const T* four, ivec which) {
    V r;
#if defined(__AVX512F__)
    const __m128 quarter = _mm_loadu_ps(reinterpret_cast<const float*>(four));
    const __m512 table = _mm512_maskz_broadcast_f32x4(0xffff, quarter);
    const __m512 lanes = _mm512_maskz_permutevar_ps(0xffff, table, (__m512i)which.part[0]);
    std::memcpy(&r, &lanes, sizeof r);
#elif defined(__AVX2__)
    const __m256 table = _mm256_broadcast_ps(reinterpret_cast<const __m128*>(four));
    PYCNN_EACH {
        const __m256 lanes = _mm256_permutevar_ps(table, (__m256i)which.part[p]);
        std::memcpy(&r.part[p], &lanes, sizeof lanes);
    }
#else
    PYCNN_EACH for (int i = 0; i < REG / 4; ++i) r.part[p][i] = four[which.part[p][i] & 3];
#endif
    return r;
}
PYCNN_INLINE vec pick(const float* four, ivec which) { return pick_any<float, vec>(four, which); }
PYCNN_INLINE ivec pick(const int32_t* four, ivec which) { return pick_any<int32_t, ivec>(four, which); }

// Lane i is a[at[i]].
PYCNN_INLINE vec gather(const float* a, ivec at) {
    vec r;
#if defined(__AVX512F__)
    r.part[0] = (reg)_mm512_mask_i32gather_ps(_mm512_setzero_ps(), 0xffff, (__m512i)at.part[0], a, 4);
#elif defined(__AVX2__)
    PYCNN_EACH r.part[p] = (reg)_mm256_i32gather_ps(a, (__m256i)at.part[p], 4);
#else
    PYCNN_EACH for (int i = 0; i < REG / 4; ++i) r.part[p][i] = a[at.part[p][i]];
#endif
    return r;
}
// Lane i of first is a[at[i]], of second a[at[i] + 1]: half the loads of two gathers. Shift and affine of 100 images
// 28x28 take 220 instead of 286 microseconds with AVX-512, 216 instead of 258 with AVX2 (Zen 4, one thread).
PYCNN_INLINE void gather_pairs(const float* a, ivec at, vec& first, vec& second) {
#if defined(__AVX512F__)
    const double* pairs = reinterpret_cast<const double*>(a);
    const __m512i all = (__m512i)at.part[0];
    const __m512d zero = _mm512_setzero_pd();
    const __m512 low =
        _mm512_castpd_ps(_mm512_mask_i32gather_pd(zero, 0xff, _mm512_maskz_extracti32x8_epi32(0xff, all, 0), pairs, 4));
    const __m512 high =
        _mm512_castpd_ps(_mm512_mask_i32gather_pd(zero, 0xff, _mm512_maskz_extracti32x8_epi32(0xff, all, 1), pairs, 4));
    const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    first.part[0] = (reg)_mm512_permutex2var_ps(low, even, high);
    second.part[0] = (reg)_mm512_permutex2var_ps(low, _mm512_add_epi32(even, _mm512_set1_epi32(1)), high);
#elif defined(__AVX2__)
    const double* pairs = reinterpret_cast<const double*>(a);
    const __m256d zero = _mm256_setzero_pd(), every = _mm256_cmp_pd(zero, zero, _CMP_EQ_OQ);
    PYCNN_EACH {
        const __m256i all = (__m256i)at.part[p];
        const __m256 low =
            _mm256_castpd_ps(_mm256_mask_i32gather_pd(zero, pairs, _mm256_castsi256_si128(all), every, 4));
        const __m256 high =
            _mm256_castpd_ps(_mm256_mask_i32gather_pd(zero, pairs, _mm256_extracti128_si256(all, 1), every, 4));
        const __m256d even = _mm256_castps_pd(_mm256_shuffle_ps(low, high, 0x88));
        const __m256d odd = _mm256_castps_pd(_mm256_shuffle_ps(low, high, 0xdd));
        first.part[p] = (reg)_mm256_permute4x64_pd(even, 0xd8);
        second.part[p] = (reg)_mm256_permute4x64_pd(odd, 0xd8);
    }
#else
    first = gather(a, at);
    second = gather(a + 1, at);
#endif
}

// Lane i is a[index[i]]; index holds 0 to 15.
PYCNN_INLINE vec permute(vec a, ivec index) {
    vec r;
#if defined(__AVX512F__)
    r.part[0] = (reg)_mm512_maskz_permutexvar_ps(0xffff, (__m512i)index.part[0], (__m512)a.part[0]);
#elif defined(__AVX2__)
    PYCNN_EACH {
        const __m256i at = (__m256i)index.part[p];
        const __m256 low = _mm256_permutevar8x32_ps((__m256)a.part[0], at);
        const __m256 high = _mm256_permutevar8x32_ps((__m256)a.part[1], at);
        r.part[p] = (reg)_mm256_blendv_ps(low, high, _mm256_castsi256_ps(_mm256_slli_epi32(at, 28)));
    }
#else
    float lane[VL];
    store(lane, a);
    PYCNN_EACH for (int i = 0; i < REG / 4; ++i) r.part[p][i] = lane[index.part[p][i]];
#endif
    return r;
}

// Lane i is a[i % G]: one load, in no need of a permutation.
template <int G>
static inline __attribute__((always_inline)) vec repeat(const float* a) {
    static_assert(G == 1 || G == 2 || G == 4 || G == 8, "a part of a vec");
    if constexpr (G == 1) return splat(*a);
    vec r;
#if defined(__AVX512F__)
    if constexpr (G == 2) {
        double two;
        std::memcpy(&two, a, sizeof two);
        r.part[0] = (reg)_mm512_set1_pd(two);
    } else if constexpr (G == 4) {
        r.part[0] = (reg)_mm512_maskz_broadcast_f32x4(0xffff, _mm_loadu_ps(a));
    } else {
        r.part[0] = (reg)_mm512_maskz_broadcast_f32x8(0xffff, _mm256_loadu_ps(a));
    }
#elif defined(__AVX2__)
    if constexpr (G == 2) {
        double two;
        std::memcpy(&two, a, sizeof two);
        PYCNN_EACH r.part[p] = (reg)_mm256_set1_pd(two);
    } else if constexpr (G == 4) {
        PYCNN_EACH r.part[p] = (reg)_mm256_broadcast_ps(reinterpret_cast<const __m128*>(a));
    } else {
        PYCNN_EACH r.part[p] = *reinterpret_cast<const reg*>(a);
    }
#else
    PYCNN_EACH for (int i = 0; i < REG / 4; ++i) r.part[p][i] = a[(p * REG / 4 + i) % G];
#endif
    return r;
}

}  // namespace pycnn::PYCNN_ISA
