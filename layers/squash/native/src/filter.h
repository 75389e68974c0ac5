/* One cluster through a filter program, for filter.c and walk.c. */
#ifndef SQ_FILTER_H
#define SQ_FILTER_H

#include "variant.h"

/* A pair on the stack: 1,024 rows, sure and possible. */
enum { SQ_PAIR_WORDS = SQ_STACK_WORDS / 2, SQ_PAIR_ROWS = 64 * SQ_PAIR_WORDS };

typedef struct sq_counts {
    int64_t sure, possible;
} sq_counts;

typedef struct sq_truth {
    uint64_t sure, possible, lists;
} sq_truth;

/* ---- 64 codes ---- */

#if defined(SQ_USE_AVX512)

typedef struct { __m512i table[4], list_code; } sq_codes;

SQ_INLINE sq_codes sq_codes_of(const sq_leaf *leaf) {
    sq_codes made;
    for (int i = 0; i < 4; i++) made.table[i] = _mm512_loadu_si512(leaf->truth + 64 * i);
    made.list_code = _mm512_set1_epi8((char)leaf->list_code);
    return made;
}

SQ_INLINE sq_truth sq_codes_truth(const sq_codes *codes, const uint8_t *at, int64_t n) {
    const __mmask64 there = n >= 64 ? ~0ull : (1ull << n) - 1;
    const __m512i x = _mm512_maskz_loadu_epi8(there, at);
    const __m512i low = _mm512_permutex2var_epi8(codes->table[0], x, codes->table[1]);
    const __m512i high = _mm512_permutex2var_epi8(codes->table[2], x, codes->table[3]);
    const __m512i truth = _mm512_mask_blend_epi8(_mm512_movepi8_mask(x), low, high);
    const sq_truth found = {
        _mm512_test_epi8_mask(truth, _mm512_set1_epi8(2)),
        _mm512_test_epi8_mask(truth, _mm512_set1_epi8(3)),
        _mm512_mask_cmpeq_epi8_mask(there, x, codes->list_code),
    };
    return found;
}

#elif defined(SQ_USE_AVX2)

typedef struct { __m256i sure[2], possible[2], list_code; } sq_codes;

SQ_INLINE __m256i sq_twice(const uint8_t *at) {
    return _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)at));
}

SQ_INLINE sq_codes sq_codes_of(const sq_leaf *leaf) {
    sq_codes made;
    for (int i = 0; i < 2; i++) {
        made.sure[i] = sq_twice(leaf->sets + 16 * i);
        made.possible[i] = sq_twice(leaf->sets + 32 + 16 * i);
    }
    made.list_code = _mm256_set1_epi8((char)leaf->list_code);
    return made;
}

SQ_INLINE uint64_t sq_half_mask(__m256i x) { return (uint32_t)_mm256_movemask_epi8(x); }

SQ_INLINE sq_truth sq_codes_half(const sq_codes *codes, __m256i x) {
    /* A shuffle gives 0 where an index has its top bit set: each set's two halves are or-ed. */
    const __m256i low = _mm256_and_si256(x, _mm256_set1_epi8((char)0x8f));
    const __m256i high = _mm256_xor_si256(low, _mm256_set1_epi8((char)0x80));
    const __m256i nibble = _mm256_and_si256(_mm256_srli_epi16(x, 4), _mm256_set1_epi8(7));
    const __m256i bit = _mm256_shuffle_epi8(
        _mm256_set1_epi64x((int64_t)0x8040201008040201ull), nibble);
    const __m256i sure = _mm256_or_si256(_mm256_shuffle_epi8(codes->sure[0], low),
                                         _mm256_shuffle_epi8(codes->sure[1], high));
    const __m256i possible = _mm256_or_si256(_mm256_shuffle_epi8(codes->possible[0], low),
                                             _mm256_shuffle_epi8(codes->possible[1], high));
    const sq_truth found = {
        sq_half_mask(_mm256_cmpeq_epi8(_mm256_and_si256(sure, bit), bit)),
        sq_half_mask(_mm256_cmpeq_epi8(_mm256_and_si256(possible, bit), bit)),
        sq_half_mask(_mm256_cmpeq_epi8(x, codes->list_code)),
    };
    return found;
}

