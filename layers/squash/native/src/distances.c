/* Exact distances of rows in float64, and the refinement of ranked rows. */
#include "keys.h"

/* So much of the rows that are gathered is asked for at once: it stays in a second-level cache. */
enum { AHEAD_ROWS = 16, LINE_BYTES = 64, ASKED_BYTES = 1 << 19, FEW_NEAR = 4 };

typedef struct measure {
    int64_t metric;
    int64_t dimension;
    const float *query;
    double query_square; /* lanes8(q * q), for cosines */
} measure;

SQ_INLINE double dot_f32(const float *x, const float *y, int64_t d) {
    sq_f64x8 sum = sq_f64x8_zero();
    int64_t i = 0;
    for (; i + 8 <= d; i += 8)
        sum = sq_f64x8_add(sum, sq_f64x8_mul(sq_f64x8_widen(x + i), sq_f64x8_widen(y + i)));
    if (i < d)
        sum = sq_f64x8_add(
            sum, sq_f64x8_mul(sq_f64x8_widen_n(x + i, d - i), sq_f64x8_widen_n(y + i, d - i)));
    return sq_f64x8_sum(sum);
}

static measure measure_of(int64_t metric, const float *query, int64_t dimension) {
    const measure made = {metric, dimension, query,
                          metric == SQ_COSINE ? dot_f32(query, query, dimension) : 0};
    return made;
}

SQ_INLINE sq_f64x8 widen(const void *at, int64_t i, int half) {
    return half ? sq_f64x8_widen_half((const uint16_t *)at + i)
                : sq_f64x8_widen((const float *)at + i);
}

SQ_INLINE sq_f64x8 widen_n(const void *at, int64_t i, int64_t n, int half) {
    return half ? sq_f64x8_widen_half_n((const uint16_t *)at + i, n)
                : sq_f64x8_widen_n((const float *)at + i, n);
}

SQ_INLINE void add_up(int64_t metric, sq_f64x8 x, sq_f64x8 q, sq_f64x8 *sum, sq_f64x8 *square) {
    if (metric == SQ_EUCLIDEAN) {
        const sq_f64x8 away = sq_f64x8_sub(x, q);
        *sum = sq_f64x8_add(*sum, sq_f64x8_mul(away, away));
        return;
    }
    *sum = sq_f64x8_add(*sum, sq_f64x8_mul(x, q));
    if (metric == SQ_COSINE) *square = sq_f64x8_add(*square, sq_f64x8_mul(x, x));
}

/* `metric` and `half` are constants where this is called. */
SQ_INLINE double distance_as(const measure *by, int64_t metric, int half, const void *row) {
    sq_f64x8 sum = sq_f64x8_zero(), square = sq_f64x8_zero();
    const int64_t d = by->dimension;
    int64_t i = 0;
    for (; i + 8 <= d; i += 8)
        add_up(metric, widen(row, i, half), sq_f64x8_widen(by->query + i), &sum, &square);
    if (i < d)
        add_up(metric, widen_n(row, i, d - i, half), sq_f64x8_widen_n(by->query + i, d - i), &sum,
               &square);
    if (metric == SQ_EUCLIDEAN) return __builtin_sqrt(sq_f64x8_sum(sum));
    if (metric == SQ_DOT) return -sq_f64x8_sum(sum);
    return 1.0 - sq_f64x8_sum(sum) / __builtin_sqrt(sq_f64x8_sum(square) * by->query_square);
}

static double distance_f32(const measure *by, const void *row) {
    if (by->metric == SQ_EUCLIDEAN) return distance_as(by, SQ_EUCLIDEAN, 0, row);
    if (by->metric == SQ_DOT) return distance_as(by, SQ_DOT, 0, row);
    return distance_as(by, SQ_COSINE, 0, row);
}

static double distance_f16(const measure *by, const void *row) {
    if (by->metric == SQ_EUCLIDEAN) return distance_as(by, SQ_EUCLIDEAN, 1, row);
    if (by->metric == SQ_DOT) return distance_as(by, SQ_DOT, 1, row);
    return distance_as(by, SQ_COSINE, 1, row);
}

