/* One query from its vector to the distances of its nearest rows: prepare, walk, scan, refine. */
#include "keys.h"

typedef struct ranked {
    double distance;
    int64_t place;
} ranked;

SQ_INLINE int after(const ranked *x, const ranked *y) {
    return x->distance > y->distance || (x->distance == y->distance && x->place > y->place);
}

static void sift(ranked *heap, int64_t n, int64_t hole, ranked item) {
    int64_t child;
    while ((child = 2 * hole + 1) < n) {
        child += child + 1 < n && after(&heap[child + 1], &heap[child]);
        if (!after(&heap[child], &item)) break;
        heap[hole] = heap[child];
        hole = child;
    }
    heap[hole] = item;
}

static void sort(ranked *items, int64_t n) {
    for (int64_t i = n / 2 - 1; i >= 0; i--) sift(items, n, i, items[i]);
    for (int64_t last = n - 1; last > 0; last--) {
        const ranked item = items[last];
        items[last] = items[0];
        sift(items, last, 0, item);
    }
}

/* The k-th smallest of n distances, or infinity if there are not so many; NaN are none. */
static double kth(const double *distances, int64_t n, int64_t k, uint64_t *heap) {
    if (n < k) return __builtin_inf();
    for (int64_t i = 0; i < k; i++) heap[i] = sq_key_f64(distances[i]);
    for (int64_t i = k / 2 - 1; i >= 0; i--) sq_sift_u64(heap, k, i, heap[i]);
    for (int64_t i = k; i < n; i++) {
        const uint64_t key = sq_key_f64(distances[i]);
        if (key < heap[0]) sq_sift_u64(heap, k, 0, key);
    }
    return heap[0] == UINT64_MAX ? __builtin_inf() : sq_f64_of_key(heap[0]);
}

/* Whether everything that the clusters taken need is there: -1, or a partition that is not. */
static int64_t absent(const sq_table *table, const int64_t *taken, int64_t count, int codes) {
    for (int64_t i = 0; i < count; i++) {
        const int64_t partition = table->partition[taken[i]];
        if (!table->vectors[partition]) return partition;
        if (codes && (!table->blocks[partition] || !table->full[partition])) return partition;
    }
    return -1;
}

/* Measures all that is admitted of the clusters taken: the nearest k, or more. */
static int64_t measure(const sq_table *table, const sq_search *asked, const uint32_t *possible,
                       int64_t taken) {
    const int64_t n = SQ_NAME(gather_rows)(table, asked->taken, taken, possible, asked->partition,
                                           asked->row);
    SQ_NAME(near_distances)(table, asked->metric, asked->query, asked->partition, asked->row, n,
                            asked->walk.k, asked->lower_bounds, asked->estimates, asked->measured,
                            asked->heap);
    asked->counts[SQ_READ] = n;
    return n;
}

/* Of n rows that were measured, the nearest k and what ties with the last of them, ascending. */
static int64_t nearest(const sq_search *asked, int64_t n) {
    ranked *items = asked->items;
    const int64_t k = asked->walk.k;
    const double worst = kth(asked->measured, n, k, asked->heap);
    int64_t found = 0;
    asked->counts[SQ_KEPT] = n;
    for (int64_t i = 0; i < n; i++) {
        const ranked item = {asked->measured[i], i};
        if (item.distance <= worst) items[found++] = item;
    }
    sort(items, found);
    int64_t near = found < k ? found : k;
    while (near < found && items[near].distance == items[k - 1].distance) near++;
    int single = near <= k;
    for (int64_t i = 0; i < near; i++) {
        if (i && !(items[i - 1].distance < items[i].distance)) single = 0;
        asked->near_distance[i] = items[i].distance;
        asked->near_partition[i] = asked->partition[items[i].place];
        asked->near_row[i] = asked->row[items[i].place];
    }
    asked->counts[SQ_SINGLE] = single;
    return near;
}

/* The bitmap of the rows that pass. */
SQ_INLINE const uint32_t *passing(const sq_table *table, const sq_walk *walk) {
    return walk->program || walk->sure_counts ? walk->possible : table->alive;
}

/* Says that a filter was not evaluated for all clusters, and that no keys were read. */
static void begin_counts(const sq_search *asked) {
    asked->counts[SQ_FILTERED] = asked->counts[SQ_KEY_BYTES] = -1;
    asked->counts[SQ_LISTED] = asked->counts[SQ_EVERY] = asked->counts[SQ_SINGLE] = 0;
}

/* Takes what is known of all clusters in the place of a program. */
static void take_counts(const sq_table *table, sq_search *one) {
    sq_walk *walk = &one->walk;
    const int64_t *possible = one->all_counts + table->clusters;
    walk->program = NULL;
    walk->sure_counts = one->all_counts;
    walk->possible_counts = possible;
    int64_t sum = 0;
    for (int64_t c = 0; c < table->clusters; c++) sum += possible[c];
    one->counts[SQ_FILTERED] = sum;
}

