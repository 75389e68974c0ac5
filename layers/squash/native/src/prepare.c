/* Rotate a query, make its table of signs, and measure its distances to all centers. */
#include "variant.h"

enum { ROWS = 4, GROUP = 4, ENTRIES = 16, TILE_BYTES = 16384 };

/* `found[j]` is the product of row j with x, float64 [d], in lanes8. */
static void products(const float *rows, const double *x, int64_t n, int64_t d, double *found) {
    const int64_t whole = d & ~7;
    int64_t j = 0;
    for (; j + ROWS <= n; j += ROWS) {
        const float *row[ROWS];
        sq_f64x8 sums[ROWS];
        for (int r = 0; r < ROWS; r++) {
            row[r] = rows + (j + r) * d;
            sums[r] = sq_f64x8_zero();
        }
        for (int64_t i = 0; i < whole; i += 8) {
            const sq_f64x8 y = sq_f64x8_load(x + i);
            for (int r = 0; r < ROWS; r++)
                sums[r] = sq_f64x8_add(sums[r], sq_f64x8_mul(sq_f64x8_widen(row[r] + i), y));
        }
        if (whole < d) {
            const sq_f64x8 y = sq_f64x8_load_n(x + whole, d - whole);
            for (int r = 0; r < ROWS; r++)
                sums[r] = sq_f64x8_add(
                    sums[r], sq_f64x8_mul(sq_f64x8_widen_n(row[r] + whole, d - whole), y));
        }
        for (int r = 0; r < ROWS; r++) found[j + r] = sq_f64x8_sum(sums[r]);
    }
    for (; j < n; j++) {
        const float *row = rows + j * d;
        sq_f64x8 sum = sq_f64x8_zero();
        for (int64_t i = 0; i < whole; i += 8)
            sum = sq_f64x8_add(sum, sq_f64x8_mul(sq_f64x8_widen(row + i), sq_f64x8_load(x + i)));
        if (whole < d)
            sum = sq_f64x8_add(sum, sq_f64x8_mul(sq_f64x8_widen_n(row + whole, d - whole),
                                                 sq_f64x8_load_n(x + whole, d - whole)));
        found[j] = sq_f64x8_sum(sum);
    }
}

/* sum + (c - q)^2, or sum + c * q. */
SQ_INLINE sq_f32x16 term(sq_f32x16 sum, sq_f32x16 c, sq_f32x16 q, int squared) {
    if (!squared) return sq_f32x16_add(sum, sq_f32x16_mul(c, q));
    const sq_f32x16 difference = sq_f32x16_sub(c, q);
    return sq_f32x16_add(sum, sq_f32x16_mul(difference, difference));
}

/* `found[j]` is the lanes16 sum of row j and q: its squared distance, or its product. */
SQ_INLINE void scan(const float *rows, const float *q, int64_t n, int64_t d, int squared,
                    float *found) {
    const int64_t whole = d & ~15;
    int64_t j = 0;
    for (; j + ROWS <= n; j += ROWS) {
        const float *row[ROWS];
        sq_f32x16 sums[ROWS];
        for (int r = 0; r < ROWS; r++) {
            row[r] = rows + (j + r) * d;
            sums[r] = sq_f32x16_zero();
        }
        for (int64_t i = 0; i < whole; i += 16) {
            const sq_f32x16 y = sq_f32x16_load(q + i);
            for (int r = 0; r < ROWS; r++) {
                sq_ahead(row[r] + i, 4096);
                sums[r] = term(sums[r], sq_f32x16_load(row[r] + i), y, squared);
            }
        }
        if (whole < d) {
            const sq_f32x16 y = sq_f32x16_load_n(q + whole, d - whole);
            for (int r = 0; r < ROWS; r++)
                sums[r] = term(sums[r], sq_f32x16_load_n(row[r] + whole, d - whole), y, squared);
        }
        sq_f32x16_sum4(sums, found + j);
    }
    for (; j < n; j++) {
        const float *row = rows + j * d;
        sq_f32x16 sum = sq_f32x16_zero();
        for (int64_t i = 0; i < whole; i += 16)
            sum = term(sum, sq_f32x16_load(row + i), sq_f32x16_load(q + i), squared);
        if (whole < d)
            sum = term(sum, sq_f32x16_load_n(row + whole, d - whole),
                       sq_f32x16_load_n(q + whole, d - whole), squared);
        found[j] = sq_f32x16_sum(sum);
    }
}

