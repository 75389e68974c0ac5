/* Take clusters, nearest first, until the need is met. */
#include "filter.h"

/* ---- clusters in ascending (distance, number), as far as they are asked for ----
 *
 * A walk takes few of many clusters. Those nearer than a pivot, about one in twenty-four, are made a
 * heap first; those up to a second pivot, and so on, follow when they are needed.
 *
 * Distances may be lower bounds. Those that come to the top of the heap are measured, and with them
 * those just below; one is taken only if it has been, and is nearer than whatever has not been in the
 * heap can be. */

typedef struct order {
    const sq_table *table;
    const sq_lazily *by; /* NULL: distances are exact */
    const float *distances;
    int64_t n;
    /* A heap, the smallest on top: a distance's bits, EXACT if it is no bound, and its place. */
    uint64_t *keys;
    int64_t heap;
    int64_t lots;
    float taken; /* those nearer than this, or that may be so, have been in the heap */
} order;

enum { GROUPS = 16, FEW = 256, LOTS = 5, TOP = 16, LINE_FLOATS = 16 };

static const uint64_t EXACT = (uint64_t)1 << 31, PLACE = EXACT - 1;

SQ_INLINE void sift(uint64_t *heap, int64_t n, int64_t hole, uint64_t key) {
    int64_t child;
    while ((child = 2 * hole + 1) < n) {
        child += child + 1 < n && heap[child + 1] < heap[child];
        if (heap[child] >= key) break;
        heap[hole] = heap[child];
        hole = child;
    }
    heap[hole] = key;
}

/* Bits that ascend as the distances do; -0 and 0 are one, NaN comes last. */
SQ_INLINE uint64_t key_of(float distance, uint64_t place) {
    const float x = distance + 0.0f;
    const uint32_t bits = sq_bits_f32(x);
    const uint32_t up = x != x ? UINT32_MAX : bits >> 31 ? ~bits : bits | 0x80000000u;
    return (uint64_t)up << 32 | place;
}

/* Of a bound, which comes before the distances that it equals; NaN bounds nothing. */
SQ_INLINE uint64_t key_of_bound(float bound, uint64_t place) {
    return bound != bound ? place : key_of(bound, place);
}

/* The distance that such a key was made of, 0 for -0. */
SQ_INLINE float distance_of(uint64_t key) {
    const uint32_t up = (uint32_t)(key >> 32);
    return sq_f32_of_bits(up >> 31 ? up & 0x7fffffffu : ~up);
}

/* The median of some groups' minima: of groups of 16, 0.042 of all lie below it; of 2, 0.29. */
static float pivot_of(const float *distances, int64_t n, int64_t group) {
    float least[GROUPS];
    const int64_t stride = n / (GROUPS * group);
    for (int64_t i = 0; i < GROUPS; i++) {
        const float *probe = distances + i * stride;
        float x = *probe;
        for (int64_t j = 1; j < group; j++) {
            const float y = probe[j * GROUPS * stride];
            x = y < x ? y : x;
        }
        least[i] = x;
    }
    /* Counted, not sorted: sixteen compare with one at once. */
    for (int64_t i = 0; i < GROUPS; i++) {
        int32_t below = 0;
        for (int64_t j = 0; j < GROUPS; j++)
            below += (least[j] < least[i]) | ((least[j] == least[i]) & (j < i));
        if (below == GROUPS / 2) return least[i];
    }
    return least[GROUPS / 2]; /* some are NaN */
}

/* Which of n <= 16 distances are not below `from`, but below `to`. */
SQ_INLINE uint32_t between(const float *x, int64_t n, float from, float to) {
#if defined(SQ_USE_AVX512)
    const __mmask16 there = (__mmask16)((1u << n) - 1);
    const __m512 values = _mm512_maskz_loadu_ps(there, x);
    const __mmask16 below = _mm512_mask_cmp_ps_mask(there, values, _mm512_set1_ps(to), _CMP_LT_OQ);
    return _mm512_mask_cmp_ps_mask(below, values, _mm512_set1_ps(from), _CMP_NLT_UQ);
#else
    uint32_t found = 0;
#if defined(SQ_USE_AVX2)
    if (n == 16) {
        const __m256 low = _mm256_set1_ps(from), high = _mm256_set1_ps(to);
        for (int i = 0; i < 16; i += 8) {
            const __m256 values = _mm256_loadu_ps(x + i);
            const __m256 both = _mm256_and_ps(_mm256_cmp_ps(values, low, _CMP_NLT_UQ),
                                              _mm256_cmp_ps(values, high, _CMP_LT_OQ));
            found |= (uint32_t)_mm256_movemask_ps(both) << i;
        }
        return found;
    }
#endif
    for (int64_t i = 0; i < n; i++) found |= (uint32_t)(!(x[i] < from) & (x[i] < to)) << i;
    return found;
#endif
}

