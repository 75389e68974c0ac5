/* Compares every variant with the portable one, bit for bit, on random inputs of random sizes and
 * alignments. Behind each array lies a page that nobody may touch; a build with sanitizers finds what
 * is read or written before an array, too.
 *
 *     check [rounds [seed]]
 *
 * The portable variant itself is held to the NumPy twins by the tests in Python. */
#define _DEFAULT_SOURCE /* mmap */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define SQ_VARIANT portable
#include "squash_kernels.h"
#undef SQ_VARIANT
#if defined(__x86_64__)
#define SQ_VARIANT avx2
#include "squash_kernels.h"
#undef SQ_VARIANT
#define SQ_VARIANT avx512
#include "squash_kernels.h"
#undef SQ_VARIANT
#elif defined(__aarch64__)
#define SQ_VARIANT neon
#include "squash_kernels.h"
#undef SQ_VARIANT
#define SQ_VARIANT neondot
#include "squash_kernels.h"
#undef SQ_VARIANT
#endif

/* ---- variants ---- */

typedef struct operations {
    const char *name;
    uint32_t bit;
    __typeof__(&sq_coarsen_portable) coarsen;
    __typeof__(&sq_prepare_portable) prepare;
    __typeof__(&sq_prepare_lazily_portable) prepare_lazily;
    __typeof__(&sq_rotate_rows_portable) rotate_rows;
    __typeof__(&sq_filter_portable) filter;
    __typeof__(&sq_filter_sample_portable) filter_sample;
    __typeof__(&sq_filter_listed_portable) filter_listed;
    __typeof__(&sq_bind_portable) bind;
    __typeof__(&sq_expect_portable) expect;
    __typeof__(&sq_walk_portable) walk;
    __typeof__(&sq_walk_lazily_portable) walk_lazily;
    __typeof__(&sq_top_k_f32_portable) top_k_f32;
    __typeof__(&sq_top_k_f64_portable) top_k_f64;
    __typeof__(&sq_scan_portable) scan;
    __typeof__(&sq_exact_distances_portable) exact_distances;
    __typeof__(&sq_row_distances_portable) row_distances;
    __typeof__(&sq_near_distances_portable) near_distances;
    __typeof__(&sq_refine_portable) refine;
    __typeof__(&sq_gather_rows_portable) gather_rows;
    __typeof__(&sq_gather_keys_portable) gather_keys;
} operations;