/* Into the second-level cache: it can have more lines on their way than the first. */
SQ_INLINE void prefetch_row(const uint8_t *row, int64_t bytes) {
    for (int64_t i = 0; i < bytes; i += LINE_BYTES) __builtin_prefetch(row + i, 0, 2);
}

void SQ_NAME(exact_distances)(int64_t metric, const float *query, int64_t dimension,
                              const void *vectors, int64_t half, const int64_t *rows, int64_t n,
                              double *distances) {
    const measure by = measure_of(metric, query, dimension);
    const int64_t bytes = dimension * (half ? 2 : 4);
    const uint8_t *first = vectors;
    for (int64_t i = 0; i < AHEAD_ROWS && i < n; i++)
        prefetch_row(first + (rows ? rows[i] : i) * bytes, bytes);
    for (int64_t i = 0; i < n; i++) {
        if (i + AHEAD_ROWS < n)
            prefetch_row(first + (rows ? rows[i + AHEAD_ROWS] : i + AHEAD_ROWS) * bytes, bytes);
        const uint8_t *row = first + (rows ? rows[i] : i) * bytes;
        distances[i] = half ? distance_f16(&by, row) : distance_f32(&by, row);
    }
}

SQ_INLINE void prefetch_of(const sq_table *table, int64_t partition, int64_t row, int64_t d) {
    prefetch_row((const uint8_t *)(table->vectors[partition] + row * d), 4 * d);
}

/* Partitions that are not loaded are refused before anything is read. */
static int64_t missing(const sq_table *table, const int64_t *partition, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        if (SQ_UNLIKELY(!table->vectors[partition[i]])) return partition[i];
    return -1;
}

int64_t SQ_NAME(row_distances)(const sq_table *table, int64_t metric, const float *query,
                               const int64_t *partition, const int64_t *row, int64_t n,
                               double *distances) {
    const int64_t absent = missing(table, partition, n);
    if (absent >= 0) return absent;
    const measure by = measure_of(metric, query, table->vector_dimension);
    const int64_t d = by.dimension;
    /* Mostly these are all. */
    for (int64_t i = 0; i < AHEAD_ROWS && i < n; i++) prefetch_of(table, partition[i], row[i], d);
    for (int64_t i = 0; i < n; i++) {
        const int64_t next = i + AHEAD_ROWS;
        if (next < n) prefetch_of(table, partition[next], row[next], d);
        distances[i] = distance_f32(&by, table->vectors[partition[i]] + row[i] * d);
    }
    return -1;
}

/* The k-th smallest, 1 <= k <= n. */
static double kth(const double *values, int64_t n, int64_t k, uint64_t *heap) {
    for (int64_t i = 0; i < k; i++) heap[i] = sq_key_f64(values[i]);
    for (int64_t i = k / 2 - 1; i >= 0; i--) sq_sift_u64(heap, k, i, heap[i]);
    for (int64_t i = k; i < n; i++) {
        const uint64_t key = sq_key_f64(values[i]);
        if (key < heap[0]) sq_sift_u64(heap, k, 0, key);
    }
    return sq_f64_of_key(heap[0]);
}

/* ---- the nearest of many rows ----
 *
 * In float32, sixteen lanes at a time, a row takes a third of the time. What that may be off by is
 * known, and it leaves few rows that may be among the nearest. */

/* Beyond these, squares lose bits that no share of them makes up for. */
static const float SMALL = 0x1p-80f, LARGE = 0x1p120f;

