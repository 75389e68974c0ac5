/* Whole numbers that ascend as floats do; -0 and 0 are one, and all NaN are one, the largest. */
#ifndef SQ_KEYS_H
#define SQ_KEYS_H

#include "variant.h"

SQ_INLINE uint32_t sq_key_f32(float x) {
    const uint32_t bits = sq_bits_f32(x + 0.0f);
    if (x != x) return UINT32_MAX;
    return bits >> 31 ? ~bits : bits | 0x80000000u;
}

SQ_INLINE uint64_t sq_key_f64(double x) {
    const uint64_t bits = sq_bits_f64(x + 0.0);
    if (x != x) return UINT64_MAX;
    return bits >> 63 ? ~bits : bits | 0x8000000000000000u;
}

/* The float of a key; of UINT64_MAX, NaN. */
SQ_INLINE double sq_f64_of_key(uint64_t key) {
    const uint64_t bits = key >> 63 ? key & 0x7fffffffffffffffu : ~key;
    double x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* The float of a key; of UINT32_MAX, NaN. */
SQ_INLINE float sq_f32_of_key(uint32_t key) {
    return sq_f32_of_bits(key >> 31 ? key & 0x7fffffffu : ~key);
}

/* A heap with its largest on top; `n` of them, of which the one at `hole` is to be `key`. */
SQ_INLINE void sq_sift_u64(uint64_t *heap, int64_t n, int64_t hole, uint64_t key) {
    int64_t child;
    while ((child = 2 * hole + 1) < n) {
        child += child + 1 < n && heap[child + 1] > heap[child];
        if (heap[child] <= key) break;
        heap[hole] = heap[child];
        hole = child;
    }
    heap[hole] = key;
}

#endif
