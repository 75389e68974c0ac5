/* The scan of clusters: prune on signs, rank on full codes, bound what is kept. */
#include <float.h>

#include "codes.h"
#include "keys.h"

enum {
    ROWS_WAITING = 64, /* rows are ranked so many at a time, their codes on the way meanwhile */
    ROWS_ROOM = ROWS_WAITING + SQ_BLOCK_ROWS,
    AHEAD_BYTES = 8192,
    LINE_BYTES = 64,
    WIDE = 8,
    LEVEL_MAX = 127
};

/* Where the factors of a block begin, behind its signs. */
enum { NORM_AT = 0, SECANT_AT = 128, SHIFT_AT = 192, SINE_AT = 256 };

/* The query as seen from one cluster's center. */
typedef struct view {
    double near; /* G */
    double norm; /* |q~| */
    double scale; /* of levels, once they are found, */
    double by;    /* and what makes levels of float32(q~): 0 where all are 0 */
    double shift; /* 7.5 * A */
    double error; /* t; below 0 until somebody asks for it */
    double center_norm;
} view;

/* What was found of a row that is kept; `lower` only if all rows are bounded. */
typedef struct found {
    double product;
    int64_t row;
    int64_t cluster; /* its place in the list of clusters */
    float code_square, norm, sine, lower, value;
} found;

typedef struct entry {
    int64_t place; /* global row */
    uint32_t key;  /* of the rank value */
    uint32_t slot;
} entry;

_Static_assert(sizeof(entry) + sizeof(found) == SQ_SCAN_ROW_BYTES, "room of a row");
_Static_assert(sizeof(view) == SQ_SCAN_CLUSTER_BYTES, "room of a cluster");
/* Two levels a byte of a code, and their residuals in float32. */
_Static_assert(2 * LEVEL_PAD * (1 + sizeof(float)) == SQ_SCAN_LEVEL_BYTES, "room of levels");

typedef struct state {
    const sq_table *table;
    const sq_scan_call *call;
    int64_t width;       /* of a full code */
    int64_t block_bytes; /* of a block, and of its signs */
    int64_t sign_bytes;
    view *views;
    entry *heap;
    found *slots;
    int8_t *low, *high; /* levels of the halves of a code */
    float *narrow;      /* q~ of the cluster seen last, zeros behind it */
    int64_t levels_of;  /* the place of the cluster whose levels they are, or -1 */
    int64_t kept;
    int64_t ranked;
    double least_left;
    double error_of_all; /* as `error_of` found one last, or below 0 */
    /* Rows of the cluster at hand that wait for their codes. */
    int64_t waiting;
    int32_t row[ROWS_ROOM];
    float norm[ROWS_ROOM], sine[ROWS_ROOM], lower[ROWS_ROOM];
    float floor[ROWS_ROOM]; /* what the signs say at best, below which no rank value lies */
    float value[ROWS_ROOM]; /* rank values */
    code_sum sums[ROWS_ROOM];
    double product[ROWS_ROOM], code_square[ROWS_ROOM];
} state;

/* ---- the view from a center ---- */

SQ_INLINE sq_f64x8 residual8(const state *s, const float *center, int64_t i, int64_t n) {
    const double *q = s->call->projected + i;
    if (n >= WIDE) {
        const sq_f64x8 x = sq_f64x8_load(q);
        return s->table->space == SQ_SPACE_L2 ? sq_f64x8_sub(x, sq_f64x8_widen(center + i)) : x;
    }
    const sq_f64x8 x = sq_f64x8_load_n(q, n);
    return s->table->space == SQ_SPACE_L2 ? sq_f64x8_sub(x, sq_f64x8_widen_n(center + i, n)) : x;
}