SQ_INLINE sq_truth sq_codes_full(const sq_codes *codes, const uint8_t *at) {
    const sq_truth low = sq_codes_half(codes, _mm256_loadu_si256((const __m256i *)at));
    const sq_truth high = sq_codes_half(codes, _mm256_loadu_si256((const __m256i *)(at + 32)));
    const sq_truth found = {
        low.sure | high.sure << 32,
        low.possible | high.possible << 32,
        low.lists | high.lists << 32,
    };
    return found;
}

#elif defined(SQ_USE_NEON)

typedef struct { uint8x16_t sure[2], possible[2], list_code; } sq_codes;

SQ_INLINE sq_codes sq_codes_of(const sq_leaf *leaf) {
    sq_codes made;
    for (int i = 0; i < 2; i++) {
        made.sure[i] = vld1q_u8(leaf->sets + 16 * i);
        made.possible[i] = vld1q_u8(leaf->sets + 32 + 16 * i);
    }
    made.list_code = vdupq_n_u8((uint8_t)leaf->list_code);
    return made;
}

/* 64 bytes, each 0 or 255, as one word. */
SQ_INLINE uint64_t sq_byte_mask(const uint8x16_t *bytes) {
    static const uint8_t places[16] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    const uint8x16_t bits = vld1q_u8(places);
    const uint8x16_t low = vpaddq_u8(vandq_u8(bytes[0], bits), vandq_u8(bytes[1], bits));
    const uint8x16_t high = vpaddq_u8(vandq_u8(bytes[2], bits), vandq_u8(bytes[3], bits));
    const uint8x16_t both = vpaddq_u8(low, high);
    return vgetq_lane_u64(vreinterpretq_u64_u8(vpaddq_u8(both, both)), 0);
}

SQ_INLINE sq_truth sq_codes_full(const sq_codes *codes, const uint8_t *at) {
    static const uint8_t bits[16] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    const uint8x16_t bit_of = vld1q_u8(bits);
    uint8x16_t sure[4], possible[4], lists[4];
    for (int i = 0; i < 4; i++) {
        const uint8x16_t x = vld1q_u8(at + 16 * i);
        /* A look-up gives 0 where its index is beyond the table. */
        const uint8x16_t low = vandq_u8(x, vdupq_n_u8(0x8f));
        const uint8x16_t high = veorq_u8(low, vdupq_n_u8(0x80));
        const uint8x16_t bit = vqtbl1q_u8(bit_of, vshrq_n_u8(x, 4));
        sure[i] = vtstq_u8(vorrq_u8(vqtbl1q_u8(codes->sure[0], low),
                                    vqtbl1q_u8(codes->sure[1], high)), bit);
        possible[i] = vtstq_u8(vorrq_u8(vqtbl1q_u8(codes->possible[0], low),
                                        vqtbl1q_u8(codes->possible[1], high)), bit);
        lists[i] = vceqq_u8(x, codes->list_code);
    }
    const sq_truth found = {sq_byte_mask(sure), sq_byte_mask(possible), sq_byte_mask(lists)};
    return found;
}

#else

typedef struct { const uint8_t *truth; uint8_t list_code; } sq_codes;

SQ_INLINE sq_codes sq_codes_of(const sq_leaf *leaf) {
    const sq_codes made = {leaf->truth, (uint8_t)leaf->list_code};
    return made;
}

SQ_INLINE sq_truth sq_codes_full(const sq_codes *codes, const uint8_t *at) {
    sq_truth found = {0, 0, 0};
    for (int i = 0; i < 64; i++) {
        const uint64_t truth = codes->truth[at[i]];
        found.sure |= (truth >> 1) << i;
        found.possible |= ((truth | truth >> 1) & 1) << i;
        found.lists |= (uint64_t)(at[i] == codes->list_code) << i;
    }
    return found;
}

#endif

#if !defined(SQ_USE_AVX512)
/* Of n codes, if there are fewer than 64; what comes beyond them means nothing. */
SQ_INLINE sq_truth sq_codes_truth(const sq_codes *codes, const uint8_t *at, int64_t n) {
    if (SQ_LIKELY(n >= 64)) return sq_codes_full(codes, at);
    uint8_t padded[64] = {0};
    memcpy(padded, at, (size_t)n);
    sq_truth found = sq_codes_full(codes, padded);
    found.lists &= (1ull << n) - 1;
    return found;
}
#endif

