/* The C interface of Squash's kernels: README.md says what each operation computes, to the bit.
 *
 * Everything is little-endian. Pointers need no alignment beyond that of their type, those to
 * vectors, blocks and codes none at all. Nothing is read or written beyond an array's end, nothing
 * is allocated, and no argument is kept. Include it once a variant, with SQ_VARIANT defined.
 */
#ifndef SQUASH_KERNELS_H
#define SQUASH_KERNELS_H

#include <stddef.h>
#include <stdint.h>

/* Grows with every change of a structure or prototype; squash/kernels/native.py has the same. */
#define SQ_INTERFACE 19

#define SQ_PASTE_(op, variant) sq_##op##_##variant
#define SQ_PASTE(op, variant) SQ_PASTE_(op, variant)
#define SQ_NAME(op) SQ_PASTE(op, SQ_VARIANT)
#define SQ_EXPORT __attribute__((visibility("default")))

enum { SQ_BLOCK_ROWS = 32, SQ_BLOCK_FACTOR_BYTES = 320 };
enum { SQ_SPACE_L2 = 0, SQ_SPACE_DOT = 1 };
enum { SQ_COSINE = 0, SQ_EUCLIDEAN = 1, SQ_DOT = 2 }; /* metrics */
enum { SQ_LEAF = 0, SQ_AND = 1, SQ_OR = 2, SQ_NOT = 3 };
enum { SQ_CELLS = 513 };      /* of shares, in a walk */
enum { SQ_CODES = 256, SQ_LEAF_TABLE_BYTES = SQ_CODES + 64 };
enum { SQ_SAMPLE_ROWS = 1024 };
enum { SQ_STACK_WORDS = 32 }; /* uint64 of one pair of bitmaps on a program's stack */

/* Bits of sq_variants(). */
enum { SQ_HAS_PORTABLE = 1, SQ_HAS_AVX2 = 2, SQ_HAS_AVX512 = 4, SQ_HAS_NEON = 8, SQ_HAS_NEONDOT = 16 };

/* squash.kernels.tables.ClusterTable; arrays by partition hold NULL where there is none. */
typedef struct sq_table {
    int64_t clusters;
    int64_t dimension; /* D */
    int64_t partitions;
    int64_t space;
    int64_t vector_dimension; /* d */
    const float *centers;
    const double *center_norms;
    const float *spreads; /* added to squared distances to centers; NULL: nothing is */
    const int64_t *rows;
    const int64_t *partition;
    const int64_t *first_row;
    const int64_t *first_block;
    const int64_t *local_block;
    const uint32_t *alive;
    const int64_t *alive_counts;
    const int64_t *row_base;
    const uint8_t *const *blocks;
    const uint8_t *const *full;
    const float *const *vectors;
    const uint8_t *coarse; /* the centers, as `coarsen` wrote them; NULL: not */
} sq_table;

/* squash.kernels.tables.Leaf, bound to one table. */
typedef struct sq_leaf {
    const uint8_t *const *column;      /* by partition */
    const uint64_t *const *signatures; /* by partition */
    const uint8_t *truth;              /* [256] */
    /* [sure, possible][2][16] bytes: the same as two sets of codes, for byte shuffles. Code c is
     * in a set if bit (c >> 4 & 7) of its byte [c >> 7][c & 15] is set. */
    const uint8_t *sets;
    int64_t list_code;                 /* -1: no lists */
    uint64_t sure_bits;
    uint64_t possible_bits;
    /* Values, for rows that their cells leave open; `intervals` NULL: none. Where a partition's
     * `ids` is NULL its rows stay open. */
    const double *const *numbers;    /* by partition, [number_counts] */
    const int64_t *number_counts;    /* by partition */
    const uint32_t *const *ids;      /* by partition, by row */
    const double *intervals;         /* [interval_count, 2], both ends included */
    int64_t interval_count;
    /* What `bind` makes the truth of, the leaf being one interval: the first number of every cell of
     * numbers but the first, ascending; the first's code is 1. NULL: the truth is there. */
    const double *ends;
    int64_t end_count;
} sq_leaf;