static void see(state *s, int64_t place) {
    const sq_table *t = s->table;
    const int64_t c = s->call->clusters[place], d = t->dimension;
    const float *center = t->centers + c * d;
    view *v = &s->views[place];
    sq_f64x8 sum = sq_f64x8_zero(), cross = sq_f64x8_zero();
    for (int64_t i = 0; i < d; i += WIDE) {
        const sq_f64x8 x = residual8(s, center, i, d - i);
        sum = sq_f64x8_add(sum, sq_f64x8_mul(x, x));
        sq_f64x8_narrow(s->narrow + i, x);
        if (t->space == SQ_SPACE_L2) continue;
        const sq_f64x8 y = d - i >= WIDE ? sq_f64x8_widen(center + i)
                                         : sq_f64x8_widen_n(center + i, d - i);
        cross = sq_f64x8_add(cross, sq_f64x8_mul(x, y));
    }
    const double square = sq_f64x8_sum(sum);
    v->norm = __builtin_sqrt(square);
    v->near = t->space == SQ_SPACE_L2 ? square : -(sq_f64x8_sum(cross) + s->call->offset);
    v->center_norm = t->center_norms[c];
    v->error = -1;
}

/* The halves of a code lie apart, each with zeros behind it: part levels that lie side by side. */
static void part_levels(state *s) {
    const size_t width = (size_t)s->width, rest = (size_t)(s->table->dimension - s->width);
    const size_t padded = (size_t)(s->high - s->low);
    memmove(s->high, s->low + width, rest);
    memset(s->low + width, 0, padded - width);
    memset(s->high + rest, 0, padded - rest);
}

/* The largest magnitude in q~ of the cluster seen last, in float32. */
static float largest_of(const state *s) {
    sq_f32x16 most = sq_f32x16_zero();
    for (int64_t i = 0; i < s->table->dimension; i += 2 * WIDE)
        most = sq_f32x16_larger(most, sq_f32x16_load(s->narrow + i));
    return sq_f32x16_most(most);
}

/* Round q~ of the cluster seen last to levels. */
static void round_query(state *s, view *v) {
    const float most = largest_of(s);
    if (!(most > (float)LEVEL_MAX / FLT_MAX && most <= FLT_MAX)) {
        v->scale = v->by = v->shift = 0;
        memset(s->low, 0, (size_t)(2 * (s->high - s->low)));
        return;
    }
    const float by = (float)LEVEL_MAX / most;
    v->scale = most / (float)LEVEL_MAX;
    v->by = by;
    sq_i32x16 totals = {0};
    for (int64_t i = 0; i < s->table->dimension; i += 2 * WIDE)
        sq_f32x16_levels(sq_f32x16_load(s->narrow + i), by, s->low + i, &totals);
    v->shift = 7.5 * (double)sq_i32x16_sum(totals);
    part_levels(s);
}

/* The levels of the query as the cluster seen last has it, which only ranking wants; in space dot they
 * are one for all. */
static void find_levels(state *s, int64_t place) {
    view *v = &s->views[place];
    if (s->levels_of == place) return;
    if (s->table->space == SQ_SPACE_DOT && s->levels_of >= 0) {
        const view *other = &s->views[s->levels_of];
        v->scale = other->scale, v->by = other->by, v->shift = other->shift;
    } else {
        round_query(s, v);
    }
    s->levels_of = place;
}

/* What is lost by the levels of q~ as a cluster has it, squared. */
static double missed(const state *s, int64_t place) {
    const sq_table *t = s->table;
    const view *v = &s->views[place];
    const float *center = t->centers + s->call->clusters[place] * t->dimension;
    const sq_f64x8 scale = sq_f64x8_all(v->scale);
    sq_f64x8 misses = sq_f64x8_zero();
    for (int64_t i = 0; i < t->dimension; i += WIDE) {
        sq_f64x8 miss = residual8(s, center, i, t->dimension - i);
        if (v->by > 0)
            miss = sq_f64x8_sub(miss, sq_f64x8_mul(scale, sq_f64x8_rounded(miss, (float)v->by)));
        misses = sq_f64x8_add(misses, sq_f64x8_mul(miss, miss));
    }
    return sq_f64x8_sum(misses);
}

/* t of a cluster whose rows were ranked. Most clusters have none of which bounds are asked, so that it
 * is found when they are; in space dot it is one for all. */
