/* Take clusters, nearest first, until the need is met. */
#include "filter.h"

/* A share's cell: 32 an octave from 2^-16 up; 0 for NaN and all that is not positive. */
SQ_INLINE int64_t cell(double share) {
    const float x = (float)share;
    if (!(x > 0.0f)) return 0;
    const int64_t place = (int64_t)(sq_bits_f32(x) >> 18) - ((127 - 16) << 5);
    return place < 0 ? 0 : place > SQ_CELLS - 1 ? SQ_CELLS - 1 : place;
}

/* ---- clusters in ascending (distance, number), as far as they are asked for ----
 *
 * A walk takes few of many clusters. The keys below a pivot, about an eighth of them,
 * are put first and made a heap; the others follow when they are needed. */

typedef struct order {
    uint64_t *keys;
    int64_t heap; /* keys of the heap, which begins at keys[0] */
    int64_t rest; /* where the others begin */
    int64_t end;
} order;

enum { PROBES = 64, FEW = 256 };

/* Smallest on top. */
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

static void make_heap(uint64_t *heap, int64_t n) {
    for (int64_t i = n / 2 - 1; i >= 0; i--) sift(heap, n, i, heap[i]);
}

static void order_begin(order *made, uint64_t *keys, const float *distances, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        const uint32_t bits = sq_bits_f32(distances[i] + 0.0f);
        const uint32_t flip = (uint32_t)((int32_t)bits >> 31) | 0x80000000u;
        keys[i] = (uint64_t)(bits ^ flip) << 32 | (uint64_t)i;
    }
    made->keys = keys;
    made->heap = 0;
    made->rest = 0;
    made->end = n;
}

/* An eighth of n keys, about, is smaller than this. */
static uint64_t pivot_of(const uint64_t *keys, int64_t n) {
    uint64_t probes[PROBES];
    const int64_t stride = n / PROBES;
    for (int i = 0; i < PROBES; i++) probes[i] = keys[i * stride];
    make_heap(probes, PROBES);
    int64_t left = PROBES;
    for (int i = 0; i < PROBES / 8; i++) {
        left--;
        sift(probes, left, 0, probes[left]);
    }
    return probes[0];
}

/* Moves the next lot of keys to the heap, which is empty. */
static void order_refill(order *o) {
    uint64_t *keys = o->keys + o->rest;
    const int64_t n = o->end - o->rest;
    int64_t lot = n;
    if (n > FEW) {
        const uint64_t pivot = pivot_of(keys, n);
        lot = 0;
        for (int64_t i = 0; i < n; i++) {
            const uint64_t key = keys[i];
            keys[i] = keys[lot];
            keys[lot] = key;
            lot += key < pivot;
        }
    }
    /* The heap lies at the front of what was not taken yet. */
    o->keys = keys;
    o->heap = lot;
    o->end -= o->rest;
    o->rest = lot;
    make_heap(keys, lot);
}

/* The next cluster, or -1. */
SQ_INLINE int64_t order_next(order *o) {
    if (o->heap == 0) {
        if (o->rest == o->end) return -1;
        order_refill(o);
    }
    const int64_t cluster = (int64_t)(o->keys[0] & UINT32_MAX);
    o->heap--;
    if (o->heap > 0) sift(o->keys, o->heap, 0, o->keys[o->heap]);
    return cluster;
}

/* ---- the walk ---- */

int64_t SQ_NAME(walk)(const sq_table *table, const float *distances, const sq_walk *asked,
                      int64_t *taken, int64_t *sums, uint64_t *keys, uint64_t *stack) {
    const int64_t c = table->clusters;
    const int counted = asked->sure_counts != NULL, filtered = asked->program && !counted;
    const int64_t *sure_counts = counted ? asked->sure_counts : table->alive_counts;
    const int64_t *possible_counts = counted ? asked->possible_counts : table->alive_counts;
    const double prior_rows = asked->prior_rows, prior = prior_rows * asked->overall;
    const double met_least = 1.0 - 1e-9;
    int64_t count = 0, rows_seen = 0, possible_seen = 0, sure_seen = 0;
    double met = 0.0;
    int enough = 0;
    order left;
    order_begin(&left, keys, distances, c);
    int64_t cluster;
    while ((cluster = order_next(&left)) >= 0) {
        const int64_t rows = table->rows[cluster];
        int64_t sure, possible;
        if (filtered) {
            if (left.heap > 0)
                sq_filter_ahead(table, asked->program, (int64_t)(left.keys[0] & UINT32_MAX));
            const sq_counts found = sq_filter_cluster(table, asked->program, cluster, rows,
                                                      asked->sure, asked->possible, stack);
            sure = found.sure;
            possible = found.possible;
        } else {
            sure = sure_counts[cluster];
            possible = possible_counts[cluster];
        }
        rows_seen += rows;
        possible_seen += possible;
        sure_seen += sure;
        if (possible == 0) continue;
        taken[count] = cluster;
        taken[c + count] = sure;
        taken[2 * c + count] = possible;
        count++;
        const double around = ((double)possible_seen + prior) / ((double)rows_seen + prior_rows);
        const double own = ((double)possible + prior) / ((double)rows + prior_rows);
        met += asked->inverse_need[cell((around < own ? around : own) * asked->thinning)];
        enough |= met * asked->adverse[cell(around / asked->overall)] >= met_least;
        if (enough && sure_seen >= asked->k) break;
    }
    sums[0] = rows_seen;
    sums[1] = possible_seen;
    sums[2] = sure_seen;
    return count;
}