/* A valid postfix list: it leaves one pair, and never more than `depth` on the stack. */
typedef struct sq_program {
    int64_t operations;
    const int32_t *code; /* [operations, 2] */
    const sq_leaf *leaves;
    int64_t depth;
    int64_t interval_leaves; /* those with intervals come before all others */
} sq_program;

/* What filters have in common that ask for one interval of each of the same attributes, all of which
 * must hold; see squash.kernels.expecting. */
typedef struct sq_ranges {
    int64_t leaves;
    const sq_table *sample; /* NULL: of one attribute, whose numbers tell */
    int64_t rows;           /* of the sample, dead ones included; or of the table, at least 1 */
    const double *numbers;  /* [number_count], ascending: those of every `step`-th row */
    int64_t number_count;
    int64_t step;
    double alive;           /* the share of the table's rows that live */
} sq_ranges;

/* What plans are priced by: nanoseconds, unless a name says otherwise. */
typedef struct sq_prices {
    int64_t rows;     /* of the index, */
    int64_t clusters; /* and its clusters */
    int64_t refined;  /* rows that a walk measures */
    int64_t always_most; /* so many matches are all measured, whatever it costs */
    int64_t lists;       /* 0: it is too small for lists of rows */
    int64_t whole;       /* 0: vectors are read page by page, so that no more matches are all measured */
    double filter_row;   /* a comparison */
    double open_row;
    double open_least;   /* a share of rows */
    double unsure_most;  /* a share of those that pass: of more, all are filtered before a walk */
    double exact;
    double preparation;
    double begun;
    double signs;
    double gathered;
    double listed;       /* a row of a list, and as much again for every comparison that it is asked */
    double surviving;    /* a share of rows */
    double thinning;
    const double *walked; /* [SQ_CELLS]: clusters that walks take, by the share that passes */
} sq_prices;

typedef struct sq_expected {
    double share; /* of all rows: about which passes, */
    double open;  /* and which of them the cells leave open */
    double walk_ns;
    double scan_all_ns;
    double filter_ns;
    double walk_filter_ns;
    double scan_all; /* 1, or 0 */
    /* Whether all matches are measured at once, 1 or 0; -1: all rows have to be filtered before it is
     * known what to do. */
    double every;
    double listed_most; /* as `sq_search` has it */
} sq_expected;

/* The rows of an attribute, by cell, then by number; see squash.kernels.listed.RowList. A slot is
 * 32 * block + the row's place in it. */
typedef struct sq_list {
    const uint8_t *const *columns; /* as `sq_leaf.column`: by this address a leaf's list is found */
    const uint32_t *slots;
    const int64_t *begins;   /* [257], of each code's slots */
    const int64_t *numbered; /* [256], where those with a number end; these ascend */
} sq_list;

typedef struct sq_lists {
    int64_t count;
    const sq_list *lists;
    const uint32_t *owners; /* [all blocks]: the cluster of each */
} sq_lists;

/* What a walk is asked; see squash.kernels.walking.walk. */
typedef struct sq_walk {
    const sq_program *program;      /* NULL: all live rows */
    const int64_t *sure_counts;     /* [c]; NULL: not known, the program is evaluated */
    const int64_t *possible_counts; /* [c] */
    uint32_t *sure;                 /* [all blocks] */
    uint32_t *possible;             /* [all blocks] */
    const double *inverse_need;     /* [SQ_CELLS] */
    const double *adverse;          /* [SQ_CELLS] */
    int64_t k;
    double overall;
    double prior_rows;
    double thinning;
    double need_against; /* at least 1 */
    int64_t anchor_rows; /* INT64_MAX: there is no anchor */
    int64_t exponent;    /* 0: all clusters count alike */
} sq_walk;