/* ---- 64 codes, where those that pass follow one another ---- */

/* The codes low .. low + span; none of them where `any` is 0. */
typedef struct sq_range {
    uint64_t any;
    uint8_t low, span;
} sq_range;

/* The codes, but for that of lists, whose truths have one of some bits, of every byte the lower two; 0
 * if others lie between them. */
static int sq_range_of(const sq_leaf *leaf, uint64_t bits, sq_range *made) {
    int64_t first = -1, last = -1, count = 0;
    for (int64_t i = 0; i < SQ_CODES; i += 8) {
        const uint64_t word = sq_load_u64(leaf->truth + i) & bits;
        uint64_t found = (word | word >> 1) & 0x0101010101010101u;
        if (leaf->list_code >= i && leaf->list_code < i + 8)
            found &= ~(1ull << 8 * (leaf->list_code - i));
        if (!found) continue;
        if (first < 0) first = i + sq_ctz64(found) / 8;
        last = i + (63 - __builtin_clzll(found)) / 8;
        count += sq_popcount64(found);
    }
    made->any = count ? ~0ull : 0;
    made->low = (uint8_t)(count ? first : 0);
    made->span = (uint8_t)(count ? last - first : 0);
    return count == 0 || count == last - first + 1;
}

#if defined(SQ_USE_AVX512)

typedef struct { __m512i low, span; } sq_between;

SQ_INLINE sq_between sq_between_of(const sq_range *range) {
    const sq_between made = {_mm512_set1_epi8((char)range->low),
                             _mm512_set1_epi8((char)range->span)};
    return made;
}

SQ_INLINE uint64_t sq_between_codes(const sq_between *by, const uint8_t *at, int64_t n) {
    const __mmask64 there = n >= 64 ? ~0ull : (1ull << n) - 1;
    const __m512i above = _mm512_sub_epi8(_mm512_maskz_loadu_epi8(there, at), by->low);
    return _mm512_cmple_epu8_mask(above, by->span);
}

#elif defined(SQ_USE_AVX2)

typedef struct { __m256i low, span; } sq_between;

SQ_INLINE sq_between sq_between_of(const sq_range *range) {
    const sq_between made = {_mm256_set1_epi8((char)range->low),
                             _mm256_set1_epi8((char)range->span)};
    return made;
}

SQ_INLINE uint64_t sq_between_half(const sq_between *by, const uint8_t *at) {
    const __m256i above = _mm256_sub_epi8(_mm256_loadu_si256((const __m256i *)at), by->low);
    return sq_half_mask(_mm256_cmpeq_epi8(_mm256_min_epu8(above, by->span), above));
}

SQ_INLINE uint64_t sq_between_full(const sq_between *by, const uint8_t *at) {
    return sq_between_half(by, at) | sq_between_half(by, at + 32) << 32;
}

#elif defined(SQ_USE_NEON)

typedef struct { uint8x16_t low, span; } sq_between;

SQ_INLINE sq_between sq_between_of(const sq_range *range) {
    const sq_between made = {vdupq_n_u8(range->low), vdupq_n_u8(range->span)};
    return made;
}

SQ_INLINE uint64_t sq_between_full(const sq_between *by, const uint8_t *at) {
    uint8x16_t found[4];
    for (int i = 0; i < 4; i++)
        found[i] = vcleq_u8(vsubq_u8(vld1q_u8(at + 16 * i), by->low), by->span);
    return sq_byte_mask(found);
}

#else

typedef sq_range sq_between;

SQ_INLINE sq_between sq_between_of(const sq_range *range) { return *range; }

SQ_INLINE uint64_t sq_between_full(const sq_between *by, const uint8_t *at) {
    uint64_t found = 0;
    for (int i = 0; i < 64; i++)
        found |= (uint64_t)((uint8_t)(at[i] - by->low) <= by->span) << i;
    return found;
}

#endif

#if !defined(SQ_USE_AVX512)
/* Of n codes, as `sq_codes_truth`. */
SQ_INLINE uint64_t sq_between_codes(const sq_between *by, const uint8_t *at, int64_t n) {
    if (SQ_LIKELY(n >= 64)) return sq_between_full(by, at);
    uint8_t padded[64] = {0};
    memcpy(padded, at, (size_t)n);
    return sq_between_full(by, padded);
}
#endif

