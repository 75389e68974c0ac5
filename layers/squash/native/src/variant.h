/* What the operations share, in the form of the variant being compiled.
 *
 * sq_f64x8 and sq_f32x16 are the lanes of README.md: eight float64, sixteen float32. The compiler
 * is told SQ_USE_AVX512, SQ_USE_AVX2 (also with AVX-512), SQ_USE_NEON, SQ_USE_DOT, or none of them.
 */
#ifndef SQ_VARIANT_H
#define SQ_VARIANT_H

#include <string.h>

#include "squash_kernels.h"

#if defined(SQ_USE_AVX2)
#include <immintrin.h>
#elif defined(SQ_USE_NEON)
#include <arm_neon.h>
#endif

#define SQ_INLINE static inline __attribute__((always_inline, unused))
#define SQ_LIKELY(x) __builtin_expect(!!(x), 1)
#define SQ_UNLIKELY(x) __builtin_expect(!!(x), 0)

/* ---- scalars ---- */

SQ_INLINE int sq_popcount32(uint32_t x) { return __builtin_popcount(x); }
SQ_INLINE int sq_popcount64(uint64_t x) { return __builtin_popcountll(x); }
SQ_INLINE int sq_ctz32(uint32_t x) { return __builtin_ctz(x); } /* x is not 0 */
SQ_INLINE int sq_ctz64(uint64_t x) { return __builtin_ctzll(x); }

SQ_INLINE uint32_t sq_load_u32(const void *at) { uint32_t x; memcpy(&x, at, 4); return x; }
SQ_INLINE uint64_t sq_load_u64(const void *at) { uint64_t x; memcpy(&x, at, 8); return x; }
SQ_INLINE float sq_load_f32(const void *at) { float x; memcpy(&x, at, 4); return x; }
SQ_INLINE uint32_t sq_bits_f32(float x) { uint32_t bits; memcpy(&bits, &x, 4); return bits; }
SQ_INLINE float sq_f32_of_bits(uint32_t bits) { float x; memcpy(&x, &bits, 4); return x; }
SQ_INLINE uint64_t sq_bits_f64(double x) { uint64_t bits; memcpy(&bits, &x, 8); return bits; }

/* Asks for the cache line so many bytes on, which may lie beyond the array. */
SQ_INLINE void sq_ahead(const void *at, size_t bytes) {
    __builtin_prefetch((const void *)((uintptr_t)at + bytes));
}

/* A share's cell: 32 an octave from 2^-16 up; 0 for NaN and all that is not positive. */
SQ_INLINE int64_t sq_share_cell(double share) {
    const float x = (float)share;
    if (!(x > 0.0f)) return 0;
    const int64_t place = (int64_t)(sq_bits_f32(x) >> 18) - ((127 - 16) << 5);
    return place < 0 ? 0 : place > SQ_CELLS - 1 ? SQ_CELLS - 1 : place;
}

/* An IEEE half. */
SQ_INLINE float sq_f32_of_half(uint16_t half) {
#if defined(SQ_USE_AVX2)
    return _cvtsh_ss(half);
#else
    const uint32_t sign = (uint32_t)(half & 0x8000u) << 16, rest = half & 0x7fffu;
    if (rest >= 0x7c00u) return sq_f32_of_bits(sign | 0x7f800000u | (rest & 0x3ffu) << 13);
    if (rest >= 0x400u) return sq_f32_of_bits(sign | ((rest << 13) + 0x38000000u));
    const float small = (float)rest * 0x1p-24f; /* exact */
    return sq_f32_of_bits(sign | sq_bits_f32(small));
#endif
}

/* rint for |x| < 2^51, without a call: to nearest, ties to even. */
SQ_INLINE double sq_rint(double x) { return (x + 0x1.8p52) - 0x1.8p52; }
/* The same in float32, for |x| < 2^22. */
SQ_INLINE float sq_rint_f32(float x) { return (x + 0x1.8p23f) - 0x1.8p23f; }

/* ---- eight lanes of float64 ----
 *
 * `rounded` multiplies float32(x) and rounds to whole numbers; `narrow` writes float32(x).
 * `butterflies` are three stages of a Walsh-Hadamard transform: lanes 1, then 2, then 4 apart. `flip`
 * negates the lanes whose bit is set. */

#if defined(SQ_USE_AVX512)

