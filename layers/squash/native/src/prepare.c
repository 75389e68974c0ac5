/* Rotate a query, make its table of signs, and measure its distances to all centers. */
#include "products.h"
#include "rotate.h"

enum { GROUP = 4, ENTRIES = 16, TILE_BYTES = 16384, AHEAD_BYTES = 4096 };

/* sum + (c - q)^2, or sum + c * q. */
SQ_INLINE sq_f32x16 term(sq_f32x16 sum, sq_f32x16 c, sq_f32x16 q, int squared) {
    if (!squared) return sq_f32x16_add(sum, sq_f32x16_mul(c, q));
    const sq_f32x16 difference = sq_f32x16_sub(c, q);
    return sq_f32x16_add(sum, sq_f32x16_mul(difference, difference));
}

/* The lanes16 sums of some rows and q: their squared distances, or their products. */
SQ_INLINE void measure_four(const float *const row[ROWS], const float *q, int64_t d, int squared,
                            int64_t ahead, float found[ROWS]) {
    const int64_t whole = d & ~15;
    sq_f32x16 sums[ROWS];
    for (int r = 0; r < ROWS; r++) sums[r] = sq_f32x16_zero();
    for (int64_t i = 0; i < whole; i += 16) {
        const sq_f32x16 y = sq_f32x16_load(q + i);
        for (int r = 0; r < ROWS; r++) {
            if (ahead) sq_ahead(row[r] + i, (size_t)ahead);
            sums[r] = term(sums[r], sq_f32x16_load(row[r] + i), y, squared);
        }
    }
    if (whole < d) {
        const sq_f32x16 y = sq_f32x16_load_n(q + whole, d - whole);
        for (int r = 0; r < ROWS; r++)
            sums[r] = term(sums[r], sq_f32x16_load_n(row[r] + whole, d - whole), y, squared);
    }
    sq_f32x16_sum4(sums, found);
}

SQ_INLINE float measure_one(const float *row, const float *q, int64_t d, int squared) {
    const int64_t whole = d & ~15;
    sq_f32x16 sum = sq_f32x16_zero();
    for (int64_t i = 0; i < whole; i += 16)
        sum = term(sum, sq_f32x16_load(row + i), sq_f32x16_load(q + i), squared);
    if (whole < d)
        sum = term(sum, sq_f32x16_load_n(row + whole, d - whole),
                   sq_f32x16_load_n(q + whole, d - whole), squared);
    return sq_f32x16_sum(sum);
}

/* The same of n rows that follow one another. */
SQ_INLINE void scan(const float *rows, const float *q, int64_t n, int64_t d, int squared,
                    float *found) {
    int64_t j = 0;
    for (; j + ROWS <= n; j += ROWS) {
        const float *row[ROWS];
        for (int r = 0; r < ROWS; r++) row[r] = rows + (j + r) * d;
        measure_four(row, q, d, squared, AHEAD_BYTES, found + j);
    }
    for (; j < n; j++) found[j] = measure_one(rows + j * d, q, d, squared);
}

/* The same of the rows at n places. */
SQ_INLINE void gather(const float *rows, const float *q, const uint64_t *places, int64_t n,
                      int64_t d, int squared, float *found) {
    for (int64_t j = 0; j < n; j += ROWS) {
        const float *row[ROWS];
        float some[ROWS];
        const int64_t count = n - j < ROWS ? n - j : ROWS;
        for (int64_t r = 0; r < ROWS; r++) row[r] = rows + (int64_t)places[r < count ? j + r : j] * d;
        measure_four(row, q, d, squared, 0, some);
        memcpy(found + j, some, (size_t)count * sizeof *some);
    }
}

SQ_INLINE double magnitude(double x) { return __builtin_fabs(x); }

#if defined(SQ_USE_AVX512)
/* rint(values / step), of at most some 255 steps. A product with the inverse is less than 2^-43 off the
 * quotient, and rounds to the same number unless it lies between two. */