SQ_INLINE double magnitude(double x) { return __builtin_fabs(x); }

/* A group's values by entry, in steps above the least: 16 bytes. */
SQ_INLINE void group_entries(const double *q, double least, double step, uint8_t *entries) {
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
    const __m512d by = _mm512_set1_pd(step);
    const __m256i low_steps = _mm512_cvtpd_epi32(_mm512_div_pd(low, by));
    const __m256i high_steps = _mm512_cvtpd_epi32(_mm512_div_pd(high, by));
    const __m512i steps =
        _mm512_inserti64x4(_mm512_castsi256_si512(low_steps), high_steps, 1);
    const __m512i clipped = _mm512_max_epi32(steps, _mm512_setzero_si512());
    _mm_storeu_si128((__m128i *)entries, _mm512_cvtusepi32_epi8(clipped));
#else
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
    const double step = 2.0 * most / 255.0;
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
        group_entries(q, -sum, step, entries + ENTRIES * g);
    }
}

/* All but the distances to the centers; `narrow` is what these are measured from, float32 [D]. */
static void turn(const sq_table *table, const float *axes, const float *mean, const float *query,
                 int64_t d, double *projected, uint8_t *entries, double *scalars, double *wide,
                 float *narrow) {
    const int64_t dimension = table->dimension;
    const int squared = table->space == SQ_SPACE_L2;
    scalars[0] = 0.0;
    for (int64_t i = 0; i < d; i++)
        wide[i] = squared ? (double)query[i] - (double)mean[i] : (double)query[i];
    if (!squared) products(mean, wide, 1, d, scalars);
    products(axes, wide, dimension, d, projected);
    sign_table(projected, dimension, entries, scalars + 1);
    for (int64_t j = 0; j < dimension; j++) narrow[j] = (float)projected[j];
}

/* The distances to `count` centers from `first` on. */
static void measure_centers(const sq_table *table, const float *narrow, double offset,
                            int64_t first, int64_t count, float *distances) {
    const int64_t dimension = table->dimension;
    const float *centers = table->centers + first * dimension;
    float *found = distances + first;
    if (table->space == SQ_SPACE_L2) {
        scan(centers, narrow, count, dimension, 1, found);
        return;
    }
    scan(centers, narrow, count, dimension, 0, found);
    const float shift = (float)offset;
    for (int64_t j = 0; j < count; j++) found[j] = -(found[j] + shift);
}

/* Every query comes by some centers while these are in the first-level cache. */
void SQ_NAME(prepare_many)(const sq_table *table, const float *axes, const float *mean,
                           const sq_batch *batch, int64_t vector_dimension, double *scratch) {
    const int64_t dimension = table->dimension, c = table->clusters;
    const int64_t entries = (dimension + GROUP - 1) / GROUP * ENTRIES;
    for (int64_t q = 0; q < batch->count; q++)
        turn(table, axes, mean, batch->vectors + q * vector_dimension, vector_dimension,
             batch->projected + q * dimension, batch->entries + q * entries,
             batch->scalars + 3 * q, scratch, batch->narrow + q * dimension);
    int64_t tile = TILE_BYTES / (4 * dimension) & ~(ROWS - 1);
    if (tile < ROWS) tile = ROWS;
    for (int64_t first = 0; first < c; first += tile)
        for (int64_t q = 0; q < batch->count; q++)
            measure_centers(table, batch->narrow + q * dimension, batch->scalars[3 * q], first,
                            c - first < tile ? c - first : tile, batch->distances + q * c);
}

void SQ_NAME(prepare)(const sq_table *table, const float *axes, const float *mean,
                      const float *query, int64_t vector_dimension, double *projected,
                      uint8_t *entries, float *distances, double *scalars, double *scratch) {
    float *narrow = (float *)(scratch + vector_dimension);
    turn(table, axes, mean, query, vector_dimension, projected, entries, scalars, scratch, narrow);
    measure_centers(table, narrow, scalars[0], 0, table->clusters, distances);
}