typedef __m512d sq_f64x8;
SQ_INLINE __mmask8 sq_first8(int64_t n) { return (__mmask8)((1u << n) - 1); }
SQ_INLINE sq_f64x8 sq_f64x8_zero(void) { return _mm512_setzero_pd(); }
SQ_INLINE sq_f64x8 sq_f64x8_all(double x) { return _mm512_set1_pd(x); }
SQ_INLINE sq_f64x8 sq_f64x8_load(const double *at) { return _mm512_loadu_pd(at); }
SQ_INLINE sq_f64x8 sq_f64x8_load_n(const double *at, int64_t n) {
    return _mm512_maskz_loadu_pd(sq_first8(n), at);
}
SQ_INLINE sq_f64x8 sq_f64x8_widen(const float *at) { return _mm512_cvtps_pd(_mm256_loadu_ps(at)); }
SQ_INLINE sq_f64x8 sq_f64x8_widen_n(const float *at, int64_t n) {
    return _mm512_cvtps_pd(_mm256_maskz_loadu_ps(sq_first8(n), at));
}
SQ_INLINE sq_f64x8 sq_f64x8_widen_half(const uint16_t *at) {
    return _mm512_cvtps_pd(_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)at)));
}
SQ_INLINE sq_f64x8 sq_f64x8_widen_half_n(const uint16_t *at, int64_t n) {
    return _mm512_cvtps_pd(_mm256_cvtph_ps(_mm_maskz_loadu_epi16(sq_first8(n), at)));
}
SQ_INLINE void sq_f64x8_store(double *at, sq_f64x8 x) { _mm512_storeu_pd(at, x); }
SQ_INLINE sq_f64x8 sq_f64x8_add(sq_f64x8 x, sq_f64x8 y) { return _mm512_add_pd(x, y); }
SQ_INLINE sq_f64x8 sq_f64x8_sub(sq_f64x8 x, sq_f64x8 y) { return _mm512_sub_pd(x, y); }
SQ_INLINE sq_f64x8 sq_f64x8_mul(sq_f64x8 x, sq_f64x8 y) { return _mm512_mul_pd(x, y); }
SQ_INLINE void sq_f64x8_narrow(float *at, sq_f64x8 x) { _mm256_storeu_ps(at, _mm512_cvtpd_ps(x)); }
SQ_INLINE sq_f64x8 sq_f64x8_rounded(sq_f64x8 x, float by) {
    const __m256 round = _mm256_set1_ps(0x1.8p23f);
    const __m256 scaled = _mm256_mul_ps(_mm512_cvtpd_ps(x), _mm256_set1_ps(by));
    return _mm512_cvtps_pd(_mm256_sub_ps(_mm256_add_ps(scaled, round), round));
}
SQ_INLINE double sq_f64x8_sum(sq_f64x8 x) {
    const __m256d four = _mm256_add_pd(_mm512_castpd512_pd256(x), _mm512_extractf64x4_pd(x, 1));
    const __m128d two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd(four, 1));
    return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
}
SQ_INLINE sq_f64x8 sq_f64x8_butterflies(sq_f64x8 x) {
    sq_f64x8 y = _mm512_permute_pd(x, 0x55);
    x = _mm512_mask_sub_pd(_mm512_add_pd(x, y), 0xAA, y, x);
    y = _mm512_permutex_pd(x, 0x4E);
    x = _mm512_mask_sub_pd(_mm512_add_pd(x, y), 0xCC, y, x);
    y = _mm512_shuffle_f64x2(x, x, 0x4E);
    return _mm512_mask_sub_pd(_mm512_add_pd(x, y), 0xF0, y, x);
}
SQ_INLINE sq_f64x8 sq_f64x8_flip(sq_f64x8 x, uint8_t bits) {
    const __m512i all = _mm512_castpd_si512(x);
    return _mm512_castsi512_pd(
        _mm512_mask_xor_epi64(all, bits, all, _mm512_set1_epi64(INT64_MIN)));
}

#elif defined(SQ_USE_AVX2)