SQ_INLINE __m256i whole_steps(__m512d values, double step, double inverse) {
    const __m512d near = _mm512_mul_pd(values, _mm512_set1_pd(inverse));
    const __m512d off = _mm512_sub_pd(near, _mm512_roundscale_pd(near, 0));
    const __m512d most = _mm512_set1_pd(0.5 - 0x1p-30);
    if (SQ_UNLIKELY(_mm512_cmp_pd_mask(_mm512_abs_pd(off), most, _CMP_NLT_UQ)))
        return _mm512_cvtpd_epi32(_mm512_div_pd(values, _mm512_set1_pd(step)));
    return _mm512_cvtpd_epi32(near);
}
#endif

/* A group's values by entry, in steps above the least: 16 bytes. */
SQ_INLINE void group_entries(const double *q, double least, double step, double inverse,
                             uint8_t *entries) {
    static const double sign0[8] = {-1, 1, -1, 1, -1, 1, -1, 1};
    static const double sign1[8] = {-1, -1, 1, 1, -1, -1, 1, 1};
    static const double sign2[8] = {-1, -1, -1, -1, 1, 1, 1, 1};
    const sq_f64x8 first = sq_f64x8_mul(sq_f64x8_all(q[0]), sq_f64x8_load(sign0));
    const sq_f64x8 second = sq_f64x8_mul(sq_f64x8_all(q[1]), sq_f64x8_load(sign1));
    const sq_f64x8 third = sq_f64x8_mul(sq_f64x8_all(q[2]), sq_f64x8_load(sign2));
    const sq_f64x8 three = sq_f64x8_add(sq_f64x8_add(first, second), third);
    const sq_f64x8 fourth = sq_f64x8_all(q[3]), floor = sq_f64x8_all(least);
    const sq_f64x8 low = sq_f64x8_sub(sq_f64x8_sub(three, fourth), floor);
    const sq_f64x8 high = sq_f64x8_sub(sq_f64x8_add(three, fourth), floor);
#if defined(SQ_USE_AVX512)
    const __m256i low_steps = whole_steps(low, step, inverse), high_steps = whole_steps(high, step, inverse);
    const __m512i steps =
        _mm512_inserti64x4(_mm512_castsi256_si512(low_steps), high_steps, 1);
    const __m512i clipped = _mm512_max_epi32(steps, _mm512_setzero_si512());
    _mm_storeu_si128((__m128i *)entries, _mm512_cvtusepi32_epi8(clipped));
#else
    (void)inverse;
    double values[ENTRIES];
    sq_f64x8_store(values, low);
    sq_f64x8_store(values + 8, high);
    for (int i = 0; i < ENTRIES; i++) {
        const double steps = sq_rint(values[i] / step);
        entries[i] = (uint8_t)(int32_t)(steps < 0 ? 0 : steps > 255 ? 255 : steps);
    }
#endif
}

/* Writes the table of signs; `scalars` gets its step and its base. */
static void sign_table(const double *projected, int64_t dimension, uint8_t *entries,
                       double *scalars) {
    const int64_t groups = (dimension + GROUP - 1) / GROUP, whole = dimension / GROUP;
    double last[GROUP] = {0};
    if (whole < groups)
        memcpy(last, projected + GROUP * whole,
               (size_t)(dimension - GROUP * whole) * sizeof *projected);
    double most = 0.0, base = 0.0;
    for (int64_t g = 0; g < groups; g++) {
        const double *q = g < whole ? projected + GROUP * g : last;
        const double sum =
            ((magnitude(q[0]) + magnitude(q[1])) + magnitude(q[2])) + magnitude(q[3]);
        most = sum > most ? sum : most;
        base -= sum;
    }
    const double step = 2.0 * most / 255.0, inverse = 1.0 / step;
    scalars[0] = step;
    scalars[1] = base;
    if (!(step > 0.0)) {
        memset(entries, 0, (size_t)(ENTRIES * groups));
        return;
    }
    for (int64_t g = 0; g < groups; g++) {
        const double *q = g < whole ? projected + GROUP * g : last;
        const double sum =
            ((magnitude(q[0]) + magnitude(q[1])) + magnitude(q[2])) + magnitude(q[3]);
        group_entries(q, -sum, step, inverse, entries + ENTRIES * g);
    }
}