static double error_of(state *s, int64_t place) {
    view *v = &s->views[place];
    if (s->table->space == SQ_SPACE_DOT && s->error_of_all >= 0) v->error = s->error_of_all;
    if (v->error >= 0) return v->error;
    v->error = 0x1p-21;
    if (v->norm > 0) v->error += __builtin_sqrt(missed(s, place)) / v->norm;
    s->error_of_all = v->error;
    return v->error;
}

/* ---- bounds ---- */

typedef struct bounding {
    double product[WIDE], code_norm[WIDE], norm[WIDE], sine[WIDE];
    double near[WIDE], query_norm[WIDE], error[WIDE], center_norm[WIDE];
    float lower[WIDE];
} bounding;

SQ_INLINE double larger(double x, double y) { return x > y ? x : y; }
SQ_INLINE double smaller(double x, double y) { return x < y ? x : y; }
SQ_INLINE double within(double x, double least, double most) {
    return smaller(larger(x, least), most);
}

/* squash.kernels.bounding, eight rows at once. */
SQ_INLINE void bound_rows(bounding *b, int l2, double offset) {
    const double slack_share = 0x1p-21, subnormal = 0x1p-149;
    for (int i = 0; i < WIDE; i++) {
        const double norm = b->norm[i], query_norm = b->query_norm[i];
        const double least = larger(b->sine[i] * (1 - 0x1p-11) - 0x1p-24, 0.0);
        const double most = smaller(b->sine[i] * (1 + 0x1p-11) + 0x1p-24, 1.0);
        const double cosine_least = __builtin_sqrt(1 - most * most);
        const double cosine_most = __builtin_sqrt(1 - least * least);
        const double divisor = query_norm * b->code_norm[i];
        const double ratio = b->product[i] / (divisor > 0 ? divisor : 1.0);
        const double alignment = divisor > 0 ? within(ratio, -1.0, 1.0) : 0.0;
        const double alignment_least = larger(alignment - b->error[i], -1.0);
        const double alignment_most = smaller(alignment + b->error[i], 1.0);
        const double phi = within(cosine_least, alignment_least, alignment_most);
        const double theta = within(alignment, cosine_least, cosine_most);
        const double apart = phi * theta + __builtin_sqrt((1 - phi * phi) * (1 - theta * theta));
        const int meet = (alignment_most >= cosine_least) & (alignment_least <= cosine_most);
        const double limit = norm * query_norm * (meet ? 1.0 : apart);
        if (l2) {
            const double bound = (b->near[i] + norm * norm) - 2 * limit;
            const double span = norm + query_norm;
            const double slack = slack_share * span * (span + b->center_norm[i]) + subnormal;
            b->lower[i] = (float)larger(bound - slack, 0.0);
        } else {
            const double span = query_norm * (norm + b->center_norm[i]) + offset;
            b->lower[i] = (float)(b->near[i] - limit - slack_share * span - subnormal);
        }
    }
}

static void bound_all(const state *s, bounding *b) {
    if (s->table->space == SQ_SPACE_L2) bound_rows(b, 1, 0);
    else bound_rows(b, 0, __builtin_fabs(s->call->offset));
}

/* ---- what is kept: a heap with the worst on top ---- */

/* Without branches: which of two rows is worse, no processor foresees. */
SQ_INLINE int worse(const entry *x, const entry *y) {
    return (x->key > y->key) | ((x->key == y->key) & (x->place > y->place));
}

static void sift(entry *heap, int64_t n, int64_t hole, entry item) {
    int64_t child;
    while ((child = 2 * hole + 1) < n) {
        const int64_t other = child + (child + 1 < n);
        child += worse(&heap[other], &heap[child]);
        if (!worse(&heap[child], &item)) break;
        heap[hole] = heap[child];
        hole = child;
    }
    heap[hole] = item;
}

SQ_INLINE void leave(state *s, float lower) {
    if (s->call->bounds && (double)lower < s->least_left) s->least_left = (double)lower;
}