typedef struct { __m256d low, high; } sq_f64x8;
SQ_INLINE sq_f64x8 sq_f64x8_of(__m256d low, __m256d high) {
    const sq_f64x8 made = {low, high};
    return made;
}
SQ_INLINE sq_f64x8 sq_f64x8_zero(void) {
    return sq_f64x8_of(_mm256_setzero_pd(), _mm256_setzero_pd());
}
SQ_INLINE sq_f64x8 sq_f64x8_all(double x) {
    return sq_f64x8_of(_mm256_set1_pd(x), _mm256_set1_pd(x));
}
SQ_INLINE sq_f64x8 sq_f64x8_load(const double *at) {
    return sq_f64x8_of(_mm256_loadu_pd(at), _mm256_loadu_pd(at + 4));
}
SQ_INLINE sq_f64x8 sq_f64x8_widen(const float *at) {
    return sq_f64x8_of(_mm256_cvtps_pd(_mm_loadu_ps(at)), _mm256_cvtps_pd(_mm_loadu_ps(at + 4)));
}
SQ_INLINE sq_f64x8 sq_f64x8_widen_half(const uint16_t *at) {
    const __m256 x = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)at));
    return sq_f64x8_of(_mm256_cvtps_pd(_mm256_castps256_ps128(x)),
                       _mm256_cvtps_pd(_mm256_extractf128_ps(x, 1)));
}
SQ_INLINE void sq_f64x8_store(double *at, sq_f64x8 x) {
    _mm256_storeu_pd(at, x.low);
    _mm256_storeu_pd(at + 4, x.high);
}
SQ_INLINE sq_f64x8 sq_f64x8_add(sq_f64x8 x, sq_f64x8 y) {
    return sq_f64x8_of(_mm256_add_pd(x.low, y.low), _mm256_add_pd(x.high, y.high));
}
SQ_INLINE sq_f64x8 sq_f64x8_sub(sq_f64x8 x, sq_f64x8 y) {
    return sq_f64x8_of(_mm256_sub_pd(x.low, y.low), _mm256_sub_pd(x.high, y.high));
}
SQ_INLINE sq_f64x8 sq_f64x8_mul(sq_f64x8 x, sq_f64x8 y) {
    return sq_f64x8_of(_mm256_mul_pd(x.low, y.low), _mm256_mul_pd(x.high, y.high));
}
SQ_INLINE __m256 sq_f64x8_narrowed(sq_f64x8 x) {
    return _mm256_set_m128(_mm256_cvtpd_ps(x.high), _mm256_cvtpd_ps(x.low));
}
SQ_INLINE void sq_f64x8_narrow(float *at, sq_f64x8 x) { _mm256_storeu_ps(at, sq_f64x8_narrowed(x)); }
SQ_INLINE sq_f64x8 sq_f64x8_rounded(sq_f64x8 x, float by) {
    const __m256 round = _mm256_set1_ps(0x1.8p23f);
    const __m256 scaled = _mm256_mul_ps(sq_f64x8_narrowed(x), _mm256_set1_ps(by));
    const __m256 whole = _mm256_sub_ps(_mm256_add_ps(scaled, round), round);
    return sq_f64x8_of(_mm256_cvtps_pd(_mm256_castps256_ps128(whole)),
                       _mm256_cvtps_pd(_mm256_extractf128_ps(whole, 1)));
}
SQ_INLINE double sq_f64x8_sum(sq_f64x8 x) {
    const __m256d four = _mm256_add_pd(x.low, x.high);
    const __m128d two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd(four, 1));
    return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
}
SQ_INLINE __m256d sq_butterflies4(__m256d x) {
    __m256d y = _mm256_permute_pd(x, 5);
    x = _mm256_blend_pd(_mm256_add_pd(x, y), _mm256_sub_pd(y, x), 0xA);
    y = _mm256_permute2f128_pd(x, x, 1);
    return _mm256_blend_pd(_mm256_add_pd(x, y), _mm256_sub_pd(y, x), 0xC);
}
SQ_INLINE sq_f64x8 sq_f64x8_butterflies(sq_f64x8 x) {
    const __m256d low = sq_butterflies4(x.low), high = sq_butterflies4(x.high);
    return sq_f64x8_of(_mm256_add_pd(low, high), _mm256_sub_pd(low, high));
}
SQ_INLINE __m256d sq_flip4(__m256d x, int64_t bits) {
    const __m256i each = _mm256_set_epi64x(8, 4, 2, 1);
    const __m256i set = _mm256_cmpeq_epi64(_mm256_and_si256(_mm256_set1_epi64x(bits), each), each);
    return _mm256_xor_pd(x, _mm256_castsi256_pd(_mm256_slli_epi64(set, 63)));
}
SQ_INLINE sq_f64x8 sq_f64x8_flip(sq_f64x8 x, uint8_t bits) {
    return sq_f64x8_of(sq_flip4(x.low, bits), sq_flip4(x.high, bits >> 4));
}