/* A query scaled to length one, each number rounded to float32. */
static void scale_to_one(double *wide, const float *query, int64_t d) {
    double square;
    products(query, wide, 1, d, &square);
    const double length = __builtin_sqrt(square);
    for (int64_t i = 0; i < d; i++) wide[i] = (double)(float)(wide[i] / length);
}

/* A query as it is rotated; `scalars` gets its offset. */
static void center(const sq_table *table, const float *mean, const float *query, int64_t d,
                   int unit, double *wide, double *scalars) {
    scalars[0] = 0.0;
    for (int64_t i = 0; i < d; i++) wide[i] = (double)query[i];
    if (unit) scale_to_one(wide, query, d);
    if (table->space == SQ_SPACE_L2)
        for (int64_t i = 0; i < d; i++) wide[i] -= (double)mean[i];
    else products(mean, wide, 1, d, scalars);
}

/* The table of signs of what was rotated, and what distances to centers are measured from, float32 [D]. */
static void finish(const double *projected, int64_t dimension, uint8_t *entries, double *scalars,
                   float *narrow) {
    sign_table(projected, dimension, entries, scalars + 1);
    for (int64_t j = 0; j < dimension; j++) narrow[j] = (float)projected[j];
}

/* All but the distances to the centers. */
static void turn(const sq_table *table, const sq_rotation *by, const float *query, int64_t d, int unit,
                 double *projected, uint8_t *entries, double *scalars, double *wide, float *narrow) {
    center(table, by->mean, query, d, unit, wide, scalars);
    if (by->flips) rotate(by->flips, d, wide, projected);
    else products(by->axes, wide, table->dimension, d, projected);
    finish(projected, table->dimension, entries, scalars, narrow);
}

/* The distances to `count` centers from `first` on. */
static void measure_centers(const sq_table *table, const float *narrow, double offset,
                            int64_t first, int64_t count, float *distances) {
    const int64_t dimension = table->dimension;
    const float *centers = table->centers + first * dimension;
    float *found = distances + first;
    if (table->space == SQ_SPACE_L2) {
        scan(centers, narrow, count, dimension, 1, found);
        if (table->spreads)
            for (int64_t j = 0; j < count; j++) found[j] += table->spreads[first + j];
        return;
    }
    scan(centers, narrow, count, dimension, 0, found);
    const float shift = (float)offset;
    for (int64_t j = 0; j < count; j++) found[j] = -(found[j] + shift);
}

/* ---- centers in bytes ----
 *
 * Bounds from which a walk sees which centers it need not measure. A center c is about `scale` times
 * whole numbers k, a query q about `step` times m, and what both miss is known:
 *
 *     c * q = scale * step * (k * m) + rest,  |rest| <= |q - step * m| * |scale * k| + |q| * |c - scale * k|
 *
 * So many centers share a register, GROUP dimensions each: of sixteen centers
 *
 *     | k + 128, uint8 [D / 4, 16, 4] | |c|^2 f32[16] | scale f32[16] | |scale * k| f32[16] | miss f32[16] |
 */

enum { LEVEL_MAX = 127, BIAS = 128, TOGETHER = 16, ABOUT = 4 };

typedef struct coarse_query {
    float step, miss, norm, square;
    float shift; /* the offset, in space dot */
    float slack;
    int32_t bias;
    int32_t good; /* 0: bounds of this query could be wrong */
    int8_t levels[];
} coarse_query;

_Static_assert(sizeof(coarse_query) == SQ_COARSE_QUERY_BYTES, "room of a query in bytes");

static const float LARGE = 0x1p100f; /* no square of a length is beyond it, no length's beyond 2^50 */