/* Sums of (x - q)^2; or of x * q and of x^2. */
SQ_INLINE void narrow_sums(const float *x, const float *q, int64_t d, int squared, float sums[2]) {
    sq_f32x16 first = sq_f32x16_zero(), second = sq_f32x16_zero();
    for (int64_t i = 0; i < d; i += 16) {
        const int whole = d - i >= 16;
        const sq_f32x16 a = whole ? sq_f32x16_load(x + i) : sq_f32x16_load_n(x + i, d - i);
        const sq_f32x16 b = whole ? sq_f32x16_load(q + i) : sq_f32x16_load_n(q + i, d - i);
        if (squared) {
            const sq_f32x16 away = sq_f32x16_sub(a, b);
            first = sq_f32x16_add(first, sq_f32x16_mul(away, away));
        } else {
            first = sq_f32x16_add(first, sq_f32x16_mul(a, b));
            second = sq_f32x16_add(second, sq_f32x16_mul(a, a));
        }
    }
    sums[0] = sq_f32x16_sum(first);
    sums[1] = squared ? 0 : sq_f32x16_sum(second);
}

/* Between what a row's distance lies, or its square. `slack` is the share that sums may be off by,
 * twice over; `root` is the query's length. */
SQ_INLINE void narrow_bounds(int64_t metric, const float sums[2], float root, float slack,
                             float *lower, float *upper) {
    float value = sums[0], off = value * slack;
    int good = 1;
    if (metric == SQ_DOT) {
        value = -sums[0];
        off = __builtin_sqrtf(sums[1]) * root * slack;
        good = sums[1] > SMALL && sums[1] < LARGE;
    } else if (metric == SQ_COSINE) {
        value = -sums[0] / (__builtin_sqrtf(sums[1]) * root);
        off = 4 * slack;
        good = sums[1] > SMALL && sums[1] < LARGE;
    }
    *lower = good ? value - off : -__builtin_inff();
    *upper = good ? value + off : __builtin_inff();
}

SQ_INLINE void bound_narrow(const sq_table *table, const measure *by, int64_t metric, float root,
                            const int64_t *partition, const int64_t *row, int64_t n, float *lower,
                            float *upper) {
    const int64_t d = by->dimension;
    const float slack = (float)(d / 16 + 16) * 0x1p-22f;
    for (int64_t i = 0; i < n; i++) {
        const int64_t next = i + AHEAD_ROWS;
        if (next < n) prefetch_of(table, partition[next], row[next], d);
        float sums[2];
        narrow_sums(table->vectors[partition[i]] + row[i] * d, by->query, d, metric == SQ_EUCLIDEAN,
                    sums);
        narrow_bounds(metric, sums, root, slack, lower + i, upper + i);
    }
}

/* The k-th smallest, 1 <= k <= n. */
static float kth_f32(const float *values, int64_t n, int64_t k, uint64_t *heap) {
    for (int64_t i = 0; i < k; i++) heap[i] = (uint64_t)sq_key_f32(values[i]) << 32;
    for (int64_t i = k / 2 - 1; i >= 0; i--) sq_sift_u64(heap, k, i, heap[i]);
    for (int64_t i = k; i < n; i++) {
        const uint64_t key = (uint64_t)sq_key_f32(values[i]) << 32;
        if (SQ_UNLIKELY(key < heap[0])) sq_sift_u64(heap, k, 0, key);
    }
    return sq_f32_of_key((uint32_t)(heap[0] >> 32));
}

int64_t SQ_NAME(near_distances)(const sq_table *table, int64_t metric, const float *query,
                                const int64_t *partition, const int64_t *row, int64_t n, int64_t k,
                                float *lower, float *upper, double *distances, uint64_t *heap) {
    const int64_t d = table->vector_dimension;
    float sums[2];
    narrow_sums(query, query, d, 0, sums);
    const float square = sums[0], root = __builtin_sqrtf(square);
    const int good = metric == SQ_EUCLIDEAN || (square > SMALL && square < LARGE);
    if (n < FEW_NEAR * k || !good)
        return SQ_NAME(row_distances)(table, metric, query, partition, row, n, distances);
    const int64_t absent = missing(table, partition, n);
    if (absent >= 0) return absent;
    const measure by = measure_of(metric, query, d);
    if (metric == SQ_EUCLIDEAN)
        bound_narrow(table, &by, SQ_EUCLIDEAN, root, partition, row, n, lower, upper);
    else if (metric == SQ_DOT)
        bound_narrow(table, &by, SQ_DOT, root, partition, row, n, lower, upper);
    else bound_narrow(table, &by, SQ_COSINE, root, partition, row, n, lower, upper);
    const float limit = kth_f32(upper, n, k, heap);
    /* Of squares so small or large nothing is known. */
    const int known = metric != SQ_EUCLIDEAN || (limit > SMALL && limit < LARGE);
    for (int64_t i = 0; i < n; i++) {
        distances[i] = __builtin_nan("");
        if (known && lower[i] > limit) continue;
        distances[i] = distance_f32(&by, table->vectors[partition[i]] + row[i] * d);
    }
    return -1;
}