#elif defined(SQ_USE_NEON)

typedef struct { float64x2_t part[4]; } sq_f64x8;
#define SQ_EACH4(expression)                           \
    sq_f64x8 made;                                     \
    for (int i = 0; i < 4; i++) made.part[i] = (expression); \
    return made
SQ_INLINE sq_f64x8 sq_f64x8_zero(void) { SQ_EACH4(vdupq_n_f64(0)); }
SQ_INLINE sq_f64x8 sq_f64x8_all(double x) { SQ_EACH4(vdupq_n_f64(x)); }
SQ_INLINE sq_f64x8 sq_f64x8_load(const double *at) { SQ_EACH4(vld1q_f64(at + 2 * i)); }
SQ_INLINE sq_f64x8 sq_f64x8_widen(const float *at) {
    SQ_EACH4(vcvt_f64_f32(vld1_f32(at + 2 * i)));
}
SQ_INLINE sq_f64x8 sq_f64x8_widen_half(const uint16_t *at) {
    float wide[8];
    vst1q_f32(wide, vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(at))));
    vst1q_f32(wide + 4, vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(at + 4))));
    return sq_f64x8_widen(wide);
}
SQ_INLINE void sq_f64x8_store(double *at, sq_f64x8 x) {
    for (int i = 0; i < 4; i++) vst1q_f64(at + 2 * i, x.part[i]);
}
SQ_INLINE sq_f64x8 sq_f64x8_add(sq_f64x8 x, sq_f64x8 y) {
    SQ_EACH4(vaddq_f64(x.part[i], y.part[i]));
}
SQ_INLINE sq_f64x8 sq_f64x8_sub(sq_f64x8 x, sq_f64x8 y) {
    SQ_EACH4(vsubq_f64(x.part[i], y.part[i]));
}
SQ_INLINE sq_f64x8 sq_f64x8_mul(sq_f64x8 x, sq_f64x8 y) {
    SQ_EACH4(vmulq_f64(x.part[i], y.part[i]));
}
SQ_INLINE float32x4_t sq_f64x8_narrowed(sq_f64x8 x, int half) {
    return vcombine_f32(vcvt_f32_f64(x.part[2 * half]), vcvt_f32_f64(x.part[2 * half + 1]));
}
SQ_INLINE void sq_f64x8_narrow(float *at, sq_f64x8 x) {
    for (int i = 0; i < 2; i++) vst1q_f32(at + 4 * i, sq_f64x8_narrowed(x, i));
}
SQ_INLINE sq_f64x8 sq_f64x8_rounded(sq_f64x8 x, float by) {
    const float32x4_t round = vdupq_n_f32(0x1.8p23f);
    float32x4_t whole[2];
    for (int i = 0; i < 2; i++)
        whole[i] = vsubq_f32(vaddq_f32(vmulq_n_f32(sq_f64x8_narrowed(x, i), by), round), round);
    SQ_EACH4(vcvt_f64_f32(i % 2 ? vget_high_f32(whole[i / 2]) : vget_low_f32(whole[i / 2])));
}
SQ_INLINE double sq_f64x8_sum(sq_f64x8 x) {
    const float64x2_t even = vaddq_f64(x.part[0], x.part[2]); /* l0 + l4, l1 + l5 */
    const float64x2_t odd = vaddq_f64(x.part[1], x.part[3]);  /* l2 + l6, l3 + l7 */
    const float64x2_t two = vaddq_f64(even, odd);
    return vgetq_lane_f64(two, 0) + vgetq_lane_f64(two, 1);
}
SQ_INLINE float64x2_t sq_butterfly2(float64x2_t x) {
    const float64x2_t y = vextq_f64(x, x, 1);
    return vcombine_f64(vget_low_f64(vaddq_f64(x, y)), vget_high_f64(vsubq_f64(y, x)));
}
SQ_INLINE sq_f64x8 sq_f64x8_butterflies(sq_f64x8 x) {
    for (int i = 0; i < 4; i++) x.part[i] = sq_butterfly2(x.part[i]);
    for (int apart = 1; apart < 4; apart *= 2)
        for (int i = 0; i < 4; i++) {
            if (i & apart) continue;
            const float64x2_t low = x.part[i], high = x.part[i + apart];
            x.part[i] = vaddq_f64(low, high);
            x.part[i + apart] = vsubq_f64(low, high);
        }
    return x;
}
SQ_INLINE sq_f64x8 sq_f64x8_flip(sq_f64x8 x, uint8_t bits) {
    for (int i = 0; i < 4; i++) {
        const uint64x2_t each = vcombine_u64(vcreate_u64(1), vcreate_u64(2));
        const uint64x2_t set = vtstq_u64(vdupq_n_u64((uint64_t)bits >> 2 * i), each);
        x.part[i] = vreinterpretq_f64_u64(
            veorq_u64(vreinterpretq_u64_f64(x.part[i]), vshlq_n_u64(set, 63)));
    }
    return x;
}
#undef SQ_EACH4