/* A scan: what it is asked, where its answer goes, and room to work in.
 *
 * `keep` is at most the rows of the clusters, and below 2^32. `room` is aligned for a double and
 * has keep * SQ_SCAN_ROW_BYTES + count * SQ_SCAN_CLUSTER_BYTES bytes, and SQ_SCAN_LEVEL_BYTES for
 * every 64 bytes of a full code, or part of them. */
typedef struct sq_scan_call {
    const int64_t *clusters; /* [count] */
    int64_t count;
    const uint32_t *possible; /* [all blocks], NULL for those alive */
    const double *projected;
    double offset;
    const uint8_t *entries;
    double step;
    double base;
    int64_t keep;
    double reach;
    double share_min;
    int64_t bounds;
    int64_t *partition; /* [keep] and so are the next three */
    int64_t *row;
    float *estimates;
    float *lower_bounds;
    int64_t *counts; /* [4]: admitted, low-scanned, ranked, the bits of the double least_left */
    void *room;
} sq_scan_call;

enum { SQ_SCAN_ROW_BYTES = 64, SQ_SCAN_CLUSTER_BYTES = 56, SQ_SCAN_LEVEL_BYTES = 640 };

/* The records of a partition, of which keys are read: row r's lies in begins[r] .. begins[r + 1] of
 * the data. No row is there where nothing is loaded. */
typedef struct sq_records {
    const uint8_t *data;
    int64_t bytes;
    const int64_t *begins; /* [rows + 1] */
    int64_t rows;
} sq_records;

/* How vectors are rotated about a mean: by a matrix, or by flips and Walsh-Hadamard transforms. */
enum { SQ_FLIPS = 6 };
typedef struct sq_rotation {
    const float *axes;    /* [D, d], or NULL */
    const uint8_t *flips; /* then [SQ_FLIPS, (d + 7) / 8], and D = d; else NULL */
    const float *mean;    /* [d] */
} sq_rotation;

/* A search: prepare, walk, scan and refine in one. Rooms as the operations want them; those by row
 * have place for `keep`, or for `straight_most` if that is more. */
typedef struct sq_search {
    const sq_rotation *rotation;
    int64_t vector_dimension;
    const float *query;
    int64_t metric;
    sq_walk walk;
    int64_t keep;
    double reach;
    double share_min;
    /* Up to so many admitted rows are measured without their codes: `straight_base`, and
     * `straight_each` for every cluster taken, but never more than `straight_most`. */
    int64_t straight_most;
    double straight_base;
    double straight_each;
    double *projected;
    uint8_t *entries;
    float *distances;
    double *scalars;
    double *scratch;
    int64_t *taken;
    uint64_t *keys;
    uint64_t *stack;
    int64_t *partition;
    int64_t *row;
    float *estimates;
    float *lower_bounds;
    double *measured;
    void *room;
    uint64_t *heap;
    void *items;             /* 16 bytes a row */
    double *near_distance;   /* the answer, ascending */
    int64_t *near_partition;
    int64_t *near_row;
    int64_t *counts;         /* [SQ_COUNTS] */
    void *coarse;            /* SQ_COARSE_QUERY_BYTES and 4 for each 4 of D, or part of them */
    /* How many rows of lists may be asked to filter all clusters before a walk, as `filter_listed` has
     * it; below 0, or where `lists` is NULL: none, the filter is evaluated in the walk. */
    const sq_lists *lists;
    int64_t listed_most;
    int64_t filtered_most; /* `search_all` measures so many rows of a program at most */
    int64_t *all_counts;   /* room: [2, c] */
    /* What keys of the rows found are read from, or NULL; see `gather_keys`. */
    const sq_records *records;
    int64_t record_partitions;
    uint8_t *key_room;
    int64_t key_room_bytes;
} sq_search;

enum { SQ_COARSE_QUERY_BYTES = 32 };