/* Asks for the centers on top of the heap that are not measured. */
static void order_ahead(const order *o) {
    const int64_t top = o->heap < TOP ? o->heap : TOP, d = o->table->dimension;
    for (int64_t i = 0; i < top; i++) {
        const float *center = o->table->centers + (int64_t)(o->keys[i] & PLACE) * d;
        if (o->keys[i] & EXACT) continue;
        for (int64_t j = 0; j < d; j += LINE_FLOATS) __builtin_prefetch(center + j);
    }
}

/* Measures what lies on top of the heap. */
static void order_measure(order *o) {
    uint64_t places[TOP] = {0};
    int64_t slots[TOP], count = 0;
    float found[TOP];
    const int64_t top = o->heap < TOP ? o->heap : TOP;
    for (int64_t i = 0; i < top; i++) {
        if (o->keys[i] & EXACT) continue;
        places[count] = o->keys[i] & PLACE;
        slots[count++] = i;
    }
    SQ_NAME(center_distances)(o->table, o->by, places, count, found);
    /* From below: what a slot's sift finds beneath it is a heap again. */
    for (int64_t i = count - 1; i >= 0; i--) o->keys[slots[i]] = key_of(found[i], places[i] | EXACT);
    for (int64_t i = top - 1; i >= 0; i--) sift(o->keys, o->heap, i, o->keys[i]);
    order_ahead(o);
}

/* Puts the next lot of clusters into the heap; there may be none left. */
static void order_refill(order *o) {
    const int last = o->lots == LOTS - 1 || o->n < FEW;
    int64_t count = o->heap;
    if (!last) {
        const float from = o->taken;
        const float to = pivot_of(o->distances, o->n, GROUPS >> o->lots);
        for (int64_t i = 0; i < o->n; i += 16) {
            const int64_t left = o->n - i;
            uint32_t found = between(o->distances + i, left < 16 ? left : 16, from, to);
            for (; found; found &= found - 1) o->keys[count++] = (uint64_t)(i + sq_ctz32(found));
        }
        if (to > from) o->taken = to;
        o->lots++;
    } else {
        /* NaN too. */
        for (int64_t i = 0; i < o->n; i++) {
            o->keys[count] = (uint64_t)i;
            count += !(o->distances[i] < o->taken);
        }
        o->lots = LOTS;
    }
    for (int64_t i = o->heap; i < count; i++) {
        const uint64_t place = o->keys[i];
        const float distance = o->distances[place];
        o->keys[i] = o->by ? key_of_bound(distance, place) : key_of(distance, place | EXACT);
    }
    o->heap = count;
    for (int64_t i = o->heap / 2 - 1; i >= 0; i--) sift(o->keys, o->heap, i, o->keys[i]);
    if (o->by) order_ahead(o);
}

SQ_INLINE void order_begin(order *made, uint64_t *keys, const sq_table *table,
                           const float *distances, const sq_lazily *by) {
    made->table = table;
    made->by = by && by->narrow ? by : NULL;
    made->distances = distances;
    made->n = table->clusters;
    made->keys = keys;
    made->heap = 0;
    made->lots = 0;
    made->taken = -__builtin_inff();
}

/* The next cluster, and how far it is; or -1. */
SQ_INLINE int64_t order_next(order *o, float *distance) {
    for (;;) {
        while (o->lots < LOTS && (o->heap == 0 || o->keys[0] >= key_of(o->taken, 0))) order_refill(o);
        if (o->heap == 0) return -1;
        if (o->keys[0] & EXACT) break;
        order_measure(o);
    }
    const int64_t cluster = (int64_t)(o->keys[0] & PLACE);
    *distance = distance_of(o->keys[0]);
    o->heap--;
    if (o->heap > 0) sift(o->keys, o->heap, 0, o->keys[o->heap]);
    return cluster;
}

/* ---- the walk ---- */

/* By how much a cluster counts for being farther than the anchor, the one with which as many rows as
 * `rows` may pass so far. */
typedef struct farness {
    int64_t rows;
    int64_t exponent;
    double anchor; /* the distance of that cluster; NaN until it is reached */
} farness;

enum { FARTHEST = 4 };    /* as many times as far as the anchor, and no cluster counts for more */
enum { FEW_PASSED = 10 }; /* so many rows are added to those that passed, and to those expected to */
enum { WARY = 2 };        /* a filter is against the query below one in so many of those expected */

SQ_INLINE double weight_of(farness *far, float distance, int64_t possible_seen) {
    if (far->anchor != far->anchor) {
        if (possible_seen >= far->rows) far->anchor = (double)distance;
        return 1.0;
    }
    double ratio = (double)distance / far->anchor;
    if (!(ratio > 1.0)) return 1.0; /* NaN too */
    if (ratio > FARTHEST) ratio = FARTHEST;
    double weight = 1.0;
    for (int64_t i = 0; i < far->exponent; i++) weight *= ratio;
    return weight;
}

/* How many times what is needed else, where so many rows passed before the anchor. */
SQ_INLINE double need_of(const sq_walk *asked, int64_t passed, int64_t rows) {
    const double expected = asked->overall * (double)rows + FEW_PASSED;
    const double times = expected / (WARY * ((double)passed + FEW_PASSED));
    return times < 1 ? 1 : times < asked->need_against ? times : asked->need_against;
}