#else

typedef struct { double lane[8]; } sq_f64x8;
#define SQ_EACH8(expression)                           \
    sq_f64x8 made;                                     \
    for (int i = 0; i < 8; i++) made.lane[i] = (expression); \
    return made
SQ_INLINE sq_f64x8 sq_f64x8_zero(void) { SQ_EACH8(0.0); }
SQ_INLINE sq_f64x8 sq_f64x8_all(double x) { SQ_EACH8(x); }
SQ_INLINE sq_f64x8 sq_f64x8_load(const double *at) {
    sq_f64x8 made;
    memcpy(made.lane, at, sizeof made.lane);
    return made;
}
SQ_INLINE sq_f64x8 sq_f64x8_widen(const float *at) { SQ_EACH8((double)sq_load_f32(at + i)); }
SQ_INLINE sq_f64x8 sq_f64x8_widen_half(const uint16_t *at) {
    uint16_t halves[8];
    memcpy(halves, at, sizeof halves);
    SQ_EACH8((double)sq_f32_of_half(halves[i]));
}
SQ_INLINE void sq_f64x8_store(double *at, sq_f64x8 x) { memcpy(at, x.lane, sizeof x.lane); }
SQ_INLINE sq_f64x8 sq_f64x8_add(sq_f64x8 x, sq_f64x8 y) { SQ_EACH8(x.lane[i] + y.lane[i]); }
SQ_INLINE sq_f64x8 sq_f64x8_sub(sq_f64x8 x, sq_f64x8 y) { SQ_EACH8(x.lane[i] - y.lane[i]); }
SQ_INLINE sq_f64x8 sq_f64x8_mul(sq_f64x8 x, sq_f64x8 y) { SQ_EACH8(x.lane[i] * y.lane[i]); }
SQ_INLINE void sq_f64x8_narrow(float *at, sq_f64x8 x) {
    for (int i = 0; i < 8; i++) at[i] = (float)x.lane[i];
}
SQ_INLINE sq_f64x8 sq_f64x8_rounded(sq_f64x8 x, float by) {
    SQ_EACH8((double)sq_rint_f32((float)x.lane[i] * by));
}
SQ_INLINE double sq_f64x8_sum(sq_f64x8 x) {
    const double *l = x.lane;
    return ((l[0] + l[4]) + (l[2] + l[6])) + ((l[1] + l[5]) + (l[3] + l[7]));
}
SQ_INLINE sq_f64x8 sq_f64x8_butterflies(sq_f64x8 x) {
    for (int apart = 1; apart < 8; apart *= 2)
        for (int i = 0; i < 8; i++) {
            if (i & apart) continue;
            const double low = x.lane[i], high = x.lane[i + apart];
            x.lane[i] = low + high;
            x.lane[i + apart] = low - high;
        }
    return x;
}
SQ_INLINE sq_f64x8 sq_f64x8_flip(sq_f64x8 x, uint8_t bits) {
    SQ_EACH8(bits >> i & 1 ? -x.lane[i] : x.lane[i]);
}
#undef SQ_EACH8

#endif

#if !defined(SQ_USE_AVX512)
/* The first n of eight, the others 0. */
SQ_INLINE sq_f64x8 sq_f64x8_load_n(const double *at, int64_t n) {
    double padded[8] = {0};
    memcpy(padded, at, (size_t)n * sizeof *at);
    return sq_f64x8_load(padded);
}
SQ_INLINE sq_f64x8 sq_f64x8_widen_n(const float *at, int64_t n) {
    float padded[8] = {0};
    memcpy(padded, at, (size_t)n * sizeof *at);
    return sq_f64x8_widen(padded);
}
SQ_INLINE sq_f64x8 sq_f64x8_widen_half_n(const uint16_t *at, int64_t n) {
    uint16_t padded[8] = {0};
    memcpy(padded, at, (size_t)n * sizeof *at);
    return sq_f64x8_widen_half(padded);
}
#endif