enum {
    SQ_ROWS_SEEN,
    SQ_POSSIBLE_SEEN,
    SQ_SURE_SEEN,
    SQ_TAKEN,
    SQ_LOW_SCANNED,
    SQ_RANKED,
    SQ_KEPT,
    SQ_READ,
    SQ_FILTERED, /* how many rows pass, where a program was evaluated for all clusters; else -1 */
    SQ_LISTED,   /* 1 where that was by lists, -1 where lists would have paid but did not serve, else 0 */
    SQ_KEY_BYTES, /* what `gather_keys` returns; -1 where it was not asked */
    SQ_EVERY,    /* 1 where all that passes was to be measured, else 0 */
    SQ_SINGLE,   /* 1 where no more than k rows are near, and none as near as another, else 0 */
    SQ_COUNTS
};
#define SQ_STAYS_OPEN INT64_MIN
#define SQ_TOO_MANY (INT64_MIN + 1)
#define SQ_NOT_AT_ONCE (INT64_MIN + 2)

/* Which objects of Python a search's rows are given as: of which class, at which of their bytes key and
 * distance stand, and at which None does. Without a class: the text of all records, and distances. */
enum { SQ_FORM_NONES_MAX = 6 };
typedef struct sq_form {
    void *type;
    int64_t key;
    int64_t distance;
    int64_t nones;
    int64_t none[SQ_FORM_NONES_MAX];
} sq_form;

/* What distances to centers are measured from when a walk asks for them; `narrow` float32 [D] is NULL
 * where all have been. */
typedef struct sq_lazily {
    const float *narrow;
    double offset;
} sq_lazily;

/* Several searches that differ in what stands here; all else is that of one `sq_search`. */
typedef struct sq_batch {
    int64_t count;        /* below 2^32 */
    const float *queries; /* [count, d] */
    const sq_program *const *programs; /* [count], NULL: all live rows */
    const double *overall;
    double *projected; /* room: [count, D] */
    uint8_t *entries;  /* [count, groups, 16] */
    float *distances;  /* [count, c] */
    double *scalars;   /* [count, 3] */
    float *narrow;     /* [count, D] */
    uint64_t *order;   /* [count] */
    int64_t near_most;
    /* The answers: what `search` returns, or SQ_TOO_MANY of more than `near_most`. */
    int64_t *found;
    double *near_distance; /* [count, near_most] and so are the next two */
    int64_t *near_partition;
    int64_t *near_row;
    int64_t *taken;  /* [count, c] */
    int64_t *counts; /* [count, SQ_COUNTS] */
    uint8_t *coarse; /* room: [count], each as sq_search has it */
    sq_lazily *lazily; /* room: [count] */
    /* Lists of rows, NULL: none; of each query, how many of them may be asked as `filter_listed` has
     * it, below 0: none, its filter is evaluated in the walk. */
    const sq_lists *lists;
    const int64_t *listed_most; /* [count] */
    int64_t *listed_counts;     /* room: [2, c] */
} sq_batch;

/* Which variants this processor can run. */
SQ_EXPORT uint32_t sq_variants(void);
SQ_EXPORT uint32_t sq_interface(void);
/* entry.c: a new function of Python that calls `search`, `search_all` or `ask`; NULL where there is no
 * Python. */
SQ_EXPORT void *sq_entry(void);

#endif

#ifdef SQ_VARIANT

/* prepare.c: `projected` [D], `entries` [groups, 16], `distances` [c]; `scalars` gets the offset, the
 * step and the base. `scratch` is float64 [d + D]; `unit` says that the query is scaled to length one
 * first. */
SQ_EXPORT void SQ_NAME(prepare)(const sq_table *table, const sq_rotation *by, const float *query,
                                int64_t vector_dimension, int64_t unit, double *projected,
                                uint8_t *entries, float *distances, double *scalars,
                                double *scratch);
/* rotate.c: rows float32 [n, d] by flips; `scratch` is float64 [2, d]. */
SQ_EXPORT void SQ_NAME(rotate_rows)(const sq_rotation *by, const float *rows, int64_t n, int64_t d,
                                    float *found, double *scratch);