int64_t SQ_NAME(refine)(const sq_table *table, int64_t metric, const float *query,
                        const int64_t *partition, const int64_t *row, const float *lower_bounds,
                        int64_t n, int64_t k, double *distances, uint64_t *heap) {
    const int64_t first = k + k / 2 < n ? k + k / 2 : n;
    int64_t absent = SQ_NAME(row_distances)(table, metric, query, partition, row, first, distances);
    if (absent >= 0) return -1 - absent;
    int64_t read = first;
    if (first == n) return read;
    double worst = kth(distances, first, k, heap);
    if (metric == SQ_COSINE) worst = 2 * worst;
    if (metric == SQ_EUCLIDEAN) worst = worst * worst;
    const measure by = measure_of(metric, query, table->vector_dimension);
    const int64_t d = by.dimension;
    /* One loop finds and prefetches rows some places before it computes them. */
    int64_t waiting[AHEAD_ROWS];
    int64_t found = 0, done = 0;
    for (int64_t i = first; i < n; i++) {
        distances[i] = __builtin_nan("");
        if (!((double)lower_bounds[i] <= worst)) continue;
        if (SQ_UNLIKELY(!table->vectors[partition[i]])) return -1 - partition[i];
        if (found - done == AHEAD_ROWS) {
            const int64_t at = waiting[done++ % AHEAD_ROWS];
            distances[at] = distance_f32(&by, table->vectors[partition[at]] + row[at] * d);
        }
        prefetch_of(table, partition[i], row[i], d);
        waiting[found++ % AHEAD_ROWS] = i;
    }
    for (; done < found; done++) {
        const int64_t at = waiting[done % AHEAD_ROWS];
        distances[at] = distance_f32(&by, table->vectors[partition[at]] + row[at] * d);
    }
    return read + found;
}

int64_t SQ_NAME(gather_rows)(const sq_table *table, const int64_t *clusters, int64_t n,
                             const uint32_t *possible, int64_t *partition, int64_t *row) {
    const int64_t bytes = 4 * table->vector_dimension;
    int64_t found = 0;
    for (int64_t i = 0; i < n; i++) {
        const int64_t c = clusters[i], mine = table->partition[c], first = table->first_row[c];
        const uint32_t *words = possible + table->first_block[c];
        const int64_t blocks = (table->rows[c] + SQ_BLOCK_ROWS - 1) / SQ_BLOCK_ROWS;
        const uintptr_t vectors = (uintptr_t)table->vectors[mine];
        for (int64_t b = 0; b < blocks; b += 2) {
            uint64_t word = b + 1 < blocks ? sq_load_u64(words + b) : words[b];
            if (!row) {
                found += sq_popcount64(word);
                continue;
            }
            for (; word; word &= word - 1) {
                const int64_t at = first + b * SQ_BLOCK_ROWS + sq_ctz64(word);
                partition[found] = mine;
                row[found++] = at;
                /* What comes of rows is their distances: they are on the way meanwhile. */
                if (found * bytes > ASKED_BYTES) continue;
                for (int64_t line = 0; line < bytes; line += LINE_BYTES)
                    __builtin_prefetch((const void *)(vectors + (uintptr_t)(at * bytes + line)), 0, 2);
            }
        }
    }
    return found;
}
