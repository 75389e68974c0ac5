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
#define SQ_INTERFACE 1

#define SQ_PASTE_(op, variant) sq_##op##_##variant
#define SQ_PASTE(op, variant) SQ_PASTE_(op, variant)
#define SQ_NAME(op) SQ_PASTE(op, SQ_VARIANT)
#define SQ_EXPORT __attribute__((visibility("default")))

enum { SQ_BLOCK_ROWS = 32, SQ_BLOCK_FACTOR_BYTES = 320 };
enum { SQ_SPACE_L2 = 0, SQ_SPACE_DOT = 1 };
enum { SQ_LEAF = 0, SQ_AND = 1, SQ_OR = 2, SQ_NOT = 3 };
enum { SQ_CELLS = 513 }; /* of shares, in a walk */

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
} sq_table;

/* squash.kernels.tables.Leaf, bound to one table. */
typedef struct sq_leaf {
    const uint8_t *const *column;      /* by partition */
    const uint64_t *const *signatures; /* by partition */
    const uint8_t *truth;              /* [256] */
    int64_t list_code;                 /* -1: no lists */
    uint64_t sure_bits;
    uint64_t possible_bits;
} sq_leaf;

/* A valid postfix list: it leaves one pair, and never more than `depth` on the stack. */
typedef struct sq_program {
    int64_t operations;
    const int32_t *code; /* [operations, 2] */
    const sq_leaf *leaves;
    int64_t depth;
} sq_program;

/* Which variants this processor can run. */
SQ_EXPORT uint32_t sq_variants(void);
SQ_EXPORT uint32_t sq_interface(void);

#endif

#ifdef SQ_VARIANT

/* top_k.c: places of the k smallest values, 0 <= k <= n; `heap` has room for k. */
SQ_EXPORT void SQ_NAME(top_k_f32)(const float *values, int64_t n, int64_t k, int64_t *places);
SQ_EXPORT void SQ_NAME(top_k_f64)(const double *values, int64_t n, int64_t k, int64_t *places,
                                  uint64_t *heap);

#endif