/* filter.c: `stack` is uint64 [program->depth, SQ_STACK_WORDS]. */
SQ_EXPORT void SQ_NAME(filter)(const sq_table *table, const sq_program *program, int64_t count,
                               const int64_t *clusters, uint32_t *sure, uint32_t *possible,
                               int64_t *sure_counts, int64_t *possible_counts, uint64_t *stack);
/* Of the first SQ_SAMPLE_ROWS rows of every cluster. totals: the sure, the possible. */
SQ_EXPORT void SQ_NAME(filter_sample)(const sq_table *table, const sq_program *program,
                                      int64_t *totals, uint64_t *stack);

/* bind.c: gives `count` leaves their places, an interval_count below 0 standing for no intervals.
 * `intervals` has those of all leaves, one leaf after the other; of a leaf with `ends` it is [low,
 * high), infinite where it is open, and becomes one with both ends included. `tables` has
 * SQ_LEAF_TABLE_BYTES a leaf, its truth and its sets; those of a leaf with `ends` are written. */
SQ_EXPORT void SQ_NAME(bind)(sq_leaf *leaves, int64_t count, double *intervals, uint8_t *tables);

/* expect.c: `room` holds, one behind the other, an sq_program, its sq_leafs, intervals, operations and
 * tables, all but the intervals as they are for every filter of `alike`; then there is place for what
 * is found, an sq_expected. The program becomes bound, by `bind`. */
SQ_EXPORT void SQ_NAME(expect)(const sq_ranges *alike, const sq_prices *prices, uint8_t *room);

/* listed.c: filters all clusters by lists, and returns how many rows that took; or, if it would be
 * more than `rows_most`, writes nothing and returns -1. Counts are int64 [c]; the bitmaps of
 * clusters without a possible row are left alone. */
SQ_EXPORT int64_t SQ_NAME(filter_listed)(const sq_table *table, const sq_program *program,
                                         const sq_lists *lists, int64_t rows_most, uint32_t *sure,
                                         uint32_t *possible, int64_t *sure_counts,
                                         int64_t *possible_counts, uint64_t *stack);

/* walk.c: writes the clusters taken, their sure and their possible rows, at `taken`, `taken + c` and
 * `taken + 2 c`, and sums: rows, possible, sure seen; returns how many were taken. `keys` is uint64
 * [c]; `stack` as for filter. */
SQ_EXPORT int64_t SQ_NAME(walk)(const sq_table *table, const float *distances, const sq_walk *asked,
                                int64_t *taken, int64_t *sums, uint64_t *keys, uint64_t *stack);

/* top_k.c: places of the k smallest values, 0 <= k <= n; `heap` has room for k. */
SQ_EXPORT void SQ_NAME(top_k_f32)(const float *values, int64_t n, int64_t k, int64_t *places);
SQ_EXPORT void SQ_NAME(top_k_f64)(const double *values, int64_t n, int64_t k, int64_t *places,
                                  uint64_t *heap);

/* scan.c: how many rows were kept; or -1 - i if partition i is not loaded, INT64_MIN if a cluster
 * is not there. */
SQ_EXPORT int64_t SQ_NAME(scan)(const sq_table *table, const sq_scan_call *call);

/* distances.c: of `rows`, or of the first n where they are NULL; `half` says float16. */
SQ_EXPORT void SQ_NAME(exact_distances)(int64_t metric, const float *query, int64_t dimension,
                                        const void *vectors, int64_t half, const int64_t *rows,
                                        int64_t n, double *distances);
/* -1; or i if partition i is not loaded. */
SQ_EXPORT int64_t SQ_NAME(row_distances)(const sq_table *table, int64_t metric, const float *query,
                                         const int64_t *partition, const int64_t *row, int64_t n,
                                         double *distances);
/* How many were read, or -1 - i if partition i is not loaded; 1 <= k, `heap` has room for k. */
SQ_EXPORT int64_t SQ_NAME(refine)(const sq_table *table, int64_t metric, const float *query,
                                  const int64_t *partition, const int64_t *row,
                                  const float *lower_bounds, int64_t n, int64_t k,
                                  double *distances, uint64_t *heap);