/* ---- lists ---- */

/* Which of the rows of `lists` have one of the bits in their signatures. */
SQ_INLINE sq_truth sq_signatures_truth(const sq_leaf *leaf, const uint8_t *at, uint64_t lists) {
    sq_truth found = {0, 0, lists};
#if defined(SQ_USE_AVX512)
    const __m512i sure = _mm512_set1_epi64((int64_t)leaf->sure_bits);
    const __m512i possible = _mm512_set1_epi64((int64_t)leaf->possible_bits);
    for (int i = 0; i < 64; i += 8) {
        const __mmask8 here = (__mmask8)(lists >> i);
        if (!here) continue;
        const __m512i x = _mm512_maskz_loadu_epi64(here, at + 8 * i);
        found.sure |= (uint64_t)_mm512_test_epi64_mask(x, sure) << i;
        found.possible |= (uint64_t)_mm512_test_epi64_mask(x, possible) << i;
    }
#else
    for (uint64_t left = lists; left; left &= left - 1) {
        const int i = sq_ctz64(left);
        const uint64_t x = sq_load_u64(at + 8 * i);
        found.sure |= (uint64_t)((x & leaf->sure_bits) != 0) << i;
        found.possible |= (uint64_t)((x & leaf->possible_bits) != 0) << i;
    }
#endif
    return found;
}

/* ---- programs ---- */

/* A leaf's truth of n rows, 64 at most, from one on. */
SQ_INLINE sq_truth sq_leaf_word(const sq_leaf *leaf, const sq_codes *codes, int64_t partition,
                                int64_t row, int64_t n) {
    sq_truth found = sq_codes_truth(codes, leaf->column[partition] + row, n);
    if (leaf->list_code < 0 || !found.lists) return found;
    const uint8_t *signatures = (const uint8_t *)leaf->signatures[partition];
    found.sure &= ~found.lists;
    found.possible &= ~found.lists;
    if (!signatures) return found;
    const sq_truth listed = sq_signatures_truth(leaf, signatures + 8 * row, found.lists);
    found.sure |= listed.sure;
    found.possible |= listed.possible;
    return found;
}

static void sq_leaf_pair(const sq_leaf *leaf, int64_t partition, int64_t row, int64_t n,
                         uint64_t *pair) {
    if (!leaf->column[partition]) {
        memset(pair, 0, SQ_STACK_WORDS * sizeof *pair);
        return;
    }
    const sq_codes codes = sq_codes_of(leaf);
    for (int64_t i = 0, word = 0; i < n; i += 64, word++) {
        const sq_truth found = sq_leaf_word(leaf, &codes, partition, row + i, n - i);
        pair[word] = found.sure;
        pair[SQ_PAIR_WORDS + word] = found.possible;
    }
}

/* Leaves the result at the stack's foot. */
static void sq_evaluate(const sq_program *program, int64_t partition, int64_t row, int64_t n,
                        uint64_t *stack) {
    const int64_t words = (n + 63) >> 6;
    uint64_t *top = stack - SQ_STACK_WORDS;
    for (int64_t i = 0; i < program->operations; i++) {
        const int32_t operation = program->code[2 * i];
        if (operation == SQ_LEAF) {
            top += SQ_STACK_WORDS;
            sq_leaf_pair(&program->leaves[program->code[2 * i + 1]], partition, row, n, top);
        } else if (operation == SQ_NOT) {
            for (int64_t w = 0; w < words; w++) {
                const uint64_t sure = top[w];
                top[w] = ~top[SQ_PAIR_WORDS + w];
                top[SQ_PAIR_WORDS + w] = ~sure;
            }
        } else {
            const uint64_t *right = top;
            top -= SQ_STACK_WORDS;
            if (operation == SQ_AND) {
                for (int64_t w = 0; w < words; w++) {
                    top[w] &= right[w];
                    top[SQ_PAIR_WORDS + w] &= right[SQ_PAIR_WORDS + w];
                }
            } else {
                for (int64_t w = 0; w < words; w++) {
                    top[w] |= right[w];
                    top[SQ_PAIR_WORDS + w] |= right[SQ_PAIR_WORDS + w];
                }
            }
        }
    }
}