static void keep_row(state *s, entry item, const found *row) {
    const int64_t keep = s->call->keep;
    if (s->kept < keep) {
        item.slot = (uint32_t)s->kept;
        s->slots[s->kept] = *row;
        s->heap[s->kept++] = item;
        if (s->kept == keep)
            for (int64_t i = keep / 2 - 1; i >= 0; i--) sift(s->heap, keep, i, s->heap[i]);
        return;
    }
    /* It is better than the worst. */
    item.slot = s->heap[0].slot;
    leave(s, s->slots[item.slot].lower);
    s->slots[item.slot] = *row;
    sift(s->heap, keep, 0, item);
}

/* The rank value of the last that is kept, if there are as many as there may be. */
static float threshold(const state *s) {
    const int full = s->kept == s->call->keep && s->kept > 0;
    const float last = full ? s->slots[s->heap[0].slot].value : __builtin_inff();
    return last == last ? last : __builtin_inff();
}

/* ---- ranking on full codes ---- */

/* Rank values of the rows that wait, from their sums and factors. */
SQ_INLINE void score_rows(state *s, const view *v, int l2) {
    const double halves = 56.25 * (double)s->table->dimension;
    for (int64_t first = 0; first < s->waiting; first += WIDE) {
        for (int64_t i = first; i < first + WIDE; i++) {
            const double product = v->scale * ((double)s->sums[i].dot - v->shift);
            const double code_square = (double)s->sums[i].squares + halves;
            const double sine = s->sine[i], norm = s->norm[i];
            const double cosine = larger(__builtin_sqrt(larger(1 - sine * sine, 0.0)), 0x1p-6);
            const double z = (product * norm) / (__builtin_sqrt(code_square) * cosine);
            const float estimate = (float)(l2 ? (v->near + norm * norm) - 2 * z : v->near - z);
            s->product[i] = product;
            s->code_square[i] = code_square;
            s->value[i] = s->floor[i] > estimate ? s->floor[i] : estimate;
        }
    }
}

static void bound_waiting(state *s, int64_t place) {
    const view *v = &s->views[place];
    const double error = error_of(s, place);
    for (int64_t first = 0; first < s->waiting; first += WIDE) {
        bounding b;
        for (int i = 0; i < WIDE; i++) {
            b.product[i] = s->product[first + i];
            b.code_norm[i] = __builtin_sqrt(s->code_square[first + i]);
            b.norm[i] = s->norm[first + i];
            b.sine[i] = s->sine[first + i];
            b.near[i] = v->near;
            b.query_norm[i] = v->norm;
            b.error[i] = error;
            b.center_norm[i] = v->center_norm;
        }
        bound_all(s, &b);
        memcpy(s->lower + first, b.lower, sizeof b.lower);
    }
}

/* Rank the rows that wait, all of the cluster at `place`. */
static void rank(state *s, int64_t place) {
    if (s->waiting == 0) return;
    find_levels(s, place);
    const sq_table *t = s->table;
    const int64_t c = s->call->clusters[place], partition = t->partition[c];
    const uint8_t *codes = t->full[partition] + t->first_row[c] * s->width;
    const int64_t base = t->row_base[partition] + t->first_row[c];
    const view *v = &s->views[place];
    for (int64_t i = 0; i < s->waiting; i++)
        s->sums[i] = code_sums(codes + s->row[i] * s->width, s->width, s->low, s->high);
    /* Whole eights are scored: what lies behind the last row is some older row's, or zeros. */
    if (t->space == SQ_SPACE_L2) score_rows(s, v, 1);
    else score_rows(s, v, 0);
    if (s->call->bounds) bound_waiting(s, place);
    s->ranked += s->waiting;
    for (int64_t i = 0; i < s->waiting; i++) {
        const int full = s->kept == s->call->keep;
        const entry item = {base + s->row[i], sq_key_f32(s->value[i]), 0};
        if (SQ_LIKELY(full && (s->kept == 0 || !worse(&s->heap[0], &item)))) {
            leave(s, s->lower[i]);
            continue;
        }
        const found row = {
            .product = s->product[i],
            .row = t->first_row[c] + s->row[i],
            .cluster = place,
            .code_square = (float)s->code_square[i], /* exact: it has 20 bits */
            .norm = s->norm[i],
            .sine = s->sine[i],
            .lower = s->lower[i],
            .value = s->value[i],
        };
        keep_row(s, item, &row);
    }
    s->waiting = 0;
}