/* Filters all clusters by lists, if few of their rows have to be asked; else the walk does it. */
static void filter_by_lists(const sq_table *table, sq_search *one) {
    const sq_walk *walk = &one->walk;
    if (!walk->program || one->listed_most < 0) return;
    one->counts[SQ_LISTED] = -1;
    if (!one->lists) return;
    const int64_t asked = SQ_NAME(filter_listed)(
        table, walk->program, one->lists, one->listed_most, walk->sure, walk->possible,
        one->all_counts, one->all_counts + table->clusters, one->stack);
    if (asked < 0) return;
    one->counts[SQ_LISTED] = 1;
    take_counts(table, one);
}

/* The keys of what was found, where they are asked for. */
static void read_keys(const sq_search *asked, int64_t found) {
    if (!asked->records || found <= 0) return;
    asked->counts[SQ_KEY_BYTES] = SQ_NAME(gather_keys)(
        asked->records, asked->record_partitions, asked->near_partition, asked->near_row, found,
        asked->key_room, asked->key_room_bytes);
}

/* Everything behind `prepare`. */
static int64_t search_prepared(const sq_table *table, const sq_search *asked,
                               const sq_lazily *by) {
    const double *scalars = asked->scalars;
    int64_t *counts = asked->counts;
    const int64_t taken = SQ_NAME(walk_lazily)(table, asked->distances, by, &asked->walk,
                                               asked->taken, counts + SQ_ROWS_SEEN, asked->keys,
                                               asked->stack);
    const int64_t admitted = counts[SQ_POSSIBLE_SEEN];
    counts[SQ_TAKEN] = taken;
    counts[SQ_LOW_SCANNED] = counts[SQ_RANKED] = counts[SQ_KEPT] = counts[SQ_READ] = 0;
    if (admitted > counts[SQ_SURE_SEEN]) return SQ_STAYS_OPEN;
    const double straight_rows = asked->straight_base + asked->straight_each * (double)taken;
    const int straight = admitted <= asked->straight_most && (double)admitted <= straight_rows;
    const int64_t missing = absent(table, asked->taken, taken, !straight);
    if (missing >= 0) return -1 - missing;
    const uint32_t *possible = passing(table, &asked->walk);
    int64_t n;
    if (straight) {
        n = measure(table, asked, possible, taken);
    } else {
        int64_t scanned[4];
        const sq_scan_call call = {
            .clusters = asked->taken, .count = taken, .possible = possible,
            .projected = asked->projected, .offset = scalars[0], .entries = asked->entries,
            .step = scalars[1], .base = scalars[2], .keep = asked->keep < admitted ? asked->keep : admitted, .reach = asked->reach,
            .share_min = asked->share_min, .bounds = 0, .partition = asked->partition,
            .row = asked->row, .estimates = asked->estimates,
            .lower_bounds = asked->lower_bounds, .counts = scanned, .room = asked->room,
        };
        n = SQ_NAME(scan)(table, &call);
        counts[SQ_LOW_SCANNED] = scanned[1];
        counts[SQ_RANKED] = scanned[2];
        counts[SQ_READ] = SQ_NAME(refine)(table, asked->metric, asked->query, asked->partition,
                                          asked->row, asked->lower_bounds, n, asked->walk.k,
                                          asked->measured, asked->heap);
    }
    return nearest(asked, n);
}

int64_t SQ_NAME(search)(const sq_table *table, const sq_search *asked) {
    sq_search one = *asked;
    begin_counts(&one);
    filter_by_lists(table, &one);
    const sq_lazily by = SQ_NAME(prepare_lazily)(table, &one);
    const int64_t found = search_prepared(table, &one, &by);
    read_keys(&one, found);
    return found;
}

/* Filters all clusters, by lists or row by row. */
static void filter_all(const sq_table *table, sq_search *one) {
    const sq_walk *walk = &one->walk;
    filter_by_lists(table, one);
    if (!walk->program) return;
    for (int64_t c = 0; c < table->clusters; c++) one->taken[c] = c;
    SQ_NAME(filter)(table, walk->program, table->clusters, one->taken, walk->sure, walk->possible,
                    one->all_counts, one->all_counts + table->clusters, one->stack);
    take_counts(table, one);
}