SQ_INLINE int64_t coarse_quads(int64_t dimension) { return (dimension + GROUP - 1) / GROUP; }
SQ_INLINE int64_t coarse_bytes(int64_t dimension) {
    return TOGETHER * (GROUP * coarse_quads(dimension) + ABOUT * (int64_t)sizeof(float));
}

SQ_INLINE sq_f64x8 widen8(const float *x, int64_t n) {
    return n >= 8 ? sq_f64x8_widen(x) : sq_f64x8_widen_n(x, n);
}

SQ_INLINE sq_f32x16 load16(const float *x, int64_t n) {
    return n >= 16 ? sq_f32x16_load(x) : sq_f32x16_load_n(x, n);
}

/* The largest magnitude of float32 [d], 0 if it is too large; NaN are not seen. */
static float largest(const float *x, int64_t d) {
    sq_f32x16 most = sq_f32x16_zero();
    for (int64_t i = 0; i < d; i += 16) most = sq_f32x16_larger(most, load16(x + i, d - i));
    const float found = sq_f32x16_most(most);
    return found <= LARGE ? found : 0;
}

/* Rounds x to levels, each a whole number of steps, and returns their sum; the squares of what it is,
 * of what is left of it and of what it misses are added up. */
static int32_t to_levels(const float *x, int64_t d, float most, float *step, int8_t *levels,
                         double squares[3]) {
    const float inverse = most > 0 ? (float)LEVEL_MAX / most : 0;
    *step = most / (float)LEVEL_MAX;
    const sq_f64x8 size = sq_f64x8_all((double)*step);
    sq_f64x8 whole = sq_f64x8_zero(), left = whole, missed = whole;
    sq_i32x16 totals = {0};
    for (int64_t i = 0; i < d; i += 16) {
        int8_t some[16];
        sq_f32x16_levels(load16(x + i, d - i), inverse, some, &totals);
        memcpy(levels + i, some, (size_t)(d - i < 16 ? d - i : 16));
    }
    for (int64_t i = 0; i < d; i += 8) {
        const sq_f64x8 value = widen8(x + i, d - i);
        const sq_f64x8 about = sq_f64x8_mul(size, sq_f64x8_rounded(value, inverse));
        const sq_f64x8 miss = sq_f64x8_sub(value, about);
        whole = sq_f64x8_add(whole, sq_f64x8_mul(value, value));
        left = sq_f64x8_add(left, sq_f64x8_mul(about, about));
        missed = sq_f64x8_add(missed, sq_f64x8_mul(miss, miss));
    }
    squares[0] = sq_f64x8_sum(whole);
    squares[1] = sq_f64x8_sum(left);
    squares[2] = sq_f64x8_sum(missed);
    return sq_i32x16_sum(totals);
}

/* A length as float32, not below what it is. */
SQ_INLINE float length_above(double square) {
    return (float)(__builtin_sqrt(square) * (1 + 0x1p-20) + 0x1p-120);
}

int64_t SQ_NAME(coarsen)(const sq_table *table, uint8_t *coarse, int8_t *levels) {
    const int64_t d = table->dimension, c = table->clusters, quads = coarse_quads(d);
    const int64_t bytes = coarse_bytes(d);
    for (int64_t first = 0; first < c; first += TOGETHER) {
        uint8_t *codes = coarse + first / TOGETHER * bytes;
        float about[ABOUT][TOGETHER] = {{0}};
        memset(codes, BIAS, (size_t)(quads * TOGETHER * GROUP));
        for (int64_t j = 0; j < TOGETHER && first + j < c; j++) {
            const float *center = table->centers + (first + j) * d;
            double squares[3];
            to_levels(center, d, largest(center, d), &about[1][j], levels, squares);
            /* Not so of NaN, and of lengths whose squares are no float32 or lose their bits. */
            if (!(squares[0] <= (double)LARGE) || (about[1][j] < 0x1p-50f && squares[0] > 0)) return 0;
            about[0][j] = (float)squares[0];
            about[2][j] = length_above(squares[1]);
            about[3][j] = length_above(squares[2]);
            for (int64_t i = 0; i < d; i++)
                codes[(i / GROUP * TOGETHER + j) * GROUP + i % GROUP] = (uint8_t)(levels[i] + BIAS);
        }
        memcpy(codes + quads * TOGETHER * GROUP, about, sizeof about);
    }
    return 1;
}

