// One vector type for every machine: 16 floats. AVX-512: one zmm. AVX2: two ymm. NEON, baseline: four 16-byte
// registers. The only file with `#if` on the instruction set. Everything is static and inlined: see Note [ISA
// translation units].
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace pycnn::PYCNN_ISA {

constexpr int VL = 16;  // floats in a vec; the same everywhere, so every machine adds in the same order

// The register tile: MR rows of NV vecs. 28, 12, 24 and 8 accumulator registers of 32, 16, 32 and 16.
#if defined(__AVX512F__)
constexpr int REG = 64, MR = 14, NV = 2;
#elif defined(__AVX2__)
constexpr int REG = 32, MR = 6, NV = 1;  // 7 rows spill: 52 instead of 100 GFLOP/s (Zen 3, GCC 12)
#elif defined(__aarch64__)
constexpr int REG = 16, MR = 6, NV = 1;
#else
constexpr int REG = 16, MR = 2, NV = 1;
#endif
constexpr int NR = NV * VL;
constexpr int PARTS = 64 / REG;

typedef float reg __attribute__((vector_size(REG), aligned(4), may_alias));     // loads and stores need no alignment
typedef int32_t ireg __attribute__((vector_size(REG), aligned(4), may_alias));  // comparison results and indices
struct vec {
    reg part[PARTS];
};
struct ivec {
    ireg part[PARTS];
};

#define PYCNN_INLINE static inline __attribute__((always_inline))
// Without the unroll GCC keeps the struct in memory: 15 instead of 100 GFLOP/s in the GEMM tile (Zen 3, GCC 12).
#define PYCNN_EACH _Pragma("GCC unroll 4") for (int p = 0; p < PARTS; ++p)
// A pointer that the compiler takes as it is: else GCC splits sums of pointers into parts, one register for each.
template <class T>
static inline __attribute__((always_inline)) T* whole(T* p) {
    __asm__("" : "+r"(p));
    return p;
}
// For the loops over a register tile: unrolled, or the accumulators go to memory.
#define PYCNN_UNROLL _Pragma("GCC unroll 16")

PYCNN_INLINE vec load(const float* a) {
    vec r;
    PYCNN_EACH r.part[p] = *reinterpret_cast<const reg*>(a + p * REG / 4);
    return r;
}
PYCNN_INLINE void store(float* a, vec v) { PYCNN_EACH* reinterpret_cast<reg*>(a + p * REG / 4) = v.part[p]; }
PYCNN_INLINE void store(int32_t* a, ivec v) { PYCNN_EACH* reinterpret_cast<ireg*>(a + p * REG / 4) = v.part[p]; }

// The first `lanes` elements; a constant VL is a plain load. Lanes past the end read as zero and are never written.
PYCNN_INLINE vec load_first(const float* a, int64_t lanes) {
    if (lanes == VL) return load(a);
#if defined(__AVX512F__)
    vec r;
    r.part[0] = (reg)_mm512_maskz_loadu_ps((__mmask16)((1u << lanes) - 1), a);
    return r;
#else
    float padded[VL] = {};
    for (int64_t i = 0; i < lanes; ++i) padded[i] = a[i];
    return load(padded);
#endif
}
PYCNN_INLINE void store_first(float* a, vec v, int64_t lanes) {
    if (lanes == VL) return store(a, v);
#if defined(__AVX512F__)
    _mm512_mask_storeu_ps(a, (__mmask16)((1u << lanes) - 1), (__m512)v.part[0]);
#else
    float padded[VL];
    store(padded, v);
    for (int64_t i = 0; i < lanes; ++i) a[i] = padded[i];
#endif
}
PYCNN_INLINE void store_first(int32_t* a, ivec v, int64_t lanes) {
    if (lanes == VL) return store(a, v);
    int32_t padded[VL];
    store(padded, v);
    for (int64_t i = 0; i < lanes; ++i) a[i] = padded[i];
}

// The lowest byte of each of the first `lanes` elements.
PYCNN_INLINE void store_bytes(uint8_t* a, ivec v, int64_t lanes) {
#if defined(__AVX512F__)
    _mm512_mask_cvtepi32_storeu_epi8(a, (__mmask16)((1u << lanes) - 1), (__m512i)v.part[0]);
#else
    uint8_t bytes[VL];
#if defined(__AVX2__)  // 8 + 8 numbers to 16 bytes; packing works within halves, so the quarters are put in order
    const __m256i words = _mm256_packus_epi32((__m256i)v.part[0], (__m256i)v.part[1]);
    const __m256i packed = _mm256_packus_epi16(words, words);
    const __m256i ordered = _mm256_permutevar8x32_epi32(packed, _mm256_setr_epi32(0, 4, 1, 5, 0, 4, 1, 5));
    _mm_storeu_si128((__m128i*)bytes, _mm256_castsi256_si128(ordered));
#else
    int32_t numbers[VL];
    store(numbers, v);
    for (int i = 0; i < VL; ++i) bytes[i] = (uint8_t)numbers[i];
#endif
    if (lanes == VL) {
        std::memcpy(a, bytes, VL);
        return;
    }
    for (int64_t i = 0; i < lanes; ++i) a[i] = bytes[i];
#endif
}

PYCNN_INLINE vec splat(float s) {
    vec r;
    PYCNN_EACH r.part[p] = s - reg{};
    return r;
}
PYCNN_INLINE ivec isplat(int32_t s) {
    ivec r;
    PYCNN_EACH r.part[p] = s - ireg{};
    return r;
}

#define PYCNN_BINARY(op)                               \
    PYCNN_INLINE vec operator op(vec a, vec b) {       \
        vec r;                                         \
        PYCNN_EACH r.part[p] = a.part[p] op b.part[p]; \
        return r;                                      \
    }
PYCNN_BINARY(+)
PYCNN_BINARY(-)
PYCNN_BINARY(*)
PYCNN_BINARY(/)
#undef PYCNN_BINARY

// a * b + c, rounded once where the machine has a fused multiply-add; the baseline rounds twice.
PYCNN_INLINE vec fma(vec a, vec b, vec c) {
    vec r;
#if defined(__AVX512F__)
    PYCNN_EACH r.part[p] = (reg)_mm512_fmadd_ps((__m512)a.part[p], (__m512)b.part[p], (__m512)c.part[p]);
#elif defined(__FMA__)
    PYCNN_EACH r.part[p] = (reg)_mm256_fmadd_ps((__m256)a.part[p], (__m256)b.part[p], (__m256)c.part[p]);
#elif defined(__aarch64__)
    PYCNN_EACH r.part[p] = (reg)vfmaq_f32((float32x4_t)c.part[p], (float32x4_t)a.part[p], (float32x4_t)b.part[p]);
#else
    PYCNN_EACH r.part[p] = a.part[p] * b.part[p] + c.part[p];
#endif
    return r;
}
PYCNN_INLINE vec square_root(vec a) {
    vec r;
#if defined(__AVX512F__)
    PYCNN_EACH r.part[p] = (reg)_mm512_maskz_sqrt_ps(0xffff, (__m512)a.part[p]);
#elif defined(__AVX2__)
    PYCNN_EACH r.part[p] = (reg)_mm256_sqrt_ps((__m256)a.part[p]);
#elif defined(__aarch64__)
    PYCNN_EACH r.part[p] = (reg)vsqrtq_f32((float32x4_t)a.part[p]);
#else
    PYCNN_EACH r.part[p] = (reg)_mm_sqrt_ps((__m128)a.part[p]);
#endif
    return r;
}

PYCNN_INLINE ivec greater(vec a, vec b) {
    ivec r;
    PYCNN_EACH r.part[p] = a.part[p] > b.part[p];
    return r;
}
PYCNN_INLINE ivec is_nan(vec a) {
    ivec r;
    PYCNN_EACH r.part[p] = a.part[p] != a.part[p];
    return r;
}
PYCNN_INLINE ivec operator|(ivec a, ivec b) {
    ivec r;
    PYCNN_EACH r.part[p] = a.part[p] | b.part[p];
    return r;
}
PYCNN_INLINE ivec and_not(ivec a, ivec b) {
    ivec r;
    PYCNN_EACH r.part[p] = a.part[p] & ~b.part[p];
    return r;
}
PYCNN_INLINE vec select(ivec m, vec a, vec b) {
    vec r;
    PYCNN_EACH r.part[p] = m.part[p] ? a.part[p] : b.part[p];
    return r;
}
PYCNN_INLINE ivec select(ivec m, ivec a, ivec b) {
    ivec r;
    PYCNN_EACH r.part[p] = m.part[p] ? a.part[p] : b.part[p];
    return r;
}

typedef float quad __attribute__((vector_size(16), aligned(4), may_alias));

PYCNN_INLINE void transpose(quad (&r)[4]) {
    const quad low01 = __builtin_shufflevector(r[0], r[1], 0, 4, 1, 5);
    const quad high01 = __builtin_shufflevector(r[0], r[1], 2, 6, 3, 7);
    const quad low23 = __builtin_shufflevector(r[2], r[3], 0, 4, 1, 5);
    const quad high23 = __builtin_shufflevector(r[2], r[3], 2, 6, 3, 7);
    r[0] = __builtin_shufflevector(low01, low23, 0, 1, 4, 5);
    r[1] = __builtin_shufflevector(low01, low23, 2, 3, 6, 7);
    r[2] = __builtin_shufflevector(high01, high23, 0, 1, 4, 5);
    r[3] = __builtin_shufflevector(high01, high23, 2, 3, 6, 7);
}

// to[j * stride + i] = from[i * step + j] for 4 x 4 elements: how packing turns rows into columns.
PYCNN_INLINE void transpose_4x4(float* to, int64_t stride, const float* from, int64_t step) {
    quad r[4];
    PYCNN_UNROLL for (int i = 0; i < 4; ++i) r[i] = *reinterpret_cast<const quad*>(from + i * step);
    transpose(r);
    PYCNN_UNROLL for (int i = 0; i < 4; ++i) * reinterpret_cast<quad*>(to + i * stride) = r[i];
}

// ---- lists: the lanes of a vec that a bit mask names, without gaps ------------------------------------------------

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

// ---- sums over lanes ----------------------------------------------------------------------------------------------

// Lanes are added pairwise, i and i + 8, then i + 4, i + 2, i + 1: the same tree on every machine.
PYCNN_INLINE quad sum_to_four_lanes(vec v) {
#if defined(__AVX2__)
    typedef float octet __attribute__((vector_size(32)));
#if defined(__AVX512F__)
    const octet low = __builtin_shufflevector(v.part[0], v.part[0], 0, 1, 2, 3, 4, 5, 6, 7);
    const octet high = __builtin_shufflevector(v.part[0], v.part[0], 8, 9, 10, 11, 12, 13, 14, 15);
    const octet sum = low + high;
#else
    const octet sum = v.part[0] + v.part[1];
#endif
    return __builtin_shufflevector(sum, sum, 0, 1, 2, 3) + __builtin_shufflevector(sum, sum, 4, 5, 6, 7);
#else
    return (v.part[0] + v.part[2]) + (v.part[1] + v.part[3]);
#endif
}
PYCNN_INLINE float sum_lanes(vec v) {
    const quad s = sum_to_four_lanes(v);
    return (s[0] + s[2]) + (s[1] + s[3]);
}
// The sums of four vecs at once, to sums[0 .. 3].
PYCNN_INLINE void sum_lanes(float* sums, vec a, vec b, vec c, vec d) {
    quad r[4] = {sum_to_four_lanes(a), sum_to_four_lanes(b), sum_to_four_lanes(c), sum_to_four_lanes(d)};
    transpose(r);
    *reinterpret_cast<quad*>(sums) = (r[0] + r[2]) + (r[1] + r[3]);
}

}  // namespace pycnn::PYCNN_ISA