int64_t SQ_NAME(search_all)(const sq_table *table, const sq_search *asked) {
    sq_search one = *asked;
    const sq_walk *walk = &one.walk;
    int64_t *counts = one.counts, taken = 0, most = one.straight_most;
    memset(counts, 0, SQ_COUNTS * sizeof *counts);
    begin_counts(&one);
    counts[SQ_EVERY] = 1;
    if (walk->program) {
        filter_all(table, &one);
        if (one.filtered_most < most) most = one.filtered_most;
    }
    const int64_t *sure = walk->sure_counts ? walk->sure_counts : table->alive_counts;
    const int64_t *possible = walk->sure_counts ? walk->possible_counts : table->alive_counts;
    for (int64_t c = 0; c < table->clusters; c++) {
        if (!possible[c]) continue;
        one.taken[taken++] = c;
        counts[SQ_ROWS_SEEN] += table->rows[c];
        counts[SQ_POSSIBLE_SEEN] += possible[c];
        counts[SQ_SURE_SEEN] += sure[c];
    }
    counts[SQ_TAKEN] = taken;
    if (counts[SQ_POSSIBLE_SEEN] > counts[SQ_SURE_SEEN] || counts[SQ_POSSIBLE_SEEN] > most)
        return SQ_STAYS_OPEN;
    const int64_t missing = absent(table, one.taken, taken, 0);
    if (missing >= 0) return -1 - missing;
    const int64_t found = nearest(&one, measure(table, &one, passing(table, walk), taken));
    read_keys(&one, found);
    return found;
}

int64_t SQ_NAME(ask)(const sq_table *table, const sq_search *asked, const sq_ranges *alike,
                     const sq_prices *prices, uint8_t *room) {
    const sq_expected *found = SQ_NAME(expected)(alike, prices, room);
    if (found->every < 0) return SQ_NOT_AT_ONCE;
    sq_search one = *asked;
    one.walk.program = (const sq_program *)room;
    one.walk.overall = found->share;
    one.listed_most = (int64_t)found->listed_most;
    one.filtered_most = prices->always_most;
    return found->every > 0 ? SQ_NAME(search_all)(table, &one) : SQ_NAME(search)(table, &one);
}

static int64_t nearest_of(const float *distances, int64_t n) {
    int64_t best = 0;
    for (int64_t i = 1; i < n; i++) best = distances[i] < distances[best] ? i : best;
    return best;
}

/* The queries in the order of their nearest clusters. */
static void order_queries(const sq_table *table, const sq_batch *batch) {
    uint64_t *keys = batch->order;
    const int64_t n = batch->count, c = table->clusters;
    for (int64_t q = 0; q < n; q++)
        keys[q] = (uint64_t)nearest_of(batch->distances + q * c, c) << 32 | (uint64_t)q;
    for (int64_t i = n / 2 - 1; i >= 0; i--) sq_sift_u64(keys, n, i, keys[i]);
    for (int64_t last = n - 1; last > 0; last--) {
        const uint64_t key = keys[last];
        keys[last] = keys[0];
        sq_sift_u64(keys, last, 0, key);
    }
}

void SQ_NAME(search_many)(const sq_table *table, const sq_search *asked, const sq_batch *batch) {
    const int64_t c = table->clusters, d = asked->vector_dimension, dimension = table->dimension;
    const int64_t entries = (dimension + 3) / 4 * 16, most = batch->near_most;
    SQ_NAME(prepare_many)(table, asked->rotation, batch, d, asked->metric == SQ_COSINE,
                          asked->scratch);
    order_queries(table, batch);
    for (int64_t i = 0; i < batch->count; i++) {
        const int64_t q = (int64_t)(batch->order[i] & UINT32_MAX);
        sq_search one = *asked;
        one.query = batch->queries + q * d;
        one.walk.program = batch->programs[q];
        one.walk.overall = batch->overall[q];
        one.projected = batch->projected + q * dimension;
        one.entries = batch->entries + q * entries;
        one.distances = batch->distances + q * c;
        one.scalars = batch->scalars + 3 * q;
        one.counts = batch->counts + q * SQ_COUNTS;
        one.lists = batch->lists;
        one.listed_most = batch->lists ? batch->listed_most[q] : -1;
        one.all_counts = batch->listed_counts;
        begin_counts(&one);
        filter_by_lists(table, &one);
        int64_t found = search_prepared(table, &one, &batch->lazily[q]);
        const int64_t taken = one.counts[SQ_TAKEN];
        memcpy(batch->taken + q * c, one.taken, (size_t)taken * sizeof *one.taken);
        if (found > most) found = SQ_TOO_MANY;
        batch->found[q] = found;
        if (found <= 0) continue;
        const size_t bytes = (size_t)found * 8;
        memcpy(batch->near_distance + q * most, one.near_distance, bytes);
        memcpy(batch->near_partition + q * most, one.near_partition, bytes);
        memcpy(batch->near_row + q * most, one.near_row, bytes);
    }
}