/* ---- sixteen lanes of float32 ----
 *
 * `larger` is, lane by lane, the magnitude of x where it is more, `most` the most of all lanes. `levels`
 * multiplies, rounds to whole numbers of a byte, writes these, and adds them up. */

#if defined(SQ_USE_AVX512)

typedef __m512 sq_f32x16;
typedef __m512i sq_i32x16;
SQ_INLINE sq_f32x16 sq_f32x16_zero(void) { return _mm512_setzero_ps(); }
SQ_INLINE sq_f32x16 sq_f32x16_load(const float *at) { return _mm512_loadu_ps(at); }
SQ_INLINE sq_f32x16 sq_f32x16_load_n(const float *at, int64_t n) {
    return _mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), at);
}
SQ_INLINE sq_f32x16 sq_f32x16_add(sq_f32x16 x, sq_f32x16 y) { return _mm512_add_ps(x, y); }
SQ_INLINE sq_f32x16 sq_f32x16_sub(sq_f32x16 x, sq_f32x16 y) { return _mm512_sub_ps(x, y); }
SQ_INLINE sq_f32x16 sq_f32x16_mul(sq_f32x16 x, sq_f32x16 y) { return _mm512_mul_ps(x, y); }
SQ_INLINE sq_f32x16 sq_f32x16_larger(sq_f32x16 most, sq_f32x16 x) {
    return _mm512_max_ps(_mm512_abs_ps(x), most);
}
SQ_INLINE float sq_f32x16_most(sq_f32x16 x) { return _mm512_reduce_max_ps(x); }
SQ_INLINE void sq_f32x16_levels(sq_f32x16 x, float by, int8_t *levels, sq_i32x16 *totals) {
    const __m512 round = _mm512_set1_ps(0x1.8p23f);
    const __m512 scaled = _mm512_mul_ps(x, _mm512_set1_ps(by));
    const __m512i numbers = _mm512_cvttps_epi32(_mm512_sub_ps(_mm512_add_ps(scaled, round), round));
    _mm_storeu_si128((__m128i *)levels, _mm512_cvtepi32_epi8(numbers));
    *totals = _mm512_add_epi32(*totals, numbers);
}
SQ_INLINE __m256 sq_f32x16_fold(sq_f32x16 x) {
    return _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
}

#elif defined(SQ_USE_AVX2)

typedef struct { __m256 low, high; } sq_f32x16;
typedef struct { __m256i low, high; } sq_i32x16;
SQ_INLINE sq_f32x16 sq_f32x16_of(__m256 low, __m256 high) {
    const sq_f32x16 made = {low, high};
    return made;
}
SQ_INLINE sq_f32x16 sq_f32x16_zero(void) {
    return sq_f32x16_of(_mm256_setzero_ps(), _mm256_setzero_ps());
}
SQ_INLINE sq_f32x16 sq_f32x16_load(const float *at) {
    return sq_f32x16_of(_mm256_loadu_ps(at), _mm256_loadu_ps(at + 8));
}
SQ_INLINE sq_f32x16 sq_f32x16_add(sq_f32x16 x, sq_f32x16 y) {
    return sq_f32x16_of(_mm256_add_ps(x.low, y.low), _mm256_add_ps(x.high, y.high));
}
SQ_INLINE sq_f32x16 sq_f32x16_sub(sq_f32x16 x, sq_f32x16 y) {
    return sq_f32x16_of(_mm256_sub_ps(x.low, y.low), _mm256_sub_ps(x.high, y.high));
}
SQ_INLINE sq_f32x16 sq_f32x16_mul(sq_f32x16 x, sq_f32x16 y) {
    return sq_f32x16_of(_mm256_mul_ps(x.low, y.low), _mm256_mul_ps(x.high, y.high));
}
SQ_INLINE sq_f32x16 sq_f32x16_larger(sq_f32x16 most, sq_f32x16 x) {
    const __m256 sign = _mm256_set1_ps(-0.0f);
    return sq_f32x16_of(_mm256_max_ps(_mm256_andnot_ps(sign, x.low), most.low),
                        _mm256_max_ps(_mm256_andnot_ps(sign, x.high), most.high));
}
SQ_INLINE __m256i sq_level8(__m256 x, float by) {
    const __m256 round = _mm256_set1_ps(0x1.8p23f);
    const __m256 scaled = _mm256_mul_ps(x, _mm256_set1_ps(by));
    return _mm256_cvttps_epi32(_mm256_sub_ps(_mm256_add_ps(scaled, round), round));
}
SQ_INLINE void sq_f32x16_levels(sq_f32x16 x, float by, int8_t *levels, sq_i32x16 *totals) {
    const __m256i low = sq_level8(x.low, by), high = sq_level8(x.high, by);
    const __m256i words = _mm256_packs_epi32(low, high); /* low 0-3, high 0-3; low 4-7, high 4-7 */
    const __m256i bytes = _mm256_packs_epi16(words, words);
    _mm_storeu_si128((__m128i *)levels, _mm_unpacklo_epi32(_mm256_castsi256_si128(bytes),
                                                           _mm256_extracti128_si256(bytes, 1)));
    totals->low = _mm256_add_epi32(totals->low, low);
    totals->high = _mm256_add_epi32(totals->high, high);
}
SQ_INLINE __m256 sq_f32x16_fold(sq_f32x16 x) { return _mm256_add_ps(x.low, x.high); }