/* What a scan reads next is asked into the second-level cache: it holds more of what is on its way, and
 * the first has the query's tables. */
SQ_INLINE void ask(const uint8_t *at) { __builtin_prefetch(at, 0, 2); }

SQ_INLINE void ask_bytes(const uint8_t *at, int64_t bytes) {
    for (int64_t i = 0; i < bytes; i += LINE_BYTES) ask(at + i);
    ask(at + bytes - 1);
}

/* The waiting rows' factors are read late, when a prefetch of them has arrived. */
static void read_factors(state *s, const uint8_t *blocks, int64_t from) {
    for (int64_t i = from; i < s->waiting; i++) {
        const int64_t j = s->row[i] % SQ_BLOCK_ROWS;
        const uint8_t *factors =
            blocks + s->row[i] / SQ_BLOCK_ROWS * s->block_bytes + s->sign_bytes;
        uint16_t half;
        memcpy(&half, factors + SINE_AT + 2 * j, 2);
        s->norm[i] = sq_load_f32(factors + NORM_AT + 4 * j);
        s->sine[i] = sq_f32_of_half(half);
    }
}

/* ---- the two ways to the rows of a cluster ---- */

static void gather(state *s, int64_t place, const uint32_t *words, int64_t count,
                   const uint8_t *blocks, const uint8_t *codes) {
    for (int64_t b = 0; b < count; b++) {
        uint32_t word = words[b];
        if (!word) continue;
        const uint8_t *factors = blocks + b * s->block_bytes + s->sign_bytes;
        __builtin_prefetch(factors + NORM_AT);
        __builtin_prefetch(factors + NORM_AT + LINE_BYTES);
        __builtin_prefetch(factors + SINE_AT);
        for (; word; word &= word - 1) {
            const int32_t row = (int32_t)(b * SQ_BLOCK_ROWS) + sq_ctz32(word);
            s->floor[s->waiting] = -__builtin_inff();
            s->row[s->waiting++] = row;
            ask_bytes(codes + row * s->width, s->width);
        }
        if (s->waiting >= ROWS_WAITING) {
            read_factors(s, blocks, 0);
            rank(s, place);
        }
    }
    read_factors(s, blocks, 0);
    rank(s, place);
}

typedef struct sieve {
    float step, shift, inverse_root, near, limit;
} sieve;

/* Which of a block's admitted rows may lie within the limit. If there are any, `values` are how near
 * each row is at best, NaN included. */
#if defined(SQ_USE_AVX512)

SQ_INLINE uint32_t pass_block(const uint8_t *block, uint32_t admitted, const uint8_t *entries,
                              int64_t groups, int l2, const sieve *v,
                              float values[SQ_BLOCK_ROWS]) {
    __m512 sums[2], low[2];
    sign_sums(block, entries, groups, sums);
    const uint8_t *factors = block + groups * GROUP_BYTES;
    uint32_t passing = 0;
    for (int i = 0; i < 2; i++) {
        const __m512 norm = _mm512_loadu_ps(factors + NORM_AT + 64 * i);
        const __m512 secant =
            _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(factors + SECANT_AT + 32 * i)));
        const __m512 product = _mm512_add_ps(_mm512_mul_ps(sums[i], _mm512_set1_ps(v->step)),
                                             _mm512_set1_ps(v->shift));
        const __m512 factor =
            _mm512_mul_ps(_mm512_mul_ps(norm, secant), _mm512_set1_ps(v->inverse_root));
        __m512 value;
        if (l2) {
            const __m512 shift =
                _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(factors + SHIFT_AT + 32 * i)));
            const __m512 stretch = _mm512_add_ps(_mm512_set1_ps(1), _mm512_add_ps(shift, shift));
            value = _mm512_sub_ps(_mm512_mul_ps(_mm512_mul_ps(norm, norm), stretch),
                                  _mm512_mul_ps(_mm512_add_ps(factor, factor), product));
        } else {
            value = _mm512_sub_ps(_mm512_setzero_ps(), _mm512_mul_ps(factor, product));
        }
        low[i] = _mm512_add_ps(value, _mm512_set1_ps(v->near));
        const __mmask16 within = _mm512_cmp_ps_mask(low[i], _mm512_set1_ps(v->limit), _CMP_NGT_UQ);
        passing |= (uint32_t)within << 16 * i;
    }
    passing &= admitted;
    if (!passing) return 0;
    for (int i = 0; i < 2; i++) _mm512_storeu_ps(values + 16 * i, low[i]);
    return passing;
}