#define VARIANT(name, bit)                                                                         \
    {#name, bit, sq_coarsen_##name, sq_prepare_##name, sq_prepare_lazily_##name, \
     sq_rotate_rows_##name, sq_filter_##name, sq_filter_sample_##name, sq_filter_listed_##name, sq_bind_##name, sq_expect_##name,           \
     sq_walk_##name, sq_walk_lazily_##name, sq_top_k_f32_##name, sq_top_k_f64_##name,              \
     sq_scan_##name, sq_exact_distances_##name, sq_row_distances_##name, sq_near_distances_##name,                 \
     sq_refine_##name, sq_gather_rows_##name, sq_gather_keys_##name}

static const operations variants[] = {
    VARIANT(portable, SQ_HAS_PORTABLE),
#if defined(__x86_64__)
    VARIANT(avx2, SQ_HAS_AVX2),
    VARIANT(avx512, SQ_HAS_AVX512),
#elif defined(__aarch64__)
    VARIANT(neon, SQ_HAS_NEON),
    VARIANT(neondot, SQ_HAS_NEONDOT),
#endif
};

enum { VARIANTS = sizeof variants / sizeof *variants };

/* ---- chance ---- */

static uint64_t chance_state;

static uint64_t chance(void) {
    uint64_t z = chance_state += 0x9e3779b97f4a7c15ull;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

static int64_t below(int64_t n) { return (int64_t)(chance() % (uint64_t)n); }
static double unit(void) { return (double)(chance() >> 11) * 0x1p-53; }
static float normal(void) {
    double sum = 0;
    for (int i = 0; i < 6; i++) sum += unit() - 0.5;
    return (float)sum;
}

/* Around the width of a register, a block, a stack; or any. */
static int64_t some_size(int64_t most) {
    static const int64_t edges[] = {0,  1,  7,  8,   9,   15,  16,  17,  31,  32,   33,
                                    63, 64, 65, 127, 128, 129, 255, 256, 257, 1024, 1025};
    const int64_t size = below(3) ? edges[below(sizeof edges / sizeof *edges)] : below(most + 1);
    return size <= most ? size : size % (most + 1);
}

/* ---- memory ---- */

enum { ARRAYS_MAX = 4096, PAGE = 65536 /* the largest that any of our systems has */ };

static struct {
    char *memory;
    size_t size;
} arrays[ARRAYS_MAX];
static int array_count;

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif

/* Memory that ends with its last byte, at any address that its type (of `step` bytes) allows. */
static void *array(int64_t size, int64_t step) {
#if defined(SANITIZED)
    const size_t before = (size_t)(step * below(64 / step)), whole = before + (size_t)size;
    char *made = malloc(whole);
    const int failed = !made;
#else
    (void)step;
    const size_t before = (size_t)((PAGE - size % PAGE) % PAGE), whole = before + (size_t)size + PAGE;
    char *made = mmap(NULL, whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    const int failed = made == MAP_FAILED || mprotect(made + whole - PAGE, PAGE, PROT_NONE);
#endif
    if (failed || array_count == ARRAYS_MAX) {
        fprintf(stderr, "no memory\n");
        exit(2);
    }
    arrays[array_count].memory = made;
    arrays[array_count++].size = whole;
    return made + before;
}

static void free_arrays(void) {
    while (array_count) {
        array_count--;
#if defined(SANITIZED)
        free(arrays[array_count].memory);
#else
        munmap(arrays[array_count].memory, arrays[array_count].size);
#endif
    }
}

static float *floats(int64_t n) {
    float *made = array(n * 4, 4);
    for (int64_t i = 0; i < n; i++) made[i] = normal();
    return made;
}

static void *bytes(int64_t n, int64_t step) {
    uint8_t *made = array(n, step);
    for (int64_t i = 0; i < n; i++) made[i] = (uint8_t)chance();
    return made;
}

static int64_t *numbers(int64_t n) { return array(n * 8, 8); }

/* ---- comparing ---- */

/* Of all that the portable variant gave: the same on every architecture. */
static uint64_t digest = 0xcbf29ce484222325ull;

static void same(const char *what, const char *variant, const void *got, const void *wanted,
                 int64_t size) {
    if (strcmp(variant, "portable") == 0)
        for (int64_t i = 0; i < size; i++)
            digest = (digest ^ ((const uint8_t *)wanted)[i]) * 0x100000001b3ull;
    if (size == 0 || memcmp(got, wanted, (size_t)size) == 0) return;
    fprintf(stderr, "%s: %s differs from portable\n", what, variant);
    exit(1);
}

/* ---- a table ---- */

enum { PARTITIONS = 3, LEAVES = 6 };

typedef struct world {
    sq_table table;
    int64_t blocks;
    int64_t partition_rows[PARTITIONS];
    int64_t partition_blocks[PARTITIONS];
} world;

static void make_world(world *w) {
    memset(w, 0, sizeof *w);
    sq_table *t = &w->table;
    t->clusters = some_size(300);
    t->dimension = 1 + some_size(300);
    t->partitions = PARTITIONS;
    t->space = below(2);
    t->vector_dimension = 1 + some_size(300);
    t->centers = floats(t->clusters * t->dimension);
    int64_t *rows = numbers(t->clusters), *partition = numbers(t->clusters);
    int64_t *first_row = numbers(t->clusters), *first_block = numbers(t->clusters);
    int64_t *local_block = numbers(t->clusters), *alive_counts = numbers(t->clusters);
    const int64_t most = below(4) ? 70 : 1500;
    for (int64_t i = 0; i < t->clusters; i++) {
        const int64_t p = below(PARTITIONS);
        partition[i] = p;
        rows[i] = some_size(most);
        first_row[i] = w->partition_rows[p];
        first_block[i] = w->blocks;
        local_block[i] = w->partition_blocks[p];
        w->partition_rows[p] += rows[i];
        w->partition_blocks[p] += (rows[i] + 31) / 32;
        w->blocks += (rows[i] + 31) / 32;
    }
    uint32_t *alive = array(w->blocks * 4, 4);
    for (int64_t i = 0; i < t->clusters; i++) {
        alive_counts[i] = 0;
        for (int64_t r = 0; r < rows[i]; r += 32) {
            const int64_t n = rows[i] - r < 32 ? rows[i] - r : 32;
            const uint32_t word = (uint32_t)(chance() | chance()) & (uint32_t)((1ull << n) - 1);
            alive[first_block[i] + r / 32] = word;
            alive_counts[i] += __builtin_popcount(word);
        }
    }
    t->rows = rows;
    t->partition = partition;
    t->first_row = first_row;
    t->first_block = first_block;
    t->local_block = local_block;
    t->alive = alive;
    t->alive_counts = alive_counts;
}

static void make_leaf(const world *w, sq_leaf *leaf) {
    const uint8_t **column = array(PARTITIONS * 8, 8);
    const uint64_t **signatures = array(PARTITIONS * 8, 8);
    const int listed = below(2) == 0;
    for (int p = 0; p < PARTITIONS; p++) {
        uint8_t *codes = bytes(w->partition_rows[p], 1);
        if (listed)
            for (int64_t r = 0; r < w->partition_rows[p]; r++) codes[r] %= 4;
        column[p] = below(5) ? codes : NULL;
        signatures[p] = listed && below(5) ? bytes(8 * w->partition_rows[p], 1) : NULL;
    }
    uint8_t *truth = array(256, 1), *sets = array(64, 1);
    memset(sets, 0, 64);
    /* Half of them as intervals have them: codes that pass follow one another. */
    const int64_t ranged = below(2), first = below(256), length = below(257 - first);
    const int64_t sure_from = first + below(length + 1), sure_to = first + below(length + 1);
    for (int c = 0; c < 256; c++) {
        truth[c] = (uint8_t)below(3);
        if (ranged) truth[c] = c >= sure_from && c < sure_to ? 2 : c >= first && c < first + length;
        const uint8_t bit = (uint8_t)(1 << (c >> 4 & 7));
        uint8_t *const sure = sets + (c >> 7) * 16 + (c & 15), *const possible = sure + 32;
        *sure |= truth[c] == 2 ? bit : 0;
        *possible |= truth[c] != 0 ? bit : 0;
    }
    leaf->column = column;
    leaf->signatures = signatures;
    leaf->truth = truth;
    leaf->sets = sets;
    leaf->list_code = listed ? below(4) : -1;
    leaf->possible_bits = chance() & chance() & chance() & chance();
    leaf->sure_bits = leaf->possible_bits & UINT32_MAX;
    const double **values = array(PARTITIONS * 8, 8);
    const uint32_t **ids = array(PARTITIONS * 8, 8);
    int64_t *counts = numbers(PARTITIONS);
    for (int p = 0; p < PARTITIONS; p++) {
        counts[p] = 1 + below(9);
        double *distinct = array(8 * counts[p], 8);
        for (int64_t i = 0; i < counts[p]; i++) distinct[i] = (double)i;
        uint32_t *places = array(4 * w->partition_rows[p], 4);
        for (int64_t r = 0; r < w->partition_rows[p]; r++) places[r] = (uint32_t)below(10);
        values[p] = distinct;
        ids[p] = below(5) ? places : NULL;
    }
    double *intervals = array(4 * 8, 8);
    for (int i = 0; i < 4; i++) intervals[i] = (double)below(10);
    leaf->numbers = values;
    leaf->number_counts = counts;
    leaf->ids = ids;
    leaf->intervals = below(3) ? intervals : NULL;
    leaf->interval_count = below(3);
    leaf->ends = NULL;
    leaf->end_count = 0;
}

static void make_program(const world *w, sq_program *program) {
    sq_leaf *leaves = array(LEAVES * (int64_t)sizeof *leaves, 8);
    int32_t *code = array(64 * 8, 4);
    const int64_t wanted = 1 + below(LEAVES);
    int64_t given = 0, depth = 0, n = 0;
    for (int i = 0; i < LEAVES; i++) make_leaf(w, &leaves[i]);
    program->depth = 0;
    while (given < wanted || depth > 1) {
        const int32_t kind = n > 40 ? (given < wanted ? SQ_LEAF : SQ_AND) : (int32_t)below(4);
        if (kind == SQ_LEAF && given == wanted) continue;
        if (kind == SQ_NOT && depth == 0) continue;
        if ((kind == SQ_AND || kind == SQ_OR) && depth < 2) continue;
        code[2 * n] = kind;
        code[2 * n + 1] = kind == SQ_LEAF ? (int32_t)given : 0;
        n++;
        given += kind == SQ_LEAF;
        depth += kind == SQ_LEAF ? 1 : kind == SQ_NOT ? 0 : -1;
        program->depth = depth > program->depth ? depth : program->depth;
    }
    program->interval_leaves = 0;
    while (program->interval_leaves < LEAVES && leaves[program->interval_leaves].intervals)
        program->interval_leaves++;
    for (int i = (int)program->interval_leaves; i < LEAVES; i++) leaves[i].intervals = NULL;
    program->operations = n;
    program->code = code;
    program->leaves = leaves;
}

/* ---- the operations ---- */

/* By a matrix, or without one where both dimensions are the same. */
static sq_rotation some_rotation(int64_t dimension, int64_t d) {
    sq_rotation by = {.mean = floats(d)};
    if (dimension == d && below(2)) by.flips = bytes(SQ_FLIPS * ((d + 7) / 8), 1);
    else by.axes = floats(dimension * d);
    return by;
}

static void check_rotate(const operations *o) {
    const int64_t n = some_size(9), d = 1 + some_size(1100);
    const sq_rotation by = {.flips = bytes(SQ_FLIPS * ((d + 7) / 8), 1), .mean = floats(d)};
    const float *rows = floats(n * d);
    float *found[2];
    for (int i = 0; i < 2; i++) {
        found[i] = array(4 * n * d, 4);
        (i ? o : variants)->rotate_rows(&by, rows, n, d, found[i], array(16 * d, 8));
    }
    same("rotate_rows", o->name, found[1], found[0], 4 * n * d);
}

static void check_prepare(const operations *o, const world *w) {
    const sq_table *t = &w->table;
    const int64_t dimension = t->dimension, d = below(2) ? dimension : t->vector_dimension;
    const int64_t groups = (dimension + 3) / 4;
    const sq_rotation by = some_rotation(dimension, d);
    const float *query = floats(d);
    const int64_t unit = below(2);
    double *projected[2], *scalars[2];
    uint8_t *entries[2];
    float *distances[2];
    for (int i = 0; i < 2; i++) {
        projected[i] = array(8 * dimension, 8);
        scalars[i] = array(24, 8);
        entries[i] = array(16 * groups, 1);
        distances[i] = array(4 * t->clusters, 4);
        (i ? o : variants)->prepare(t, &by, query, d, unit, projected[i], entries[i],
                                    distances[i], scalars[i], array(8 * (d + dimension), 8));
    }
    same("prepare: projected", o->name, projected[1], projected[0], 8 * dimension);
    same("prepare: scalars", o->name, scalars[1], scalars[0], 24);
    same("prepare: entries", o->name, entries[1], entries[0], 16 * groups);
    same("prepare: distances", o->name, distances[1], distances[0], 4 * t->clusters);
}

/* Bounds lie below the distances, and a walk takes the same clusters by them. */
static void check_lazily(const operations *o, const world *w) {
    sq_table t = w->table;
    const int64_t c = t.clusters, dimension = t.dimension;
    const int64_t d = below(2) ? dimension : t.vector_dimension;
    const int64_t quads = (dimension + 3) / 4, size = (c + 15) / 16 * 16 * (4 * quads + 16);
    uint8_t *coarse[2];
    int64_t good[2];
    for (int i = 0; i < 2; i++) {
        coarse[i] = array(size, 1);
        good[i] = (i ? o : variants)->coarsen(&t, coarse[i], array(dimension, 1));
    }
    same("coarsen: good", o->name, &good[1], &good[0], 8);
    if (!good[0]) return;
    same("coarsen: centers", o->name, coarse[1], coarse[0], size);
    t.coarse = coarse[1];
    double *cells = array(8 * SQ_CELLS, 8);
    for (int i = 0; i < SQ_CELLS; i++) cells[i] = 1.0 / (double)(1 + below(300));
    float *exact = array(4 * c, 4), *bounds = array(4 * c, 4);
    const sq_rotation by_flips = some_rotation(dimension, d);
    const sq_search asked = {
        .rotation = &by_flips,
        .vector_dimension = d,
        .query = floats(d),
        .metric = below(3),
        .walk = {.inverse_need = cells, .adverse = cells, .k = below(300), .overall = 0.9,
                 .prior_rows = 1024, .thinning = 1, .need_against = 1 + 4 * unit(),
                 .anchor_rows = below(2) ? INT64_MAX : below(500), .exponent = below(5)},
        .projected = array(8 * dimension, 8),
        .entries = array(16 * quads, 1),
        .distances = bounds,
        .scalars = array(24, 8),
        .scratch = array(8 * (d + dimension), 8),
        .coarse = array(SQ_COARSE_QUERY_BYTES + 4 * quads, 4),
    };
    o->prepare(&t, asked.rotation, asked.query, d, asked.metric == SQ_COSINE,
               asked.projected, asked.entries, exact, asked.scalars, asked.scratch);
    const sq_lazily by = o->prepare_lazily(&t, &asked);
    for (int64_t i = 0; i < c; i++)
        if (!(bounds[i] <= exact[i])) {
            fprintf(stderr, "prepare_lazily: %s bounds a distance from above\n", o->name);
            exit(1);
        }
    int64_t *taken[2], *sums[2], count[2];
    for (int i = 0; i < 2; i++) {
        taken[i] = numbers(3 * c);
        sums[i] = numbers(3);
        memset(taken[i], 0, (size_t)(24 * c));
        uint64_t *keys = array(8 * c, 8);
        count[i] = i ? o->walk_lazily(&t, bounds, &by, &asked.walk, taken[i], sums[i], keys, NULL)
                     : o->walk(&t, exact, &asked.walk, taken[i], sums[i], keys, NULL);
    }
    same("walk_lazily: count", o->name, &count[1], &count[0], 8);
    same("walk_lazily: taken", o->name, taken[1], taken[0], 24 * c);
    same("walk_lazily: sums", o->name, sums[1], sums[0], 24);
}

static void check_filter(const operations *o, const world *w, const sq_program *program) {
    const sq_table *t = &w->table;
    const int64_t count = below(t->clusters + 1);
    int64_t *clusters = numbers(count);
    for (int64_t i = 0; i < count; i++) clusters[i] = below(t->clusters);
    uint32_t *sure[2], *possible[2];
    int64_t *counts[2], *totals[2];
    for (int i = 0; i < 2; i++) {
        sure[i] = array(4 * w->blocks, 4);
        possible[i] = array(4 * w->blocks, 4);
        counts[i] = numbers(2 * count);
        totals[i] = numbers(2);
        memset(sure[i], 0x5a, (size_t)(4 * w->blocks));
        memset(possible[i], 0x5a, (size_t)(4 * w->blocks));
        uint64_t *stack = array(8 * SQ_STACK_WORDS * program->depth, 8);
        const operations *by = i ? o : variants;
        by->filter(t, program, count, clusters, sure[i], possible[i], counts[i],
                   counts[i] + count, stack);
        by->filter_sample(t, program, totals[i], stack);
    }
    same("filter: sure", o->name, sure[1], sure[0], 4 * w->blocks);
    same("filter: possible", o->name, possible[1], possible[0], 4 * w->blocks);
    same("filter: counts", o->name, counts[1], counts[0], 16 * count);
    same("filter_sample", o->name, totals[1], totals[0], 16);
}

static void check_bind(const operations *o) {
    const int64_t count = below(LEAVES + 1), bytes_each = (int64_t)sizeof(sq_leaf);
    const int64_t ends_most = SQ_CODES - 5;
    sq_leaf *leaves[2];
    double *intervals[2], *ends = array(8 * ends_most, 8);
    uint8_t *tables[2];
    for (int64_t i = 0; i < ends_most; i++) ends[i] = (double)(i / 2) - 9.0;
    leaves[0] = array(count * bytes_each, 8);
    int64_t places = 0;
    for (int64_t i = 0; i < count; i++) {
        sq_leaf *leaf = &leaves[0][i];
        memset(leaf, 0, sizeof *leaf);
        leaf->end_count = below(ends_most + 1);
        leaf->ends = below(3) ? ends : NULL;
        leaf->interval_count = leaf->ends ? 1 : below(4) - 1;
        leaf->list_code = below(2) ? leaf->end_count + 4 : -1;
        places += leaf->interval_count < 0 ? 0 : leaf->interval_count;
    }
    leaves[1] = array(count * bytes_each, 8);
    memcpy(leaves[1], leaves[0], (size_t)(count * bytes_each));
    for (int i = 0; i < 2; i++) intervals[i] = array(16 * places, 8);
    for (int64_t i = 0; i < 2 * places; i++) {
        const double some = (double)below(60) / 2 - 12.0;
        intervals[0][i] = below(4) ? some : i & 1 ? __builtin_inf() : -__builtin_inf();
        intervals[1][i] = intervals[0][i];
    }
    for (int i = 0; i < 2; i++) {
        tables[i] = array(count * SQ_LEAF_TABLE_BYTES, 1);
        memset(tables[i], 3, (size_t)(count * SQ_LEAF_TABLE_BYTES));
        (i ? o : variants)->bind(leaves[i], count, intervals[i], tables[i]);
    }
    same("bind: tables", o->name, tables[1], tables[0], count * SQ_LEAF_TABLE_BYTES);
    same("bind: intervals", o->name, intervals[1], intervals[0], 16 * places);
}

static void check_expect(const operations *o, const world *w) {
    const int64_t leaves = 1 + below(LEAVES), steps = 2 * leaves - 1, ends_most = SQ_CODES - 5;
    const int64_t intervals_at = (int64_t)sizeof(sq_program) + leaves * (int64_t)sizeof(sq_leaf);
    const int64_t code_at = intervals_at + 16 * leaves, tables_at = code_at + 8 * steps;
    const int64_t found_at = tables_at + leaves * SQ_LEAF_TABLE_BYTES;
    const int64_t size = found_at + (int64_t)sizeof(sq_expected);
    double *ends = array(8 * ends_most, 8), *walked = array(8 * SQ_CELLS, 8);
    for (int64_t i = 0; i < ends_most; i++) ends[i] = (double)(i / 4);
    for (int64_t i = 0; i < SQ_CELLS; i++) walked[i] = (double)(1 + below(999)) / 7;
    uint8_t *rooms[2] = {array(size, 8), array(size, 8)};
    memset(rooms[0], 0, (size_t)size);
    sq_program *program = (sq_program *)rooms[0];
    sq_leaf *leaf = (sq_leaf *)(program + 1);
    double *intervals = (double *)(rooms[0] + intervals_at);
    int32_t *code = (int32_t *)(rooms[0] + code_at);
    *program = (sq_program){.operations = steps, .depth = 1 + (leaves > 1), .interval_leaves = leaves};
    for (int64_t i = 0; i < leaves; i++) {
        make_leaf(w, &leaf[i]);
        leaf[i].interval_count = 1;
        leaf[i].ends = ends;
        leaf[i].end_count = below(ends_most + 1);
        for (int64_t j = 2 * i; j < 2 * i + 2; j++)
            intervals[j] = below(5) ? (double)below(40) / 2 : j & 1 ? __builtin_inf() : -__builtin_inf();
        if (i) code[4 * i] = SQ_AND;
        if (i) code[4 * i - 1] = (int32_t)i; /* after SQ_LEAF, which is 0 */
    }
    memcpy(rooms[1], rooms[0], (size_t)size);
    const sq_ranges alike = {
        .leaves = leaves, .sample = leaves > 1 ? &w->table : NULL, .rows = 1 + below(999),
        .numbers = ends, .number_count = below(ends_most + 1), .step = 1 + below(5), .alive = 0.75,
    };
    const double some = 1.0 / (double)(1 + below(99));
    const sq_prices prices = {
        .rows = below(999), .clusters = below(99), .refined = below(40), .always_most = below(99),
        .lists = below(2), .whole = below(2), .unsure_most = 0.2, .listed = some,
        .filter_row = some, .open_row = 3 * some, .open_least = 0.01, .exact = 30.0,
        .preparation = 900.0, .begun = 70.0, .signs = 0.5, .gathered = 12.0, .surviving = 0.1,
        .thinning = some, .walked = walked,
    };
    for (int i = 0; i < 2; i++) (i ? o : variants)->expect(&alike, &prices, rooms[i]);
    same("expect: intervals", o->name, rooms[1] + intervals_at, rooms[0] + intervals_at, 16 * leaves);
    same("expect: found", o->name, rooms[1] + tables_at, rooms[0] + tables_at, size - tables_at);
}

typedef struct listed {
    uint32_t slot;
    int code;
    double number; /* infinite: none */
} listed;

static int by_number(const void *left, const void *right) {
    const listed *x = left, *y = right;
    if (x->code != y->code) return x->code < y->code ? -1 : 1;
    if (x->number != y->number) return x->number < y->number ? -1 : 1;
    return x->slot < y->slot ? -1 : x->slot > y->slot;
}

static void make_list(const world *w, const sq_leaf *leaf, sq_list *list) {
    const sq_table *t = &w->table;
    int64_t *begins = numbers(257), *numbered = numbers(256), n = 0;
    listed *rows = array(32 * w->blocks * (int64_t)sizeof *rows, 8);
    memset(begins, 0, 257 * 8);
    memset(numbered, 0, 256 * 8);
    for (int64_t c = 0; c < t->clusters; c++) {
        const int64_t p = t->partition[c];
        if (!leaf->column[p]) continue;
        for (int64_t r = 0; r < t->rows[c]; r++) {
            const int64_t row = t->first_row[c] + r;
            const int has = leaf->ids[p] && leaf->ids[p][row] < leaf->number_counts[p];
            const uint32_t slot = (uint32_t)(32 * t->first_block[c] + r);
            const int code = leaf->column[p][row];
            const double number = has ? leaf->numbers[p][leaf->ids[p][row]] : __builtin_inf();
            const listed one = {slot, code, number};
            rows[n++] = one;
            begins[code + 1]++;
            numbered[code] += has;
        }
    }
    if (n) qsort(rows, (size_t)n, sizeof *rows, by_number);
    uint32_t *slots = array(4 * n, 4);
    for (int64_t i = 0; i < n; i++) slots[i] = rows[i].slot;
    for (int c = 0; c < 256; c++) {
        begins[c + 1] += begins[c];
        numbered[c] += begins[c];
    }
    list->columns = leaf->column;
    list->slots = slots;
    list->begins = begins;
    list->numbered = numbered;
}

/* Lists give the counts of a filter of all clusters, in every variant. */
static void check_listed(const operations *o, const world *w, const sq_program *program) {
    const sq_table *t = &w->table;
    const int64_t c = t->clusters, words = 4 * w->blocks;
    if (w->blocks > 1000) return;
    sq_list *list = array(LEAVES * (int64_t)sizeof *list, 8);
    uint32_t *owners = array(words, 4);
    for (int64_t i = 0; i < c; i++)
        for (int64_t b = 0; b < (t->rows[i] + 31) / 32; b++)
            owners[t->first_block[i] + b] = (uint32_t)i;
    const sq_lists lists = {below(LEAVES + 1), list, owners};
    for (int64_t i = 0; i < lists.count; i++) make_list(w, &program->leaves[i], &list[i]);
    const int64_t most = below(2) ? INT64_MAX - 1 : below(32 * w->blocks + 1);
    uint64_t *stack = array(8 * SQ_STACK_WORDS * program->depth, 8);
    uint32_t *sure[2], *possible[2];
    int64_t *counts[2], rows[2];
    for (int i = 0; i < 2; i++) {
        sure[i] = array(words, 4);
        possible[i] = array(words, 4);
        counts[i] = numbers(2 * c);
        memset(sure[i], 0x5a, (size_t)words);
        memset(possible[i], 0x5a, (size_t)words);
        memset(counts[i], 0x5a, (size_t)(16 * c));
        rows[i] = (i ? o : variants)->filter_listed(t, program, &lists, most, sure[i], possible[i],
                                                    counts[i], counts[i] + c, stack);
    }
    same("filter_listed: rows", o->name, &rows[1], &rows[0], 8);
    same("filter_listed: sure", o->name, sure[1], sure[0], words);
    same("filter_listed: possible", o->name, possible[1], possible[0], words);
    same("filter_listed: counts", o->name, counts[1], counts[0], 16 * c);
    if (rows[1] < 0) return;
    int64_t *clusters = numbers(c), *wanted = numbers(2 * c);
    for (int64_t i = 0; i < c; i++) clusters[i] = i;
    o->filter(t, program, c, clusters, sure[0], possible[0], wanted, wanted + c, stack);
    same("filter_listed: counts of all", o->name, counts[1], wanted, 16 * c);
}

static void check_walk(const operations *o, const world *w, const sq_program *program) {
    const sq_table *t = &w->table;
    float *distances = floats(t->clusters);
    if (below(2))
        for (int64_t i = 0; i < t->clusters; i++) distances[i] = (float)(below(9) - 4) * 0.5f;
    double *inverse_need = array(8 * SQ_CELLS, 8), *adverse = array(8 * SQ_CELLS, 8);
    const double gain = 1.0 / (double)(1 + below(300));
    for (int i = 0; i < SQ_CELLS; i++) {
        inverse_need[i] = unit() * gain;
        adverse[i] = unit();
    }
    int64_t *taken[2], *sums[2], count[2];
    const int counted = below(3) == 0;
    sq_walk asked = {
        .program = below(3) ? program : NULL,
        .sure_counts = counted ? t->alive_counts : NULL,
        .possible_counts = counted ? t->alive_counts : NULL,
        .inverse_need = inverse_need,
        .adverse = adverse,
        .k = below(2) ? below(200) : 100000,
        .overall = unit() * 0.5,
        .prior_rows = 1024,
        .thinning = unit(),
        .need_against = 1 + 4 * unit(),
        .anchor_rows = below(2) ? INT64_MAX : below(500),
        .exponent = below(5),
    };
    for (int i = 0; i < 2; i++) {
        taken[i] = numbers(3 * t->clusters);
        sums[i] = numbers(3);
        memset(taken[i], 0, (size_t)(24 * t->clusters));
        asked.sure = array(4 * w->blocks, 4);
        asked.possible = array(4 * w->blocks, 4);
        count[i] = (i ? o : variants)
                       ->walk(t, distances, &asked, taken[i], sums[i], array(8 * t->clusters, 8),
                              array(8 * SQ_STACK_WORDS * program->depth, 8));
    }
    same("walk: count", o->name, &count[1], &count[0], 8);
    same("walk: taken", o->name, taken[1], taken[0], 24 * t->clusters);
    same("walk: sums", o->name, sums[1], sums[0], 24);
}

static void check_top_k(const operations *o) {
    const int64_t n = some_size(2000), k = some_size(n);
    float *values = floats(n);
    double *wide = array(8 * n, 8);
    for (int64_t i = 0; i < n; i++) {
        if (below(4) == 0) values[i] = (float)(below(5) - 2);
        if (below(50) == 0) values[i] = __builtin_nanf("");
        wide[i] = values[i];
    }
    int64_t *places[3];
    for (int i = 0; i < 2; i++) {
        places[i] = numbers(k);
        (i ? o : variants)->top_k_f32(values, n, k, places[i]);
    }
    same("top_k_f32", o->name, places[1], places[0], 8 * k);
    places[2] = numbers(k);
    o->top_k_f64(wide, n, k, places[2], array(8 * k, 8));
    same("top_k_f64", o->name, places[2], places[0], 8 * k);
}

/* ---- scan, distances, refine ---- */

static uint16_t half_of(double x) { /* 0 <= x < 1, cut to ten bits: every such half is normal or 0 */
    int exponent = 15;
    if (x < 0x1p-14) return 0;
    while (x < 1) x *= 2, exponent--;
    return (uint16_t)(exponent << 10 | (int)((x - 1) * 1024));
}

/* One block's factors, as small or as large as `scale`; a row in eight is its own center. Where
 * they are `odd`, a secant in ten is infinite or NaN. */
static void make_factors(uint8_t *factors, float scale, int odd) {
    static const uint16_t odd_halves[] = {0x7c00, 0xfc00, 0x7e00};
    for (int64_t j = 0; j < SQ_BLOCK_ROWS; j++) {
        const int own = below(8) == 0;
        const float norm = own ? 0 : scale * (float)(0.2 + unit());
        const uint16_t secant = odd && below(10) == 0 ? odd_halves[below(3)]
                                : own                 ? 0
                                                      : half_of(0.99) + (uint16_t)below(400);
        const uint16_t shift = own ? 0 : half_of(unit() * 0.1) | (uint16_t)(below(2) << 15);
        const uint16_t sine = own ? 0 : half_of(unit() * unit());
        memcpy(factors + 4 * j, &norm, 4);
        memcpy(factors + 128 + 2 * j, &secant, 2);
        memcpy(factors + 192 + 2 * j, &shift, 2);
        memcpy(factors + 256 + 2 * j, &sine, 2);
    }
}

static void make_codes(world *w, float scale) {
    sq_table *t = &w->table;
    const int64_t signs = (t->dimension + 3) / 4 * 16, block = signs + SQ_BLOCK_FACTOR_BYTES;
    const int64_t width = (t->dimension + 1) / 2;
    const uint8_t **blocks = array(PARTITIONS * 8, 8), **full = array(PARTITIONS * 8, 8);
    const float **vectors = array(PARTITIONS * 8, 8);
    int64_t *row_base = numbers(PARTITIONS), base = below(1000);
    const int odd = below(4) == 0;
    for (int p = 0; p < PARTITIONS; p++) {
        uint8_t *made = bytes(w->partition_blocks[p] * block, 1);
        for (int64_t b = 0; b < w->partition_blocks[p]; b++)
            make_factors(made + b * block + signs, scale, odd);
        blocks[p] = made;
        uint8_t *codes = bytes(w->partition_rows[p] * width, 1);
        /* The last nibble of an odd dimension is not a code. Some rows are another's twins. */
        for (int64_t r = 0; r < w->partition_rows[p]; r++) {
            if (r && below(4) == 0) memcpy(codes + r * width, codes + (r - 1) * width, (size_t)width);
            if (t->dimension % 2) codes[r * width + width - 1] &= 15;
        }
        full[p] = codes;
        float *rows = array(4 * w->partition_rows[p] * t->vector_dimension, 1);
        for (int64_t i = 0; i < w->partition_rows[p] * t->vector_dimension; i++) {
            const float x = normal() * scale;
            memcpy((char *)rows + 4 * i, &x, 4);
        }
        vectors[p] = rows;
        row_base[p] = base;
        base += w->partition_rows[p];
    }
    double *norms = array(8 * t->clusters, 8);
    for (int64_t i = 0; i < t->clusters; i++) norms[i] = unit() * scale;
    t->blocks = blocks;
    t->full = full;
    t->vectors = vectors;
    t->row_base = row_base;
    t->center_norms = norms;
}

static void *zeros(int64_t size, int64_t step) { return memset(array(size, step), 0, (size_t)size); }

/* Returns a scan whose answer lies in memory of its own. */
static sq_scan_call answered(const sq_table *t, sq_scan_call call) {
    const int64_t levels = ((t->dimension + 1) / 2 + 63) / 64 * SQ_SCAN_LEVEL_BYTES;
    call.partition = zeros(8 * call.keep, 8);
    call.row = zeros(8 * call.keep, 8);
    call.estimates = zeros(4 * call.keep, 4);
    call.lower_bounds = zeros(4 * call.keep, 4);
    call.counts = zeros(32, 8);
    call.room =
        array(call.keep * SQ_SCAN_ROW_BYTES + call.count * SQ_SCAN_CLUSTER_BYTES + levels, 8);
    return call;
}

static sq_scan_call make_scan(const world *w, float scale) {
    const sq_table *t = &w->table;
    const int64_t groups = (t->dimension + 3) / 4;
    int64_t *clusters = numbers(t->clusters), rows = 0;
    for (int64_t i = 0; i < t->clusters; i++) clusters[i] = i;
    for (int64_t i = t->clusters - 1; i > 0; i--) {
        const int64_t j = below(i + 1), other = clusters[j];
        clusters[j] = clusters[i], clusters[i] = other;
    }
    sq_scan_call call = {.clusters = clusters, .count = below(t->clusters + 1)};
    for (int64_t i = 0; i < call.count; i++) rows += t->rows[clusters[i]];
    uint32_t *possible = array(4 * w->blocks, 4);
    const int sparse = below(2) == 0;
    for (int64_t i = 0; i < w->blocks; i++)
        possible[i] = t->alive[i] & (uint32_t)(sparse ? chance() & chance() & chance() : chance());
    call.possible = below(3) ? possible : NULL;
    double *projected = array(8 * t->dimension, 8);
    double total = 0;
    for (int64_t i = 0; i < t->dimension; i++) {
        projected[i] = (double)normal() * scale / __builtin_sqrt((double)t->dimension);
        total += projected[i] < 0 ? -projected[i] : projected[i];
    }
    if (below(10) == 0) memset(projected, 0, (size_t)(8 * t->dimension));
    call.projected = projected;
    call.offset = t->space == SQ_SPACE_L2 ? 0 : unit() * scale;
    call.entries = bytes(16 * groups, 1);
    call.step = 2 * total / (255 * (double)groups);
    call.base = -total;
    call.keep = some_size(300);
    if (call.keep > rows) call.keep = rows;
    call.reach = unit();
    call.share_min = below(3) ? 0.3 * unit() : 0;
    call.bounds = below(2);
    return call;
}

static void check_refine(const operations *o, const world *w, const sq_scan_call *ranked,
                         int64_t kept) {
    const sq_table *t = &w->table;
    const float *query = floats(t->vector_dimension);
    const int64_t metric = below(3), k = 1 + some_size(40);
    double *distances[2];
    int64_t read[2];
    for (int i = 0; i < 2; i++) {
        distances[i] = array(8 * kept, 8);
        read[i] = (i ? o : variants)
                      ->refine(t, metric, query, ranked->partition, ranked->row,
                               ranked->lower_bounds, kept, k, distances[i], array(8 * k, 8));
    }
    same("refine: read", o->name, &read[1], &read[0], 8);
    same("refine", o->name, distances[1], distances[0], 8 * kept);
}

static void same_kept(const char *what, const operations *o, const sq_scan_call *got, int64_t kept,
                      const sq_scan_call *wanted, int64_t wanted_kept) {
    const int64_t keep = wanted->keep;
    same(what, o->name, &kept, &wanted_kept, 8);
    same(what, o->name, got->partition, wanted->partition, 8 * keep);
    same(what, o->name, got->row, wanted->row, 8 * keep);
    same(what, o->name, got->estimates, wanted->estimates, 4 * keep);
    same(what, o->name, got->lower_bounds, wanted->lower_bounds, 4 * keep);
}

static void check_scan(const operations *o, world *w) {
    static const float scales[] = {1e-20f, 1e-3f, 1, 1, 1e12f};
    const sq_table *t = &w->table;
    const float scale = scales[below(sizeof scales / sizeof *scales)];
    make_codes(w, scale);
    float *centers = array(4 * t->clusters * t->dimension, 4);
    for (int64_t i = 0; i < t->clusters * t->dimension; i++)
        centers[i] = t->centers[i] * scale / __builtin_sqrtf((float)t->dimension);
    w->table.centers = centers;
    const sq_scan_call call = make_scan(w, scale);
    sq_scan_call got[2];
    int64_t kept[2];
    for (int i = 0; i < 2; i++) {
        got[i] = answered(t, call);
        kept[i] = (i ? o : variants)->scan(t, &got[i]);
    }
    same_kept("scan", o, &got[1], kept[1], &got[0], kept[0]);
    same("scan: counts", o->name, got[1].counts, got[0].counts, 32);
    /* What is kept has nothing to do with the order of the clusters. */
    int64_t *reversed = numbers(call.count);
    for (int64_t i = 0; i < call.count; i++) reversed[i] = call.clusters[call.count - 1 - i];
    sq_scan_call back = call;
    back.clusters = reversed;
    back = answered(t, back);
    kept[1] = o->scan(t, &back);
    same_kept("scan, backwards", o, &back, kept[1], &got[0], kept[0]);
    same("scan, backwards: counts", o->name, back.counts, got[0].counts, 16);
    check_refine(o, w, &got[0], kept[0]);
}

static void check_gather(const operations *o, const world *w) {
    const sq_table *t = &w->table;
    int64_t *clusters = numbers(t->clusters);
    for (int64_t i = 0; i < t->clusters; i++) clusters[i] = below(t->clusters);
    const int64_t n =
        variants->gather_rows(t, clusters, t->clusters, t->alive, NULL, NULL);
    int64_t *partition[2], *row[2];
    for (int i = 0; i < 2; i++) {
        partition[i] = numbers(n);
        row[i] = numbers(n);
        const operations *by = i ? o : variants;
        if (by->gather_rows(t, clusters, t->clusters, t->alive, partition[i], row[i]) != n) exit(1);
    }
    same("gather_rows: partition", o->name, partition[1], partition[0], 8 * n);
    same("gather_rows: row", o->name, row[1], row[0], 8 * n);
}

/* Records of any bytes, mostly of keys, at offsets that may lie anywhere. */
static void check_keys(const operations *o) {
    const int64_t partitions = 1 + below(3), n = some_size(70), most = below(400);
    sq_records *records = array(partitions * (int64_t)sizeof *records, 8);
    for (int64_t p = 0; p < partitions; p++) {
        const int64_t rows = below(6), bytes = 16 * rows + below(3);
        uint8_t *data = array(bytes, 1);
        int64_t *begins = numbers(rows + 1);
        for (int64_t i = 0; i < bytes; i++) data[i] = (uint8_t)below(256);
        for (int64_t i = 0; i <= rows; i++) begins[i] = 16 * i;
        for (int64_t r = 0; r < rows; r++) {
            const int64_t length = below(12);
            uint8_t *at = data + 16 * r;
            memset(at + 2, 'k', 12);
            memcpy(at, "[\"", 2);
            if (length <= 10) memcpy(at + 2 + length, "\",{", 3);
            if (!below(20)) at[below(16)] = "\\\"\n"[below(3)];
        }
        if (rows && !below(8)) begins[below(rows + 1)] = below(bytes + 40) - 20;
        records[p] = (sq_records){data, bytes, begins, rows};
    }
    int64_t *partition = numbers(n), *row = numbers(n);
    for (int64_t i = 0; i < n; i++) {
        partition[i] = below(partitions) - !below(500);
        const int64_t rows = records[partition[i] < 0 ? 0 : partition[i]].rows;
        row[i] = below(rows ? rows + !below(50) : 1) - !below(500);
    }
    uint8_t *room[2];
    int64_t found[2];
    for (int i = 0; i < 2; i++) {
        room[i] = zeros(most, 1);
        found[i] = (i ? o : variants)->gather_keys(records, partitions, partition, row, n, room[i], most);
    }
    same("gather_keys", o->name, room[1], room[0], most);
    same("gather_keys: bytes", o->name, &found[1], &found[0], 8);
}

static void check_distances(const operations *o) {
    const int64_t d = 1 + some_size(300), n = some_size(40), m = n ? some_size(40) : 0;
    const int64_t metric = below(3), half = below(2), size = half ? 2 : 4;
    uint8_t *vectors = array(n * d * size, 1);
    for (int64_t i = 0; i < n * d; i++) {
        const float x = normal() * 1e6f;
        const uint16_t h = half_of(unit()) | (uint16_t)(below(2) << 15);
        memcpy(vectors + i * size, half ? (const void *)&h : (const void *)&x, (size_t)size);
    }
    const float *query = floats(d);
    int64_t *rows = numbers(m);
    for (int64_t i = 0; i < m; i++) rows[i] = below(n);
    for (int gathered = 0; gathered < 2; gathered++) {
        const int64_t count = gathered ? m : n;
        double *distances[2];
        for (int i = 0; i < 2; i++) {
            distances[i] = array(8 * count, 8);
            (i ? o : variants)->exact_distances(metric, query, d, vectors, half,
                                                gathered ? rows : NULL, count, distances[i]);
        }
        same("exact_distances", o->name, distances[1], distances[0], 8 * count);
    }
}

static int by_value(const void *left, const void *right) {
    const double x = *(const double *)left, y = *(const double *)right;
    return x < y ? -1 : x > y;
}

/* What is left out is farther than the k-th, and all else is what `row_distances` says. */
static void check_near(const operations *o) {
    static const float scales[] = {0, 1e-30f, 1e-12f, 1, 1, 1e16f, 1e19f};
    const int64_t d = 1 + some_size(200), n = 1 + some_size(200), k = 1 + below(9);
    const int64_t metric = below(3);
    const float scale = scales[below(sizeof scales / sizeof *scales)];
    float *rows = array(4 * n * d, 4), *query = floats(d);
    for (int64_t i = 0; i < d; i++) query[i] *= scale;
    const float apart = below(2) ? 1 : 1e-4f; /* near one another, as float32 hardly tells */
    for (int64_t i = 0; i < n * d; i++)
        rows[i] = below(2) ? query[i % d] : query[i % d] + normal() * scale * apart;
    const float *vectors[1] = {rows};
    const sq_table table = {.partitions = 1, .vector_dimension = d, .vectors = vectors};
    int64_t *partition = numbers(n), *row = numbers(n);
    memset(partition, 0, (size_t)(8 * n));
    for (int64_t i = 0; i < n; i++) row[i] = below(n);
    double *all = array(8 * n, 8), *near = array(8 * n, 8), *sorted = array(8 * n, 8);
    o->row_distances(&table, metric, query, partition, row, n, all);
    o->near_distances(&table, metric, query, partition, row, n, k, array(4 * n, 4),
                      array(4 * n, 4), near, array(8 * k, 8));
    int64_t count = 0;
    for (int64_t i = 0; i < n; i++)
        if (all[i] == all[i]) sorted[count++] = all[i];
    qsort(sorted, (size_t)count, sizeof *sorted, by_value);
    for (int64_t i = 0; i < n; i++) {
        if (all[i] != all[i] || (near[i] != near[i] && count >= k && all[i] > sorted[k - 1])) continue;
        same("near_distances", o->name, &near[i], &all[i], 8);
    }
}

int main(int argc, char **argv) {
    const int64_t rounds = argc > 1 ? atoll(argv[1]) : 1000;
    const uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    const uint32_t runnable = sq_variants();
    printf("seed %llu:", (unsigned long long)seed);
    for (int v = 0; v < VARIANTS; v++) {
        if (!(runnable & variants[v].bit)) {
            printf(" (no %s)", variants[v].name);
            continue;
        }
        for (int64_t round = 0; round < rounds; round++) {
            chance_state = seed + (uint64_t)round;
            world w;
            sq_program program;
            make_world(&w);
            make_program(&w, &program);
            check_rotate(&variants[v]);
            check_prepare(&variants[v], &w);
            check_lazily(&variants[v], &w);
            check_filter(&variants[v], &w, &program);
            check_listed(&variants[v], &w, &program);
            check_bind(&variants[v]);
            check_expect(&variants[v], &w);
            check_walk(&variants[v], &w, &program);
            check_top_k(&variants[v]);
            check_scan(&variants[v], &w);
            check_gather(&variants[v], &w);
            check_keys(&variants[v]);
            check_distances(&variants[v]);
            check_near(&variants[v]);
            free_arrays();
        }
        printf(" %s", variants[v].name);
    }
    printf(" agree, digest %016llx\n", (unsigned long long)digest);
    return 0;
}