/* The truth of one row as a pair of bits, sure 1 and possible 2, with the values of open leaves. */
static unsigned sq_leaf_settled(const sq_leaf *leaf, int64_t partition, int64_t row) {
    const uint8_t *column = leaf->column[partition];
    if (!column) return 0;
    const uint8_t code = column[row];
    if (code == leaf->list_code) {
        const uint8_t *signatures = (const uint8_t *)leaf->signatures[partition];
        if (!signatures) return 0;
        const uint64_t x = sq_load_u64(signatures + 8 * row);
        return (unsigned)((x & leaf->sure_bits) != 0) |
               (unsigned)((x & leaf->possible_bits) != 0) << 1;
    }
    const uint8_t truth = leaf->truth[code];
    if (truth != 1) return truth == 2 ? 3 : 0;
    const uint8_t *ids = (const uint8_t *)leaf->ids[partition];
    if (!leaf->intervals || !ids) return 2;
    uint32_t id;
    memcpy(&id, ids + 4 * row, sizeof id);
    if ((int64_t)id >= leaf->number_counts[partition]) return 2;
    double x;
    memcpy(&x, (const uint8_t *)leaf->numbers[partition] + 8 * (size_t)id, sizeof x);
    for (int64_t i = 0; i < leaf->interval_count; i++)
        if (x >= leaf->intervals[2 * i] && x <= leaf->intervals[2 * i + 1]) return 3;
    return 0;
}

static unsigned sq_row_settled(const sq_program *program, int64_t partition, int64_t row,
                               uint64_t *stack) {
    uint64_t *top = stack - 1;
    for (int64_t i = 0; i < program->operations; i++) {
        const int32_t operation = program->code[2 * i];
        if (operation == SQ_LEAF) {
            *++top = sq_leaf_settled(&program->leaves[program->code[2 * i + 1]], partition, row);
        } else if (operation == SQ_NOT) {
            *top = (~*top >> 1 & 1) | (~*top & 1) << 1;
        } else {
            const uint64_t right = *top--;
            *top = operation == SQ_AND ? *top & right : *top | right;
        }
    }
    return (unsigned)*stack;
}

/* ---- lots of clusters ----
 *
 * Rows that the cells leave open lie far apart, and so do their values: those of a whole lot are
 * asked for before the first is looked at. */

enum { SQ_LOT = 8, SQ_OPEN_ROWS = 256 };

typedef struct sq_open {
    int64_t partition, row;
    uint32_t *sure, *possible; /* the row's words */
    uint32_t bit;
    sq_counts *counts; /* of its cluster */
} sq_open;

static void sq_settle(const sq_program *program, const sq_open *open, int64_t count,
                      uint64_t *stack) {
    for (int64_t l = 0; l < program->interval_leaves; l++) {
        const sq_leaf *leaf = &program->leaves[l];
        for (int64_t i = 0; i < count; i++) {
            const int64_t partition = open[i].partition, row = open[i].row;
            const uint8_t *ids = (const uint8_t *)leaf->ids[partition];
            if (!ids || !leaf->column[partition]) continue;
            const uint32_t id = sq_load_u32(ids + 4 * row);
            if ((int64_t)id < leaf->number_counts[partition])
                __builtin_prefetch((const uint8_t *)leaf->numbers[partition] + 8 * (size_t)id);
        }
    }
    for (int64_t i = 0; i < count; i++) {
        const unsigned truth = sq_row_settled(program, open[i].partition, open[i].row, stack);
        if (truth & 1) {
            *open[i].sure |= open[i].bit;
            open[i].counts->sure++;
        }
        if (!(truth & 2)) {
            *open[i].possible &= ~open[i].bit;
            open[i].counts->possible--;
        }
    }
}

/* Asks for what the filter of a cluster's first rows will read. */
SQ_INLINE void sq_filter_ahead(const sq_table *table, const sq_program *program, int64_t cluster,
                               int64_t rows) {
    const int64_t partition = table->partition[cluster];
    const int64_t row = table->first_row[cluster];
    for (int64_t i = 0; i < program->operations; i++) {
        if (program->code[2 * i] != SQ_LEAF) continue;
        const uint8_t *column = program->leaves[program->code[2 * i + 1]].column[partition];
        if (!column) continue;
        for (int64_t r = 0; r < rows; r += 64) __builtin_prefetch(column + row + r);
    }
}