static void coarsen_query(const sq_table *table, const float *narrow, double offset,
                          coarse_query *made) {
    const int64_t d = table->dimension, padded = GROUP * coarse_quads(d);
    double squares[3];
    const float most = largest(narrow, d);
    made->bias = BIAS * to_levels(narrow, d, most, &made->step, made->levels, squares);
    memset(made->levels + d, 0, (size_t)(padded - d));
    made->good = squares[0] <= (double)LARGE && __builtin_fabs(offset) <= (double)LARGE &&
                 (made->step >= 0x1p-50f || squares[0] == 0);
    made->square = (float)squares[0];
    made->norm = length_above(squares[0]);
    made->miss = length_above(squares[2]);
    made->shift = (float)offset;
    /* Sums of float32, those here and those that are bounded, lose so much of the lengths' squares. */
    made->slack = (float)(d / 16 + 64) * 0x1p-23f;
}

/* A distance to a center, from below. */
SQ_INLINE float bound_of(const coarse_query *q, float dot, float square, float scale, float left,
                         float missed, int l2) {
    const float product = q->step * scale * dot, rest = q->miss * left + q->norm * missed;
    if (l2) {
        const float squares = q->square + square;
        return (squares - 2 * product) - (2 * rest + (squares * q->slack + 0x1p-90f));
    }
    const float size = q->norm * (left + missed) + __builtin_fabsf(q->shift);
    return -(product + q->shift) - (rest + (size * q->slack + 0x1p-90f));
}

/* The products k * m of sixteen centers. */
SQ_INLINE void coarse_dots(const uint8_t *codes, const coarse_query *q, int64_t quads,
                           int32_t dots[TOGETHER]) {
    const int8_t *levels = q->levels;
#if defined(SQ_USE_AVX512)
    __m512i sums[4] = {_mm512_set1_epi32(-q->bias), _mm512_setzero_si512(),
                       _mm512_setzero_si512(), _mm512_setzero_si512()};
    int64_t i = 0;
    for (; i + 4 <= quads; i += 4)
        for (int j = 0; j < 4; j++) {
            sq_ahead(codes + 64 * (i + j), AHEAD_BYTES);
            sums[j] = _mm512_dpbusd_epi32(sums[j], _mm512_loadu_si512(codes + 64 * (i + j)),
                                          _mm512_set1_epi32((int)sq_load_u32(levels + 4 * (i + j))));
        }
    for (; i < quads; i++)
        sums[0] = _mm512_dpbusd_epi32(sums[0], _mm512_loadu_si512(codes + 64 * i),
                                      _mm512_set1_epi32((int)sq_load_u32(levels + 4 * i)));
    _mm512_storeu_si512(dots, _mm512_add_epi32(_mm512_add_epi32(sums[0], sums[1]),
                                               _mm512_add_epi32(sums[2], sums[3])));
#elif defined(SQ_USE_AVX2)
    const __m256i bias = _mm256_set1_epi8((char)BIAS), ones = _mm256_set1_epi16(1);
    __m256i sums[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
    for (int64_t i = 0; i < quads; i++) {
        const __m256i m = _mm256_set1_epi32((int)sq_load_u32(levels + 4 * i));
        sq_ahead(codes + 64 * i, AHEAD_BYTES);
        for (int j = 0; j < 2; j++) {
            const __m256i k = _mm256_xor_si256(
                _mm256_loadu_si256((const __m256i *)(codes + 64 * i + 32 * j)), bias);
            /* At most 2 * 127 * 127 in 16 bits. */
            const __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(k), _mm256_sign_epi8(m, k));
            sums[j] = _mm256_add_epi32(sums[j], _mm256_madd_epi16(pairs, ones));
        }
    }
    for (int j = 0; j < 2; j++) _mm256_storeu_si256((__m256i *)(dots + 8 * j), sums[j]);
#elif defined(SQ_USE_NEON)
    const uint8x16_t bias = vdupq_n_u8(BIAS);
    int32x4_t sums[4] = {vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0)};
    for (int64_t i = 0; i < quads; i++) {
        const int8x16_t m = vreinterpretq_s8_u32(vdupq_n_u32(sq_load_u32(levels + 4 * i)));
        for (int j = 0; j < 4; j++) {
            const int8x16_t k =
                vreinterpretq_s8_u8(veorq_u8(vld1q_u8(codes + 64 * i + 16 * j), bias));
#if defined(SQ_USE_DOT)
            sums[j] = vdotq_s32(sums[j], k, m);
#else
            const int32x4_t low = vpaddlq_s16(vmull_s8(vget_low_s8(k), vget_low_s8(m)));
            sums[j] = vaddq_s32(sums[j], vpaddq_s32(low, vpaddlq_s16(vmull_high_s8(k, m))));
#endif
        }
    }
    for (int j = 0; j < 4; j++) vst1q_s32(dots + 4 * j, sums[j]);