#elif defined(SQ_USE_AVX2)

SQ_INLINE uint32_t pass_block(const uint8_t *block, uint32_t admitted, const uint8_t *entries,
                              int64_t groups, int l2, const sieve *v,
                              float values[SQ_BLOCK_ROWS]) {
    __m256 sums[4], low[4];
    sign_sums(block, entries, groups, sums);
    const uint8_t *factors = block + groups * GROUP_BYTES;
    uint32_t passing = 0;
    for (int i = 0; i < 4; i++) {
        const __m256 norm = _mm256_loadu_ps((const float *)(factors + NORM_AT + 32 * i));
        const __m256 secant =
            _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(factors + SECANT_AT + 16 * i)));
        const __m256 product = _mm256_add_ps(_mm256_mul_ps(sums[i], _mm256_set1_ps(v->step)),
                                             _mm256_set1_ps(v->shift));
        const __m256 factor =
            _mm256_mul_ps(_mm256_mul_ps(norm, secant), _mm256_set1_ps(v->inverse_root));
        __m256 value;
        if (l2) {
            const __m256 shift =
                _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(factors + SHIFT_AT + 16 * i)));
            const __m256 stretch = _mm256_add_ps(_mm256_set1_ps(1), _mm256_add_ps(shift, shift));
            value = _mm256_sub_ps(_mm256_mul_ps(_mm256_mul_ps(norm, norm), stretch),
                                  _mm256_mul_ps(_mm256_add_ps(factor, factor), product));
        } else {
            value = _mm256_sub_ps(_mm256_setzero_ps(), _mm256_mul_ps(factor, product));
        }
        low[i] = _mm256_add_ps(value, _mm256_set1_ps(v->near));
        const __m256 within = _mm256_cmp_ps(low[i], _mm256_set1_ps(v->limit), _CMP_NGT_UQ);
        passing |= (uint32_t)_mm256_movemask_ps(within) << 8 * i;
    }
    passing &= admitted;
    if (!passing) return 0;
    for (int i = 0; i < 4; i++) _mm256_storeu_ps(values + 8 * i, low[i]);
    return passing;
}

#else

SQ_INLINE void widen_halves(const uint8_t *at, float wide[SQ_BLOCK_ROWS]) {
#if defined(SQ_USE_NEON)
    for (int j = 0; j < SQ_BLOCK_ROWS; j += 4) {
        uint16_t halves[4];
        memcpy(halves, at + 2 * j, sizeof halves);
        vst1q_f32(wide + j, vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(halves))));
    }
#else
    for (int j = 0; j < SQ_BLOCK_ROWS; j++) {
        uint16_t half;
        memcpy(&half, at + 2 * j, sizeof half);
        wide[j] = sq_f32_of_half(half);
    }
#endif
}

SQ_INLINE uint32_t pass_block(const uint8_t *block, uint32_t admitted, const uint8_t *entries,
                              int64_t groups, int l2, const sieve *v,
                              float values[SQ_BLOCK_ROWS]) {
    float sums[SQ_BLOCK_ROWS], norm[SQ_BLOCK_ROWS], secant[SQ_BLOCK_ROWS], shift[SQ_BLOCK_ROWS];
    sign_sums(block, entries, groups, sums);
    const uint8_t *factors = block + groups * GROUP_BYTES;
    memcpy(norm, factors + NORM_AT, sizeof norm);
    widen_halves(factors + SECANT_AT, secant);
    if (l2) widen_halves(factors + SHIFT_AT, shift);
    for (int j = 0; j < SQ_BLOCK_ROWS; j++) {
        const float product = sums[j] * v->step + v->shift;
        const float factor = (norm[j] * secant[j]) * v->inverse_root;
        const float value = l2 ? (norm[j] * norm[j]) * (1 + (shift[j] + shift[j])) -
                                     (factor + factor) * product
                               : -(factor * product);
        values[j] = value + v->near;
    }
    uint32_t passing = 0;
    for (int j = 0; j < SQ_BLOCK_ROWS; j++) passing |= (uint32_t)!(values[j] > v->limit) << j;
    return passing & admitted;
}