/* What is found of a program once for many clusters. Most are a few leaves that must all hold: these
 * need no stack. */
enum { SQ_TOGETHER = 4 };

typedef struct sq_plan {
    const sq_program *program;
    int64_t together; /* how many leaves must all hold; 0: it is no such program */
    int ranged;       /* and of each, the codes that pass it follow one another, but for lists */
    const sq_leaf *leaves[SQ_TOGETHER];
    sq_codes codes[SQ_TOGETHER];
    sq_between sure[SQ_TOGETHER], possible[SQ_TOGETHER], lists[SQ_TOGETHER];
    uint64_t sure_any[SQ_TOGETHER], possible_any[SQ_TOGETHER]; /* 0: there is no such code */
} sq_plan;

__attribute__((unused)) /* as below */
static void sq_plan_of(const sq_program *program, sq_plan *made) {
    made->program = program;
    made->together = 0;
    made->ranged = 1;
    int64_t count = 0;
    for (int64_t i = 0; i < program->operations; i++) {
        const int32_t operation = program->code[2 * i];
        if (operation == SQ_AND) continue;
        if (operation != SQ_LEAF || count == SQ_TOGETHER) return;
        const sq_leaf *leaf = &program->leaves[program->code[2 * i + 1]];
        sq_range sure, possible, lists = {~0ull, (uint8_t)leaf->list_code, 0};
        made->ranged &= sq_range_of(leaf, 0x0202020202020202u, &sure) &
                        sq_range_of(leaf, 0x0303030303030303u, &possible);
        made->leaves[count] = leaf;
        made->codes[count] = sq_codes_of(leaf);
        made->sure[count] = sq_between_of(&sure);
        made->possible[count] = sq_between_of(&possible);
        made->lists[count] = sq_between_of(&lists);
        made->sure_any[count] = sure.any;
        made->possible_any[count] = possible.any;
        count++;
    }
    made->together = count;
}

/* The words of n rows, 1,024 at most, from one on: `words` as a pair on the stack. */
SQ_INLINE void sq_plan_ranged(const sq_plan *plan, int64_t together, int64_t partition, int64_t row,
                              int64_t n, uint64_t *words) {
    const uint8_t *at[SQ_TOGETHER];
    for (int64_t l = 0; l < together; l++) at[l] = plan->leaves[l]->column[partition] + row;
    for (int64_t i = 0, word = 0; i < n; i += 64, word++) {
        uint64_t sure = ~0ull, possible = ~0ull;
        for (int64_t l = 0; l < together; l++) {
            const sq_leaf *leaf = plan->leaves[l];
            const uint8_t *codes = at[l] + i;
            if (leaf->list_code >= 0 && SQ_UNLIKELY(sq_between_codes(&plan->lists[l], codes, n - i))) {
                const sq_truth one = sq_leaf_word(leaf, &plan->codes[l], partition, row + i, n - i);
                sure &= one.sure;
                possible &= one.possible;
                continue;
            }
            sure &= sq_between_codes(&plan->sure[l], codes, n - i) & plan->sure_any[l];
            possible &= sq_between_codes(&plan->possible[l], codes, n - i) & plan->possible_any[l];
        }
        words[word] = sure;
        words[SQ_PAIR_WORDS + word] = possible;
    }
}

static void sq_plan_words(const sq_plan *plan, int64_t partition, int64_t row, int64_t n,
                          uint64_t *words, uint64_t *stack) {
    const int64_t together = plan->together;
    if (!together) {
        sq_evaluate(plan->program, partition, row, n, stack);
        memcpy(words, stack, SQ_STACK_WORDS * sizeof *words);
        return;
    }
    for (int64_t l = 0; l < together; l++) {
        if (plan->leaves[l]->column[partition]) continue;
        memset(words, 0, SQ_STACK_WORDS * sizeof *words);
        return;
    }
    if (plan->ranged && together == 1) {
        sq_plan_ranged(plan, 1, partition, row, n, words);
    } else if (plan->ranged && together == 2) {
        sq_plan_ranged(plan, 2, partition, row, n, words);
    } else if (plan->ranged) {
        sq_plan_ranged(plan, together, partition, row, n, words);
    } else {
        for (int64_t i = 0, word = 0; i < n; i += 64, word++) {
            sq_truth found = {~0ull, ~0ull, 0};
            for (int64_t l = 0; l < together; l++) {
                const sq_truth one = sq_leaf_word(plan->leaves[l], &plan->codes[l], partition,
                                                  row + i, n - i);
                found.sure &= one.sure;
                found.possible &= one.possible;
            }
            words[word] = found.sure;
            words[SQ_PAIR_WORDS + word] = found.possible;
        }
    }
}