#else
    for (int j = 0; j < TOGETHER; j++) dots[j] = -q->bias;
    for (int64_t i = 0; i < quads; i++)
        for (int j = 0; j < TOGETHER; j++)
            for (int l = 0; l < GROUP; l++)
                dots[j] += codes[64 * i + GROUP * j + l] * levels[GROUP * i + l];
#endif
}

SQ_INLINE void bound_group(const uint8_t *codes, const coarse_query *q, int64_t quads, int l2,
                           int64_t count, float *bounds) {
    int32_t dots[TOGETHER];
    float about[ABOUT][TOGETHER], found[TOGETHER];
    coarse_dots(codes, q, quads, dots);
    memcpy(about, codes + quads * TOGETHER * GROUP, sizeof about);
    for (int j = 0; j < TOGETHER; j++)
        found[j] = bound_of(q, (float)dots[j], about[0][j], about[1][j], about[2][j], about[3][j], l2);
    if (count == TOGETHER) memcpy(bounds, found, sizeof found);
    else memcpy(bounds, found, (size_t)count * sizeof *found);
}

/* Bounds of the distances to `count` centers from `first` on, a multiple of TOGETHER. */
static void bound_centers(const sq_table *table, const coarse_query *q, int64_t first,
                          int64_t count, float *bounds) {
    const int64_t quads = coarse_quads(table->dimension), bytes = coarse_bytes(table->dimension);
    const uint8_t *codes = table->coarse + first / TOGETHER * bytes;
    const int l2 = table->space == SQ_SPACE_L2;
    for (int64_t i = 0; i < count; i += TOGETHER, codes += bytes) {
        const int64_t some = count - i < TOGETHER ? count - i : TOGETHER;
        if (l2) bound_group(codes, q, quads, 1, some, bounds + first + i);
        else bound_group(codes, q, quads, 0, some, bounds + first + i);
    }
    /* Rounding keeps order: what bounds a distance still does when the same is added to both. */
    if (l2 && table->spreads)
        for (int64_t i = first; i < first + count; i++) bounds[i] += table->spreads[i];
}

void SQ_NAME(center_distances)(const sq_table *table, const sq_lazily *by, const uint64_t *places,
                               int64_t n, float *found) {
    const int64_t d = table->dimension;
    if (table->space == SQ_SPACE_L2) {
        gather(table->centers, by->narrow, places, n, d, 1, found);
        if (table->spreads)
            for (int64_t i = 0; i < n; i++) found[i] += table->spreads[places[i]];
        return;
    }
    gather(table->centers, by->narrow, places, n, d, 0, found);
    const float shift = (float)by->offset;
    for (int64_t i = 0; i < n; i++) found[i] = -(found[i] + shift);
}