#endif

/* A cluster's blocks and its admitted rows. */
typedef struct stretch {
    const uint8_t *at;
    const uint32_t *words;
    int64_t count;
} stretch;

/* Asks for a block, unless nobody reads it. */
SQ_INLINE void ask_block(const state *s, const stretch *of, int64_t b) {
    if (b >= of->count || !of->words[b]) return;
    const uint8_t *block = of->at + b * s->block_bytes;
    for (int64_t i = 0; i < s->block_bytes; i += LINE_BYTES) ask(block + i);
}

SQ_INLINE void sift_blocks(state *s, int64_t place, const stretch *here, const stretch *next,
                           const uint8_t *codes, sieve *v, int l2) {
    const int64_t groups = s->sign_bytes / GROUP_BYTES, count = here->count;
    const uint32_t *words = here->words;
    const int64_t ahead = (AHEAD_BYTES + s->block_bytes - 1) / s->block_bytes;
    for (int64_t b = 0; b < count; b++) {
        const uint8_t *block = here->at + b * s->block_bytes;
        /* One stream, some way ahead, into the next cluster when this one ends. */
        if (b + ahead < count) ask_block(s, here, b + ahead);
        else ask_block(s, next, b + ahead - count);
        if (!words[b]) continue;
        float values[SQ_BLOCK_ROWS];
        uint32_t passing = pass_block(block, words[b], s->call->entries, groups, l2, v, values);
        if (!passing) continue;
        const int64_t from = s->waiting;
        for (; passing; passing &= passing - 1) {
            const int j = sq_ctz32(passing);
            const int32_t row = (int32_t)(b * SQ_BLOCK_ROWS) + j;
            s->floor[s->waiting] = values[j] == values[j] ? values[j] : __builtin_inff();
            s->row[s->waiting++] = row;
            ask_bytes(codes + row * s->width, s->width);
        }
        read_factors(s, here->at, from);
        if (s->waiting < ROWS_WAITING) continue;
        rank(s, place);
        v->limit = threshold(s);
    }
    rank(s, place);
}

static sieve sieve_of(const state *s, const view *v) {
    const sq_scan_call *call = s->call;
    const sieve made = {
        .step = (float)call->step,
        .shift = (float)(call->base + call->reach * v->norm),
        .inverse_root = (float)(1 / __builtin_sqrt((double)s->table->dimension)),
        .near = (float)v->near,
        .limit = threshold(s),
    };
    return made;
}

static const uint8_t *blocks_of(const state *s, int64_t c) {
    const uint8_t *blocks = s->table->blocks[s->table->partition[c]];
    return blocks + s->table->local_block[c] * s->block_bytes;
}

static int64_t block_count(const sq_table *t, int64_t c) {
    return (t->rows[c] + SQ_BLOCK_ROWS - 1) / SQ_BLOCK_ROWS;
}

static int64_t popcount_words(const uint32_t *words, int64_t n) {
    int64_t count = 0;
    for (int64_t i = 0; i < n; i++) count += sq_popcount32(words[i]);
    return count;
}

/* ---- the answer ---- */