/* Filters the first rows of one cluster to its words, counts them, and takes down which are open. */
static int64_t sq_filter_words(const sq_table *table, const sq_plan *plan, int64_t cluster,
                               int64_t rows, uint32_t *sure, uint32_t *possible, sq_counts *counts,
                               sq_open *open, int64_t count, uint64_t *stack) {
    const sq_program *program = plan->program;
    const int64_t partition = table->partition[cluster];
    const int64_t first_row = table->first_row[cluster];
    const uint32_t *alive = table->alive + table->first_block[cluster];
    uint64_t words[SQ_STACK_WORDS];
    sq_counts all = {0, 0};
    for (int64_t begin = 0; begin < rows; begin += SQ_PAIR_ROWS) {
        const int64_t n = rows - begin < SQ_PAIR_ROWS ? rows - begin : SQ_PAIR_ROWS;
        const int64_t blocks = (n + SQ_BLOCK_ROWS - 1) / SQ_BLOCK_ROWS;
        sq_plan_words(plan, partition, first_row + begin, n, words, stack);
        for (int64_t b = 0, word = 0; b < blocks; b += 2, word++) {
            const int two = b + 1 < blocks;
            const uint64_t there = two ? sq_load_u64(alive + b) : alive[b];
            const uint64_t yes = words[word] & there, maybe = words[SQ_PAIR_WORDS + word] & there;
            if (SQ_LIKELY(two)) {
                memcpy(sure + b, &yes, sizeof yes);
                memcpy(possible + b, &maybe, sizeof maybe);
            } else {
                sure[b] = (uint32_t)yes;
                possible[b] = (uint32_t)maybe;
            }
            all.sure += sq_popcount64(yes);
            all.possible += sq_popcount64(maybe);
            if (!program->interval_leaves) continue;
            for (uint64_t left = maybe & ~yes; left; left &= left - 1) {
                const int bit = sq_ctz64(left);
                const int64_t row = first_row + begin + b * SQ_BLOCK_ROWS + bit;
                const int64_t block = b + bit / SQ_BLOCK_ROWS;
                if (count == SQ_OPEN_ROWS) {
                    sq_settle(program, open, count, stack);
                    count = 0;
                }
                const sq_open one = {partition, row, &sure[block], &possible[block],
                                     1u << bit % SQ_BLOCK_ROWS, counts};
                open[count++] = one;
                for (int64_t l = 0; l < program->interval_leaves; l++) {
                    const uint8_t *ids = (const uint8_t *)program->leaves[l].ids[partition];
                    if (ids) __builtin_prefetch(ids + 4 * row);
                }
            }
        }
        sure += blocks;
        possible += blocks;
        alive += blocks;
    }
    counts->sure += all.sure;
    counts->possible += all.possible;
    return count;
}

/* Filters the first rows of up to SQ_LOT clusters, which `sq_filter_ahead` was told of; of each, its
 * words and its counts. */
__attribute__((unused)) /* by who filters row by row */
static void sq_filter_lot(const sq_table *table, const sq_plan *plan, const int64_t *clusters,
                          int64_t count, int64_t rows_most, uint32_t *const *sure,
                          uint32_t *const *possible, sq_counts *counts, uint64_t *stack) {
    sq_open open[SQ_OPEN_ROWS];
    int64_t waiting = 0;
    memset(counts, 0, (size_t)count * sizeof *counts);
    for (int64_t i = 0; i < count; i++) {
        const int64_t all = table->rows[clusters[i]], rows = all < rows_most ? all : rows_most;
        waiting = sq_filter_words(table, plan, clusters[i], rows, sure[i], possible[i], &counts[i],
                                  open, waiting, stack);
    }
    sq_settle(plan->program, open, waiting, stack);
}

#endif