typedef struct lot {
    int64_t count;
    int64_t clusters[SQ_LOT];
    float distances[SQ_LOT];
    uint32_t *sure[SQ_LOT], *possible[SQ_LOT];
} lot;

/* The next clusters; what their filter reads and writes is asked for. */
static void fill(lot *made, order *left, const sq_table *table, const sq_walk *asked) {
    for (made->count = 0; made->count < SQ_LOT; made->count++) {
        const int64_t cluster = order_next(left, &made->distances[made->count]);
        if (cluster < 0) break;
        const int64_t block = table->first_block[cluster];
        made->clusters[made->count] = cluster;
        made->sure[made->count] = asked->sure + block;
        made->possible[made->count] = asked->possible + block;
        __builtin_prefetch(table->alive + block);
        __builtin_prefetch(asked->sure + block, 1);
        __builtin_prefetch(asked->possible + block, 1);
        sq_filter_ahead(table, asked->program, cluster, table->rows[cluster]);
    }
}

int64_t SQ_NAME(walk_lazily)(const sq_table *table, const float *distances, const sq_lazily *by,
                             const sq_walk *asked, int64_t *taken, int64_t *sums, uint64_t *keys,
                             uint64_t *stack) {
    const int64_t c = table->clusters;
    const int counted = asked->sure_counts != NULL, filtered = asked->program && !counted;
    const int64_t *sure_counts = counted ? asked->sure_counts : table->alive_counts;
    const int64_t *possible_counts = counted ? asked->possible_counts : table->alive_counts;
    const double prior_rows = asked->prior_rows, prior = prior_rows * asked->overall;
    const double met_least = 1.0 - 1e-9;
    int64_t count = 0, rows_seen = 0, possible_seen = 0, sure_seen = 0;
    double met = 0.0, met_here = 0.0, need = 1.0;
    int enough = 0;
    farness far = {asked->anchor_rows, asked->exponent, __builtin_nan("")};
    order left;
    order_begin(&left, keys, table, distances, by);
    /* Clusters whose turn comes are filtered a lot at a time, the last lot in part for nothing; what
     * the lot after it reads is asked for before. */
    lot lots[2] = {{.count = 0}, {.count = 0}};
    lot *now = &lots[0], *next = &lots[1];
    sq_counts counts[SQ_LOT];
    int64_t place = 0;
    sq_plan plan = {.program = NULL};
    if (filtered) {
        sq_plan_of(asked->program, &plan);
        fill(next, &left, table, asked);
    }
    for (;;) {
        int64_t cluster = -1;
        float distance = 0;
        if (filtered && place == now->count) {
            lot *const done = now;
            now = next;
            next = done;
            fill(next, &left, table, asked);
            sq_filter_lot(table, &plan, now->clusters, now->count, INT64_MAX, now->sure,
                          now->possible, counts, stack);
            place = 0;
        }
        if (!filtered) {
            cluster = order_next(&left, &distance);
        } else if (place < now->count) {
            cluster = now->clusters[place];
            distance = now->distances[place];
        }
        if (cluster < 0) break;
        const int64_t rows = table->rows[cluster];
        int64_t sure, possible;
        if (filtered) {
            sure = counts[place].sure;
            possible = counts[place].possible;
            place++;
        } else {
            sure = sure_counts[cluster];
            possible = possible_counts[cluster];
        }
        rows_seen += rows;
        possible_seen += possible;
        sure_seen += sure;
        if (rows == 0) continue;
        if (possible > 0) {
            taken[count] = cluster;
            taken[c + count] = sure;
            taken[2 * c + count] = possible;
            count++;
        }
        const double around = ((double)possible_seen + prior) / ((double)rows_seen + prior_rows);
        const double own = ((double)possible + prior) / ((double)rows + prior_rows);
        const double fullness = ((double)possible + 1) / (asked->overall * (double)rows + 1);
        const int before = far.anchor != far.anchor;
        const double weight = weight_of(&far, distance, possible_seen);
        if (before && far.anchor == far.anchor)
            need = need_of(asked, possible_seen - possible, rows_seen - rows);
        const double full = fullness < 1 ? fullness : 1;
        const double *const inverse = asked->inverse_need;
        met += inverse[sq_share_cell((around < own ? around : own) * asked->thinning)] * full * weight;
        met_here += inverse[sq_share_cell(own * asked->thinning)] * full * weight;
        enough |= met * asked->adverse[sq_share_cell(around / asked->overall)] >= met_least;
        if (enough && met_here >= need * met_least && sure_seen >= asked->k) break;
    }
    sums[0] = rows_seen;
    sums[1] = possible_seen;
    sums[2] = sure_seen;
    return count;
}

int64_t SQ_NAME(walk)(const sq_table *table, const float *distances, const sq_walk *asked,
                      int64_t *taken, int64_t *sums, uint64_t *keys, uint64_t *stack) {
    return SQ_NAME(walk_lazily)(table, distances, NULL, asked, taken, sums, keys, stack);
}