#elif defined(SQ_USE_NEON)

typedef struct { float32x4_t part[4]; } sq_f32x16;
typedef struct { int32x4_t part[4]; } sq_i32x16;
#define SQ_EACH4(expression)                           \
    sq_f32x16 made;                                    \
    for (int i = 0; i < 4; i++) made.part[i] = (expression); \
    return made
SQ_INLINE sq_f32x16 sq_f32x16_zero(void) { SQ_EACH4(vdupq_n_f32(0)); }
SQ_INLINE sq_f32x16 sq_f32x16_load(const float *at) { SQ_EACH4(vld1q_f32(at + 4 * i)); }
SQ_INLINE sq_f32x16 sq_f32x16_add(sq_f32x16 x, sq_f32x16 y) {
    SQ_EACH4(vaddq_f32(x.part[i], y.part[i]));
}
SQ_INLINE sq_f32x16 sq_f32x16_sub(sq_f32x16 x, sq_f32x16 y) {
    SQ_EACH4(vsubq_f32(x.part[i], y.part[i]));
}
SQ_INLINE sq_f32x16 sq_f32x16_mul(sq_f32x16 x, sq_f32x16 y) {
    SQ_EACH4(vmulq_f32(x.part[i], y.part[i]));
}
SQ_INLINE sq_f32x16 sq_f32x16_larger(sq_f32x16 most, sq_f32x16 x) {
    SQ_EACH4(vmaxnmq_f32(vabsq_f32(x.part[i]), most.part[i]));
}
SQ_INLINE void sq_f32x16_levels(sq_f32x16 x, float by, int8_t *levels, sq_i32x16 *totals) {
    const float32x4_t round = vdupq_n_f32(0x1.8p23f);
    int16x4_t words[4];
    for (int i = 0; i < 4; i++) {
        const float32x4_t scaled = vmulq_n_f32(x.part[i], by);
        const int32x4_t numbers = vcvtq_s32_f32(vsubq_f32(vaddq_f32(scaled, round), round));
        words[i] = vmovn_s32(numbers);
        totals->part[i] = vaddq_s32(totals->part[i], numbers);
    }
    vst1q_s8(levels, vcombine_s8(vmovn_s16(vcombine_s16(words[0], words[1])),
                                 vmovn_s16(vcombine_s16(words[2], words[3]))));
}
SQ_INLINE float sq_f32x16_sum(sq_f32x16 x) {
    const float32x4_t low = vaddq_f32(x.part[0], x.part[2]), high = vaddq_f32(x.part[1], x.part[3]);
    const float32x4_t four = vaddq_f32(low, high);
    const float32x2_t two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
    return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
}
#undef SQ_EACH4

#else

typedef struct { float lane[16]; } sq_f32x16;
typedef struct { int32_t lane[16]; } sq_i32x16;
#define SQ_EACH16(expression)                          \
    sq_f32x16 made;                                    \
    for (int i = 0; i < 16; i++) made.lane[i] = (expression); \
    return made
