/* Sums over one block's signs, and over one row's full code, in the form of the variant. */
#ifndef SQ_CODES_H
#define SQ_CODES_H

#include "variant.h"

/* So many groups add up in 16 bits: 256 * 255 < 2^16. */
enum { GROUPS_PER_PASS = 256, GROUP_BYTES = 16 };
/* Levels of one half of a code are zeros beyond its end, up to a whole register. */
enum { LEVEL_PAD = 64 };

/* ---- signs: the table entries of each of 32 rows, added up ---- */

#if defined(SQ_USE_AVX512)

/* Sixty-four bytes are four groups. Their bytes of one row are put side by side first, which leaves the
 * table whole in one register, and four entries found are added at once: no sum is ever folded. */
SQ_INLINE void add_entries(__m512i pairs, __m512i table, __m512i *low, __m512i *high) {
    static const uint8_t places[64] = {
        0, 16, 32, 48, 1, 17, 33, 49, 2,  18, 34, 50, 3,  19, 35, 51, 4,  20, 36, 52, 5,  21,
        37, 53, 6, 22, 38, 54, 7, 23, 39, 55, 8, 24, 40, 56, 9, 25, 41, 57, 10, 26, 42, 58,
        11, 27, 43, 59, 12, 28, 44, 60, 13, 29, 45, 61, 14, 30, 46, 62, 15, 31, 47, 63};
    const __m512i half = _mm512_set1_epi8(15), ones = _mm512_set1_epi8(1);
    const __m512i group = _mm512_set1_epi32(0x30201000); /* where each byte's table begins */
    const __m512i rows = _mm512_permutexvar_epi8(_mm512_loadu_si512(places), pairs);
    /* (pairs & half) | group */
    const __m512i first = _mm512_ternarylogic_epi32(rows, half, group, 0xea);
    const __m512i second = _mm512_ternarylogic_epi32(_mm512_srli_epi16(rows, 4), half, group, 0xea);
    *low = _mm512_dpbusd_epi32(*low, _mm512_permutexvar_epi8(first, table), ones);
    *high = _mm512_dpbusd_epi32(*high, _mm512_permutexvar_epi8(second, table), ones);
}