/* By a matrix two queries at a time, if there is room for two. */
static void rotate_many(const sq_table *table, const sq_rotation *by, const sq_batch *batch, int64_t d,
                        int unit, double *scratch) {
    const int64_t dimension = table->dimension, together = !by->flips && dimension >= d ? 2 : 1;
    for (int64_t q = 0; q < batch->count; q += together) {
        const int two = q + 1 < batch->count && together == 2;
        double *projected = batch->projected + q * dimension;
        for (int64_t i = q; i < q + 1 + two; i++)
            center(table, by->mean, batch->queries + i * d, d, unit, scratch + (i - q) * d,
                   batch->scalars + 3 * i);
        if (by->flips) rotate(by->flips, d, scratch, projected);
        else if (two) products_of_two(by->axes, scratch, dimension, d, projected);
        else products(by->axes, scratch, dimension, d, projected);
    }
}

/* Every query comes by some centers while these are in the first-level cache. */
void SQ_NAME(prepare_many)(const sq_table *table, const sq_rotation *by, const sq_batch *batch,
                           int64_t vector_dimension, int unit, double *scratch) {
    const int64_t dimension = table->dimension, c = table->clusters;
    const int64_t entries = (dimension + GROUP - 1) / GROUP * ENTRIES;
    const int64_t room = SQ_COARSE_QUERY_BYTES + (int64_t)GROUP * coarse_quads(dimension);
    rotate_many(table, by, batch, vector_dimension, unit, scratch);
    for (int64_t q = 0; q < batch->count; q++) {
        float *narrow = batch->narrow + q * dimension;
        coarse_query *coarse = (coarse_query *)(batch->coarse + q * room);
        finish(batch->projected + q * dimension, dimension, batch->entries + q * entries,
               batch->scalars + 3 * q, narrow);
        coarse->good = 0;
        if (table->coarse) coarsen_query(table, narrow, batch->scalars[3 * q], coarse);
        batch->lazily[q].narrow = coarse->good ? narrow : NULL;
        batch->lazily[q].offset = batch->scalars[3 * q];
    }
    const int64_t bytes = table->coarse ? coarse_bytes(dimension) / TOGETHER : 4 * dimension;
    int64_t tile = TILE_BYTES / bytes & ~(TOGETHER - 1);
    if (tile < TOGETHER) tile = TOGETHER;
    for (int64_t first = 0; first < c; first += tile)
        for (int64_t q = 0; q < batch->count; q++) {
            const coarse_query *coarse = (const coarse_query *)(batch->coarse + q * room);
            const int64_t count = c - first < tile ? c - first : tile;
            float *distances = batch->distances + q * c;
            if (coarse->good) bound_centers(table, coarse, first, count, distances);
            else
                measure_centers(table, batch->narrow + q * dimension, batch->scalars[3 * q], first,
                                count, distances);
        }
}

void SQ_NAME(prepare)(const sq_table *table, const sq_rotation *by, const float *query,
                      int64_t vector_dimension, int64_t unit, double *projected, uint8_t *entries,
                      float *distances, double *scalars, double *scratch) {
    float *narrow = (float *)(scratch + vector_dimension);
    turn(table, by, query, vector_dimension, unit != 0, projected, entries, scalars, scratch,
         narrow);
    measure_centers(table, narrow, scalars[0], 0, table->clusters, distances);
}

sq_lazily SQ_NAME(prepare_lazily)(const sq_table *table, const sq_search *asked) {
    const int64_t d = asked->vector_dimension;
    float *narrow = (float *)(asked->scratch + d);
    coarse_query *coarse = asked->coarse;
    turn(table, asked->rotation, asked->query, d, asked->metric == SQ_COSINE, asked->projected,
         asked->entries, asked->scalars, asked->scratch, narrow);
    const double offset = asked->scalars[0];
    sq_lazily by = {NULL, offset};
    if (table->coarse) coarsen_query(table, narrow, offset, coarse);
    if (table->coarse && coarse->good) {
        by.narrow = narrow;
        bound_centers(table, coarse, 0, table->clusters, asked->distances);
    } else {
        measure_centers(table, narrow, offset, 0, table->clusters, asked->distances);
    }
    return by;
}