static void write_kept(state *s, const sq_scan_call *call) {
    const sq_table *t = s->table;
    const int64_t kept = s->kept;
    entry *heap = s->heap;
    if (kept < call->keep)
        for (int64_t i = kept / 2 - 1; i >= 0; i--) sift(heap, kept, i, heap[i]);
    for (int64_t last = kept - 1; last > 0; last--) {
        const entry worst = heap[0];
        sift(heap, last, 0, heap[last]);
        heap[last] = worst;
    }
    for (int64_t first = 0; first < kept; first += WIDE) {
        const int64_t count = kept - first < WIDE ? kept - first : WIDE;
        bounding b = {.code_norm = {1, 1, 1, 1, 1, 1, 1, 1}};
        for (int64_t i = 0; i < count; i++) {
            const found *row = &s->slots[heap[first + i].slot];
            const view *v = &s->views[row->cluster];
            call->partition[first + i] = t->partition[call->clusters[row->cluster]];
            call->row[first + i] = row->row;
            call->estimates[first + i] = row->value;
            b.product[i] = row->product;
            b.code_norm[i] = (double)row->code_square;
            b.norm[i] = row->norm;
            b.sine[i] = row->sine;
            b.near[i] = v->near;
            b.query_norm[i] = v->norm;
            b.error[i] = error_of(s, row->cluster);
            b.center_norm[i] = v->center_norm;
        }
        for (int i = 0; i < WIDE; i++) b.code_norm[i] = __builtin_sqrt(b.code_norm[i]);
        bound_all(s, &b);
        memcpy(call->lower_bounds + first, b.lower, (size_t)count * sizeof *b.lower);
    }
}

static void begin(state *s, const sq_table *table, const sq_scan_call *call) {
    memset(s, 0, sizeof *s);
    s->table = table;
    s->call = call;
    s->width = (table->dimension + 1) / 2;
    s->sign_bytes = (table->dimension + 3) / 4 * GROUP_BYTES;
    s->block_bytes = s->sign_bytes + SQ_BLOCK_FACTOR_BYTES;
    s->views = call->room;
    s->slots = (found *)(s->views + call->count);
    s->heap = (entry *)(s->slots + call->keep);
    const int64_t padded = (s->width + LEVEL_PAD - 1) / LEVEL_PAD * LEVEL_PAD;
    s->low = (int8_t *)(s->heap + call->keep);
    s->high = s->low + padded;
    s->narrow = (float *)(s->high + padded);
    memset(s->narrow, 0, (size_t)(2 * padded) * sizeof *s->narrow);
    s->levels_of = -1;
    s->error_of_all = -1;
    s->least_left = __builtin_inf();
}

int64_t SQ_NAME(scan)(const sq_table *table, const sq_scan_call *call) {
    for (int64_t place = 0; place < call->count; place++) {
        const int64_t c = call->clusters[place];
        if (c < 0 || c >= table->clusters) return INT64_MIN;
        const int64_t partition = table->partition[c];
        if (!table->blocks[partition] || !table->full[partition]) return -1 - partition;
    }
    state s;
    begin(&s, table, call);
    const uint32_t *words_of_all = call->possible ? call->possible : table->alive;
    int64_t admitted = 0, low_scanned = 0;
    for (int64_t place = 0; place < call->count; place++) {
        const int64_t c = call->clusters[place], count = block_count(table, c);
        const uint32_t *words = words_of_all + table->first_block[c];
        const int64_t here = popcount_words(words, count);
        admitted += here;
        if (here == 0) continue;
        see(&s, place);
        const uint8_t *blocks = blocks_of(&s, c);
        const uint8_t *codes = table->full[table->partition[c]] + table->first_row[c] * s.width;
        if (!((double)here >= call->share_min * (double)table->rows[c])) {
            gather(&s, place, words, count, blocks, codes);
            continue;
        }
        low_scanned += here;
        sieve v = sieve_of(&s, &s.views[place]);
        const int64_t after = place + 1 < call->count ? call->clusters[place + 1] : c;
        const stretch mine = {blocks, words, count};
        const stretch next = {blocks_of(&s, after), words_of_all + table->first_block[after],
                             after == c ? 0 : block_count(table, after)};
        if (table->space == SQ_SPACE_L2) sift_blocks(&s, place, &mine, &next, codes, &v, 1);
        else sift_blocks(&s, place, &mine, &next, codes, &v, 0);
    }
    write_kept(&s, call);
    call->counts[0] = admitted;
    call->counts[1] = low_scanned;
    call->counts[2] = s.ranked;
    memcpy(&call->counts[3], &s.least_left, sizeof s.least_left);
    return s.kept;
}