SQ_INLINE sq_f32x16 sq_f32x16_zero(void) { SQ_EACH16(0.0f); }
SQ_INLINE sq_f32x16 sq_f32x16_load(const float *at) {
    sq_f32x16 made;
    memcpy(made.lane, at, sizeof made.lane);
    return made;
}
SQ_INLINE sq_f32x16 sq_f32x16_add(sq_f32x16 x, sq_f32x16 y) { SQ_EACH16(x.lane[i] + y.lane[i]); }
SQ_INLINE sq_f32x16 sq_f32x16_sub(sq_f32x16 x, sq_f32x16 y) { SQ_EACH16(x.lane[i] - y.lane[i]); }
SQ_INLINE sq_f32x16 sq_f32x16_mul(sq_f32x16 x, sq_f32x16 y) { SQ_EACH16(x.lane[i] * y.lane[i]); }
SQ_INLINE sq_f32x16 sq_f32x16_larger(sq_f32x16 most, sq_f32x16 x) {
    SQ_EACH16(__builtin_fabsf(x.lane[i]) > most.lane[i] ? __builtin_fabsf(x.lane[i]) : most.lane[i]);
}
SQ_INLINE void sq_f32x16_levels(sq_f32x16 x, float by, int8_t *levels, sq_i32x16 *totals) {
    for (int i = 0; i < 16; i++) {
        const int32_t number = (int32_t)sq_rint_f32(x.lane[i] * by);
        levels[i] = (int8_t)number;
        totals->lane[i] += number;
    }
}
SQ_INLINE float sq_f32x16_sum(sq_f32x16 x) {
    float *l = x.lane;
    for (int i = 0; i < 8; i++) l[i] += l[i + 8];
    for (int i = 0; i < 4; i++) l[i] += l[i + 4];
    for (int i = 0; i < 2; i++) l[i] += l[i + 2];
    return l[0] + l[1];
}
#undef SQ_EACH16

#endif

SQ_INLINE int32_t sq_i32x16_sum(sq_i32x16 x) {
    int32_t lanes[16], sum = 0;
    memcpy(lanes, &x, sizeof lanes);
    for (int i = 0; i < 16; i++) sum += lanes[i];
    return sum;
}

#if !defined(SQ_USE_AVX512)
SQ_INLINE float sq_f32x16_most(sq_f32x16 x) {
    float lanes[16], most = 0;
    memcpy(lanes, &x, sizeof lanes);
    for (int i = 0; i < 16; i++) most = lanes[i] > most ? lanes[i] : most;
    return most;
}
SQ_INLINE sq_f32x16 sq_f32x16_load_n(const float *at, int64_t n) {
    float padded[16] = {0};
    memcpy(padded, at, (size_t)n * sizeof *at);
    return sq_f32x16_load(padded);
}
#endif

#if defined(SQ_USE_AVX2)
SQ_INLINE float sq_f32x16_sum(sq_f32x16 x) {
    const __m256 eight = sq_f32x16_fold(x);
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
}
#endif

/* The sums of four at once. */
SQ_INLINE void sq_f32x16_sum4(const sq_f32x16 *x, float *sums) {
#if defined(SQ_USE_AVX2)
    __m256 eight[4];
    for (int i = 0; i < 4; i++) eight[i] = sq_f32x16_fold(x[i]);
    __m256 four[2];
    for (int i = 0; i < 2; i++)
        four[i] = _mm256_add_ps(_mm256_permute2f128_ps(eight[2 * i], eight[2 * i + 1], 0x20),
                                _mm256_permute2f128_ps(eight[2 * i], eight[2 * i + 1], 0x31));
    const __m256d low = _mm256_unpacklo_pd(_mm256_castps_pd(four[0]), _mm256_castps_pd(four[1]));
    const __m256d high = _mm256_unpackhi_pd(_mm256_castps_pd(four[0]), _mm256_castps_pd(four[1]));
    const __m256 two = _mm256_add_ps(_mm256_castpd_ps(low), _mm256_castpd_ps(high));
    const __m256 one = _mm256_add_ps(_mm256_shuffle_ps(two, two, 0x88), /* x0 x2 .. | x1 x3 .. */
                                     _mm256_shuffle_ps(two, two, 0xdd));
    _mm_storeu_ps(sums, _mm_unpacklo_ps(_mm256_castps256_ps128(one), _mm256_extractf128_ps(one, 1)));
#else
    for (int i = 0; i < 4; i++) sums[i] = sq_f32x16_sum(x[i]);
#endif
}

#endif
