// One vector type for every machine: 16 floats. AVX-512: one zmm. AVX2: two ymm. NEON, baseline: four 16-byte
// registers. With simd_lists.h and simd_maps.h the only file with `#if` on the instruction set. Everything is static
// and inlined: see Note [ISA translation units].
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

#if defined(__AVX2__) && !defined(__AVX512F__)
// All bits in the first `lanes` of 8 numbers; more than 8 count as 8.
PYCNN_INLINE __m256i first_lanes(int64_t lanes) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)lanes), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
// Up to 7 lanes, in pieces of 4, 2 and 1: a masked store takes many cycles on AMD's CPUs.
PYCNN_INLINE void store_few(float* a, reg v, int64_t lanes) {
    __m128 left = _mm256_castps256_ps128((__m256)v);
    if (lanes & 4) {
        _mm_storeu_ps(a, left);
        left = _mm256_extractf128_ps((__m256)v, 1);
    }
    a += lanes & 4;
    if (lanes & 2) {
        _mm_storel_pi((__m64*)a, left);
        left = _mm_movehl_ps(left, left);
    }
    if (lanes & 1) _mm_store_ss(a + (lanes & 2), left);
}
#endif

// The first `lanes` elements; a constant VL is a plain load. Lanes past the end read as zero and are never written.
PYCNN_INLINE vec load_first(const float* a, int64_t lanes) {
    if (lanes == VL) return load(a);
#if defined(__AVX512F__)
    vec r;
    r.part[0] = (reg)_mm512_maskz_loadu_ps((__mmask16)((1u << lanes) - 1), a);
    return r;
#elif defined(__AVX2__)
    vec r;
    r.part[0] = (reg)_mm256_maskload_ps(a, first_lanes(lanes));
    r.part[1] = lanes > 8 ? (reg)_mm256_maskload_ps(a + 8, first_lanes(lanes - 8)) : reg{};
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
#elif defined(__AVX2__)
    if (lanes >= 8) _mm256_storeu_ps(a, (__m256)v.part[0]);
    store_few(a + (lanes & 8), lanes >= 8 ? v.part[1] : v.part[0], lanes & 7);
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

// ---- one register at a time: for kernels whose lanes never meet and which need more registers than a vec leaves -----

constexpr int LANES = REG / 4;  // floats in a reg

PYCNN_INLINE reg load_reg(const float* a, int64_t lanes) {
    if (lanes == LANES) return *reinterpret_cast<const reg*>(a);
#if defined(__AVX512F__)
    return (reg)_mm512_maskz_loadu_ps((__mmask16)((1u << lanes) - 1), a);
#elif defined(__AVX2__)
    return (reg)_mm256_maskload_ps(a, first_lanes(lanes));
#else
    float padded[LANES] = {};
    for (int64_t i = 0; i < lanes; ++i) padded[i] = a[i];
    return *reinterpret_cast<const reg*>(padded);
#endif
}
PYCNN_INLINE void store_reg(float* a, reg v, int64_t lanes) {
    if (lanes == LANES) {
        *reinterpret_cast<reg*>(a) = v;
        return;
    }
#if defined(__AVX512F__)
    _mm512_mask_storeu_ps(a, (__mmask16)((1u << lanes) - 1), (__m512)v);
#elif defined(__AVX2__)
    store_few(a, v, lanes);
#else
    for (int64_t i = 0; i < lanes; ++i) a[i] = v[i];
#endif
}
// Past the caches, to an address that is a multiple of 64 bytes at the start of a vec; end_stream() before others read.
PYCNN_INLINE void stream_reg(float* a, reg v) {
#if defined(__AVX512F__)
    _mm512_stream_ps(a, (__m512)v);
#elif defined(__AVX2__)
    _mm256_stream_ps(a, (__m256)v);
#elif defined(__x86_64__)
    _mm_stream_ps(a, (__m128)v);
#else
    *reinterpret_cast<reg*>(a) = v;
#endif
}
PYCNN_INLINE void stream(float* a, vec v) { PYCNN_EACH stream_reg(a + p * LANES, v.part[p]); }
PYCNN_INLINE void end_stream() {
#if defined(__x86_64__)
    _mm_sfence();
#endif
}
// Into L2: for what is needed some microseconds later.
PYCNN_INLINE void prefetch(const float* a) { __builtin_prefetch(a, 0, 2); }
// 32-bit numbers without a sign, for hashes: arithmetic wraps.
typedef uint32_t ureg __attribute__((vector_size(REG), aligned(4), may_alias));
struct uvec {
    ureg part[PARTS];
};
PYCNN_INLINE uvec usplat(uint32_t s) {
    uvec r;
    PYCNN_EACH r.part[p] = s - ureg{};
    return r;
}
PYCNN_INLINE uvec load(const uint32_t* a) {
    uvec r;
    PYCNN_EACH r.part[p] = *reinterpret_cast<const ureg*>(a + p * REG / 4);
    return r;
}
#define PYCNN_UNSIGNED(op)                             \
    PYCNN_INLINE uvec operator op(uvec a, uvec b) {    \
        uvec r;                                        \
        PYCNN_EACH r.part[p] = a.part[p] op b.part[p]; \
        return r;                                      \
    }
PYCNN_UNSIGNED(+)
PYCNN_UNSIGNED(*)
PYCNN_UNSIGNED(^)
#undef PYCNN_UNSIGNED
PYCNN_INLINE uvec shift_right(uvec a, int bits) {
    uvec r;
    PYCNN_EACH r.part[p] = a.part[p] >> bits;
    return r;
}
// a >= b of numbers below 2^31.
PYCNN_INLINE ivec at_least(uvec a, uvec b) {
    ivec r;
    PYCNN_EACH r.part[p] = (ireg)a.part[p] >= (ireg)b.part[p];
    return r;
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
PYCNN_INLINE reg fma(reg a, reg b, reg c) {
#if defined(__AVX512F__)
    return (reg)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__FMA__)
    return (reg)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#elif defined(__aarch64__)
    return (reg)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#else
    return a * b + c;
#endif
}
PYCNN_INLINE vec fma(vec a, vec b, vec c) {
    vec r;
    PYCNN_EACH r.part[p] = fma(a.part[p], b.part[p], c.part[p]);
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

PYCNN_INLINE ivec operator+(ivec a, ivec b) {
    ivec r;
    PYCNN_EACH r.part[p] = a.part[p] + b.part[p];
    return r;
}
PYCNN_INLINE ivec operator*(ivec a, ivec b) {
    ivec r;
    PYCNN_EACH r.part[p] = a.part[p] * b.part[p];
    return r;
}
PYCNN_INLINE ivec truncate(vec a) {  // towards zero; a lies within the range of int32
    ivec r;
    PYCNN_EACH r.part[p] = __builtin_convertvector(a.part[p], ireg);
    return r;
}
PYCNN_INLINE vec to_floats(ivec a) {
    vec r;
    PYCNN_EACH r.part[p] = __builtin_convertvector(a.part[p], reg);
    return r;
}
typedef float quad __attribute__((vector_size(16), aligned(4), may_alias));

// Elements of a (0 to 3) and b (4 to 7). GCC has __builtin_shufflevector from 12 on.
#if defined(__clang__) || __GNUC__ >= 12
#define PYCNN_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
typedef int32_t quad_mask __attribute__((vector_size(16)));
#define PYCNN_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (quad_mask){__VA_ARGS__})
#endif

PYCNN_INLINE void transpose(quad (&r)[4]) {
    const quad low01 = PYCNN_SHUFFLE(r[0], r[1], 0, 4, 1, 5);
    const quad high01 = PYCNN_SHUFFLE(r[0], r[1], 2, 6, 3, 7);
    const quad low23 = PYCNN_SHUFFLE(r[2], r[3], 0, 4, 1, 5);
    const quad high23 = PYCNN_SHUFFLE(r[2], r[3], 2, 6, 3, 7);
    r[0] = PYCNN_SHUFFLE(low01, low23, 0, 1, 4, 5);
    r[1] = PYCNN_SHUFFLE(low01, low23, 2, 3, 6, 7);
    r[2] = PYCNN_SHUFFLE(high01, high23, 0, 1, 4, 5);
    r[3] = PYCNN_SHUFFLE(high01, high23, 2, 3, 6, 7);
}

// to[j * stride + i] = from[i * step + j] for 4 x 4 elements: how packing turns rows into columns.
PYCNN_INLINE void transpose_4x4(float* to, int64_t stride, const float* from, int64_t step) {
    quad r[4];
    PYCNN_UNROLL for (int i = 0; i < 4; ++i) r[i] = *reinterpret_cast<const quad*>(from + i * step);
    transpose(r);
    PYCNN_UNROLL for (int i = 0; i < 4; ++i) * reinterpret_cast<quad*>(to + i * stride) = r[i];
}

// ---- sums over lanes ----------------------------------------------------------------------------------------------

// Lanes are added pairwise, i and i + 8, then i + 4, i + 2, i + 1: the same tree on every machine.
PYCNN_INLINE quad sum_to_four_lanes(vec v) {
#if defined(__AVX2__)
    typedef float octet __attribute__((vector_size(32)));
#if defined(__AVX512F__) && (defined(__clang__) || __GNUC__ >= 12)
    const octet low = __builtin_shufflevector(v.part[0], v.part[0], 0, 1, 2, 3, 4, 5, 6, 7);
    const octet high = __builtin_shufflevector(v.part[0], v.part[0], 8, 9, 10, 11, 12, 13, 14, 15);
    const octet sum = low + high;
#elif defined(__AVX512F__)
    float lane[VL];
    store(lane, v);
    const octet sum = (octet)_mm256_loadu_ps(lane) + (octet)_mm256_loadu_ps(lane + 8);
#else
    const octet sum = v.part[0] + v.part[1];
#endif
    return (quad)_mm256_castps256_ps128((__m256)sum) + (quad)_mm256_extractf128_ps((__m256)sum, 1);
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