/* How many rows there are; they are written unless `row` is NULL. */
SQ_EXPORT int64_t SQ_NAME(gather_rows)(const sq_table *table, const int64_t *clusters, int64_t n,
                                       const uint32_t *possible, int64_t *partition, int64_t *row);

/* records.c: how many bytes n keys take, each with a line feed behind it, written as far as there is
 * room for whole ones; or -1 if one of them has no record, or one that is not `["key",{` without
 * escapes. */
SQ_EXPORT int64_t SQ_NAME(gather_keys)(const sq_records *records, int64_t partitions,
                                       const int64_t *partition, const int64_t *row, int64_t n,
                                       uint8_t *room, int64_t room_bytes);

/* search.c: how many rows are near; or -1 - i if partition i is not loaded, or SQ_STAYS_OPEN if
 * cells leave rows of the clusters taken open. Those are at `taken` in both cases. */
SQ_EXPORT int64_t SQ_NAME(search)(const sq_table *table, const sq_search *asked);
/* The same of all rows that pass, those of counts, of a program or all alive, in whatever cluster: they
 * are measured one by one. SQ_STAYS_OPEN also where they are more than `straight_most`, or of a program
 * more than `filtered_most`; what it admits is then at `all_counts` and in its bitmaps. */
SQ_EXPORT int64_t SQ_NAME(search_all)(const sq_table *table, const sq_search *asked);
/* `expect`, then `search` or `search_all` of what is admitted by it, or SQ_NOT_AT_ONCE. Of `asked` the
 * program, the overall share, `listed_most` and `filtered_most` are not looked at. */
SQ_EXPORT int64_t SQ_NAME(ask)(const sq_table *table, const sq_search *asked, const sq_ranges *alike,
                               const sq_prices *prices, uint8_t *room);
/* The same of each of a batch, those near one another one after the other. */
SQ_EXPORT void SQ_NAME(search_many)(const sq_table *table, const sq_search *asked,
                                    const sq_batch *batch);
/* prepare.c: 1 if `coarse` holds the centers as bounds want them, 0 if some are too large or too small
 * for that. It has 16 * (4 * q + 16) bytes for every 16 clusters, or part of them, where q = ceil(D / 4),
 * and `levels` has room for D. */
SQ_EXPORT int64_t SQ_NAME(coarsen)(const sq_table *table, uint8_t *coarse, int8_t *levels);

/* Within the library. `expect`, which says where in the room that is. */
const sq_expected *SQ_NAME(expected)(const sq_ranges *alike, const sq_prices *prices, uint8_t *room);
/* `prepare` of a search, with lower bounds of distances where that is enough. */
sq_lazily SQ_NAME(prepare_lazily)(const sq_table *table, const sq_search *asked);
/* The distances to the centers at some places. */
void SQ_NAME(center_distances)(const sq_table *table, const sq_lazily *by, const uint64_t *places,
                               int64_t n, float *found);
/* distances.c: `row_distances` of rows whose nearest k are wanted, 1 <= k; NaN of those that are not
 * among them. `lower` and `upper` have room for n, `heap` for k. */
int64_t SQ_NAME(near_distances)(const sq_table *table, int64_t metric, const float *query,
                                const int64_t *partition, const int64_t *row, int64_t n, int64_t k,
                                float *lower, float *upper, double *distances, uint64_t *heap);
/* `walk`, where `distances` may be lower bounds. */
int64_t SQ_NAME(walk_lazily)(const sq_table *table, const float *distances, const sq_lazily *by,
                             const sq_walk *asked, int64_t *taken, int64_t *sums, uint64_t *keys,
                             uint64_t *stack);
/* prepare.c, for search_many: `prepare` of all queries of a batch, center by center. */
void SQ_NAME(prepare_many)(const sq_table *table, const sq_rotation *by, const sq_batch *batch,
                           int64_t vector_dimension, int unit, double *scratch);

#endif