SQ_INLINE void sign_sums(const uint8_t *signs, const uint8_t *entries, int64_t groups,
                         __m512 rows[2]) {
    /* Two sums for each row, since one waits for the last addition. */
    __m512i low[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
    __m512i high[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
    const int64_t bytes = groups * GROUP_BYTES;
    int64_t i = 0;
    for (; i + 128 <= bytes; i += 128)
        for (int j = 0; j < 2; j++)
            add_entries(_mm512_loadu_si512(signs + i + 64 * j),
                        _mm512_loadu_si512(entries + i + 64 * j), &low[j], &high[j]);
    for (int j = 0; i < bytes; i += 64, j++) {
        const __mmask64 rest = bytes - i < 64 ? ((__mmask64)1 << (bytes - i)) - 1 : ~(__mmask64)0;
        add_entries(_mm512_maskz_loadu_epi8(rest, signs + i),
                    _mm512_maskz_loadu_epi8(rest, entries + i), &low[j], &high[j]);
    }
    rows[0] = _mm512_cvtepi32_ps(_mm512_add_epi32(low[0], low[1]));
    rows[1] = _mm512_cvtepi32_ps(_mm512_add_epi32(high[0], high[1]));
}

#elif defined(SQ_USE_AVX2)

SQ_INLINE void add_entries(__m256i entries, __m256i nibbles, __m256i *all, __m256i *odd) {
    const __m256i found = _mm256_shuffle_epi8(entries, nibbles);
    *all = _mm256_add_epi16(*all, found);
    *odd = _mm256_add_epi16(*odd, _mm256_srli_epi16(found, 8));
}

SQ_INLINE __m128i fold_lanes(__m256i x) {
    return _mm_add_epi16(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
}

/* Add sixteen rows to `sums`, eight a register. */
SQ_INLINE void add_rows(__m256i all, __m256i odd, __m256i sums[2]) {
    const __m128i odd_rows = fold_lanes(odd);
    const __m128i even_rows = _mm_sub_epi16(fold_lanes(all), _mm_slli_epi16(odd_rows, 8));
    sums[0] = _mm256_add_epi32(sums[0], _mm256_cvtepu16_epi32(_mm_unpacklo_epi16(even_rows, odd_rows)));
    sums[1] = _mm256_add_epi32(sums[1], _mm256_cvtepu16_epi32(_mm_unpackhi_epi16(even_rows, odd_rows)));
}

SQ_INLINE void sum_pass(const uint8_t *signs, const uint8_t *entries, int64_t groups,
                        __m256i sums[4]) {
    const __m256i low_half = _mm256_set1_epi8(15);
    __m256i low_all = _mm256_setzero_si256(), low_odd = low_all, high_all = low_all, high_odd = low_all;
    for (int64_t g = 0; g < groups; g += 2) {
        __m256i pairs, table;
        if (g + 1 < groups) {
            pairs = _mm256_loadu_si256((const __m256i *)(signs + g * GROUP_BYTES));
            table = _mm256_loadu_si256((const __m256i *)(entries + g * GROUP_BYTES));
        } else {
            pairs = _mm256_zextsi128_si256(_mm_loadu_si128((const __m128i *)(signs + g * GROUP_BYTES)));
            table = _mm256_zextsi128_si256(_mm_loadu_si128((const __m128i *)(entries + g * GROUP_BYTES)));
        }
        add_entries(table, _mm256_and_si256(pairs, low_half), &low_all, &low_odd);
        add_entries(table, _mm256_and_si256(_mm256_srli_epi16(pairs, 4), low_half), &high_all, &high_odd);
    }
    add_rows(low_all, low_odd, sums);
    add_rows(high_all, high_odd, sums + 2);
}

SQ_INLINE void sign_sums(const uint8_t *signs, const uint8_t *entries, int64_t groups,
                         __m256 rows[4]) {
    __m256i sums[4] = {_mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256(),
                       _mm256_setzero_si256()};
    for (int64_t g = 0; g < groups; g += GROUPS_PER_PASS) {
        const int64_t count = groups - g < GROUPS_PER_PASS ? groups - g : GROUPS_PER_PASS;
        sum_pass(signs + g * GROUP_BYTES, entries + g * GROUP_BYTES, count, sums);
    }
    for (int i = 0; i < 4; i++) rows[i] = _mm256_cvtepi32_ps(sums[i]);
}

#elif defined(SQ_USE_NEON)

SQ_INLINE void sum_pass(const uint8_t *signs, const uint8_t *entries, int64_t groups,
                        uint32x4_t sums[8]) {
    uint16x8_t rows[4] = {vdupq_n_u16(0), vdupq_n_u16(0), vdupq_n_u16(0), vdupq_n_u16(0)};
    for (int64_t g = 0; g < groups; g++) {
        const uint8x16_t pairs = vld1q_u8(signs + g * GROUP_BYTES);
        const uint8x16_t table = vld1q_u8(entries + g * GROUP_BYTES);
        const uint8x16_t low = vqtbl1q_u8(table, vandq_u8(pairs, vdupq_n_u8(15)));
        const uint8x16_t high = vqtbl1q_u8(table, vshrq_n_u8(pairs, 4));
        rows[0] = vaddw_u8(rows[0], vget_low_u8(low));
        rows[1] = vaddw_high_u8(rows[1], low);
        rows[2] = vaddw_u8(rows[2], vget_low_u8(high));
        rows[3] = vaddw_high_u8(rows[3], high);
    }
    for (int i = 0; i < 4; i++) {
        sums[2 * i] = vaddw_u16(sums[2 * i], vget_low_u16(rows[i]));
        sums[2 * i + 1] = vaddw_high_u16(sums[2 * i + 1], rows[i]);
    }
}

SQ_INLINE void sign_sums(const uint8_t *signs, const uint8_t *entries, int64_t groups,
                         float rows[32]) {
    uint32x4_t sums[8];
    for (int i = 0; i < 8; i++) sums[i] = vdupq_n_u32(0);
    for (int64_t g = 0; g < groups; g += GROUPS_PER_PASS) {
        const int64_t count = groups - g < GROUPS_PER_PASS ? groups - g : GROUPS_PER_PASS;
        sum_pass(signs + g * GROUP_BYTES, entries + g * GROUP_BYTES, count, sums);
    }
    for (int i = 0; i < 8; i++) vst1q_f32(rows + 4 * i, vcvtq_f32_u32(sums[i]));
}

#else

SQ_INLINE void sign_sums(const uint8_t *signs, const uint8_t *entries, int64_t groups,
                         float rows[32]) {
    uint32_t sums[32] = {0};
    for (int64_t g = 0; g < groups; g++) {
        const uint8_t *pairs = signs + g * GROUP_BYTES, *table = entries + g * GROUP_BYTES;
        for (int j = 0; j < 16; j++) {
            sums[j] += table[pairs[j] & 15];
            sums[j + 16] += table[pairs[j] >> 4];
        }
    }
    for (int j = 0; j < 32; j++) rows[j] = (float)sums[j];
}

#endif

/* ---- full codes: of one row, the sums of a_j k_j and of k_j (k_j - 15) ---- */

typedef struct code_sum { int32_t dot, squares; } code_sum;

#if defined(SQ_USE_AVX512)

SQ_INLINE void add_codes(__m512i pairs, const int8_t *low, const int8_t *high, __m512i *dot,
                         __m512i *squares) {
    const __m512i half = _mm512_set1_epi8(15);
    const __m512i k = _mm512_and_si512(pairs, half);
    const __m512i m = _mm512_and_si512(_mm512_srli_epi16(pairs, 4), half);
    *dot = _mm512_dpbusd_epi32(*dot, k, _mm512_loadu_si512(low));
    *squares = _mm512_dpbusd_epi32(*squares, k, _mm512_sub_epi8(k, half));
    *dot = _mm512_dpbusd_epi32(*dot, m, _mm512_loadu_si512(high));
    *squares = _mm512_dpbusd_epi32(*squares, m, _mm512_sub_epi8(m, half));
}

SQ_INLINE code_sum code_sums(const uint8_t *row, int64_t width, const int8_t *low,
                             const int8_t *high) {
    __m512i dot = _mm512_setzero_si512(), squares = dot;
    int64_t i = 0;
    for (; i + 64 <= width; i += 64)
        add_codes(_mm512_loadu_si512(row + i), low + i, high + i, &dot, &squares);
    if (i < width)
        add_codes(_mm512_maskz_loadu_epi8(((__mmask64)1 << (width - i)) - 1, row + i), low + i,
                  high + i, &dot, &squares);
    /* Both are folded in one register: dot in the low half, squares in the high one. */
    const __m512i crossed = _mm512_shuffle_i64x2(dot, squares, 0x4e); /* dot 2 3, squares 0 1 */
    const __m512i kept = _mm512_mask_blend_epi64(0xf0, dot, squares); /* dot 0 1, squares 2 3 */
    const __m512i four = _mm512_add_epi32(crossed, kept);
    const __m512i two = _mm512_add_epi32(four, _mm512_shuffle_i64x2(four, four, 0xb1));
    const __m512i one = _mm512_add_epi32(two, _mm512_shuffle_epi32(two, 0x4e));
    const __m512i all = _mm512_add_epi32(one, _mm512_shuffle_epi32(one, 0xb1));
    const code_sum made = {_mm_cvtsi128_si32(_mm512_castsi512_si128(all)),
                           _mm_cvtsi128_si32(_mm512_extracti32x4_epi32(all, 2))};
    return made;
}

#elif defined(SQ_USE_AVX2)

SQ_INLINE void add_codes(__m256i pairs, const int8_t *low, const int8_t *high, __m256i *dot,
                         __m256i *squares) {
    const __m256i half = _mm256_set1_epi8(15), ones = _mm256_set1_epi16(1);
    const __m256i k = _mm256_and_si256(pairs, half);
    const __m256i m = _mm256_and_si256(_mm256_srli_epi16(pairs, 4), half);
    /* At most 4 * 15 * 127 in 16 bits. */
    const __m256i dots = _mm256_add_epi16(
        _mm256_maddubs_epi16(k, _mm256_loadu_si256((const __m256i *)low)),
        _mm256_maddubs_epi16(m, _mm256_loadu_si256((const __m256i *)high)));
    const __m256i both = _mm256_add_epi16(_mm256_maddubs_epi16(k, _mm256_sub_epi8(k, half)),
                                          _mm256_maddubs_epi16(m, _mm256_sub_epi8(m, half)));
    *dot = _mm256_add_epi32(*dot, _mm256_madd_epi16(dots, ones));
    *squares = _mm256_add_epi32(*squares, _mm256_madd_epi16(both, ones));
}

/* The last `width` % 32 bytes of a row: read with those before them, which are then cleared, or
 * from a copy where there are none. */
SQ_INLINE __m256i last_pairs(const uint8_t *row, int64_t width, int64_t *from) {
    static const uint8_t kept[64] = {[32] = 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
                                     255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
                                     255, 255, 255, 255, 255, 255, 255, 255, 255, 255};
    const int64_t rest = width % 32;
    if (width < 32) {
        uint8_t copy[32] = {0};
        memcpy(copy, row, (size_t)rest);
        *from = 0;
        return _mm256_loadu_si256((const __m256i *)copy);
    }
    *from = width - 32;
    return _mm256_and_si256(_mm256_loadu_si256((const __m256i *)(row + width - 32)),
                            _mm256_loadu_si256((const __m256i *)(kept + rest)));
}

SQ_INLINE code_sum code_sums(const uint8_t *row, int64_t width, const int8_t *low,
                             const int8_t *high) {
    __m256i dot = _mm256_setzero_si256(), squares = dot;
    int64_t i = 0;
    for (; i + 32 <= width; i += 32)
        add_codes(_mm256_loadu_si256((const __m256i *)(row + i)), low + i, high + i, &dot, &squares);
    if (i < width) {
        int64_t from;
        const __m256i pairs = last_pairs(row, width, &from);
        add_codes(pairs, low + from, high + from, &dot, &squares);
    }
    const __m256i crossed = _mm256_permute2x128_si256(dot, squares, 0x21);
    const __m256i two = _mm256_add_epi32(crossed, _mm256_blend_epi32(dot, squares, 0xf0));
    const __m256i one = _mm256_add_epi32(two, _mm256_shuffle_epi32(two, 0x4e));
    const __m256i all = _mm256_add_epi32(one, _mm256_shuffle_epi32(one, 0xb1));
    const code_sum made = {_mm_cvtsi128_si32(_mm256_castsi256_si128(all)),
                           _mm_cvtsi128_si32(_mm256_extracti128_si256(all, 1))};
    return made;
}

#elif defined(SQ_USE_NEON)

SQ_INLINE void add_products(uint8x16_t code, int8x16_t level, int32x4_t *sum) {
    const int8x16_t k = vreinterpretq_s8_u8(code);
#if defined(SQ_USE_DOT)
    *sum = vdotq_s32(*sum, k, level);
#else
    const int16x8_t first = vmull_s8(vget_low_s8(k), vget_low_s8(level));
    *sum = vpadalq_s16(*sum, vmlal_high_s8(first, k, level));
#endif
}

SQ_INLINE void add_codes(uint8x16_t pairs, const int8_t *low, const int8_t *high, int32x4_t *dot,
                         int32x4_t *squares) {
    const uint8x16_t half = vdupq_n_u8(15);
    const uint8x16_t k = vandq_u8(pairs, half), m = vshrq_n_u8(pairs, 4);
    add_products(k, vld1q_s8(low), dot);
    add_products(m, vld1q_s8(high), dot);
    add_products(k, vreinterpretq_s8_u8(vsubq_u8(k, half)), squares);
    add_products(m, vreinterpretq_s8_u8(vsubq_u8(m, half)), squares);
}

SQ_INLINE code_sum code_sums(const uint8_t *row, int64_t width, const int8_t *low,
                             const int8_t *high) {
    int32x4_t dot = vdupq_n_s32(0), squares = dot;
    int64_t i = 0;
    for (; i + 16 <= width; i += 16) add_codes(vld1q_u8(row + i), low + i, high + i, &dot, &squares);
    if (i < width) {
        uint8_t copy[16] = {0};
        memcpy(copy, row + i, (size_t)(width - i));
        add_codes(vld1q_u8(copy), low + i, high + i, &dot, &squares);
    }
    const code_sum made = {vaddvq_s32(dot), vaddvq_s32(squares)};
    return made;
}

#else

SQ_INLINE code_sum code_sums(const uint8_t *row, int64_t width, const int8_t *low,
                             const int8_t *high) {
    code_sum made = {0, 0};
    for (int64_t i = 0; i < width; i++) {
        const int32_t k = row[i] & 15, m = row[i] >> 4;
        made.dot += low[i] * k + high[i] * m;
        made.squares += k * (k - 15) + m * (m - 15);
    }
    return made;
}

#endif
#endif
