/* The k smallest values by (value, place); NaN counts as larger than all else. */
#include "keys.h"

/* n <= 2^32: a key and a place share 64 bits. */
void SQ_NAME(top_k_f32)(const float *values, int64_t n, int64_t k, int64_t *places) {
    if (k == 0) return;
    uint64_t *heap = (uint64_t *)places;
    for (int64_t i = 0; i < k; i++) heap[i] = (uint64_t)sq_key_f32(values[i]) << 32 | (uint64_t)i;
    for (int64_t i = k / 2 - 1; i >= 0; i--) sq_sift_u64(heap, k, i, heap[i]);
    for (int64_t i = k; i < n; i++) {
        const uint64_t key = (uint64_t)sq_key_f32(values[i]) << 32 | (uint64_t)i;
        if (SQ_UNLIKELY(key < heap[0])) sq_sift_u64(heap, k, 0, key);
    }
    for (int64_t last = k - 1; last > 0; last--) {
        const uint64_t largest = heap[0];
        sq_sift_u64(heap, last, 0, heap[last]);
        heap[last] = largest;
    }
    for (int64_t i = 0; i < k; i++) places[i] = (int64_t)(heap[i] & UINT32_MAX);
}

SQ_INLINE int above(uint64_t key, int64_t place, uint64_t other, int64_t other_place) {
    return key > other || (key == other && place > other_place);
}

static void sift_pair(uint64_t *keys, int64_t *places, int64_t n, int64_t hole, uint64_t key,
                      int64_t place) {
    int64_t child;
    while ((child = 2 * hole + 1) < n) {
        child += child + 1 < n && above(keys[child + 1], places[child + 1], keys[child], places[child]);
        if (!above(keys[child], places[child], key, place)) break;
        keys[hole] = keys[child];
        places[hole] = places[child];
        hole = child;
    }
    keys[hole] = key;
    places[hole] = place;
}

void SQ_NAME(top_k_f64)(const double *values, int64_t n, int64_t k, int64_t *places,
                        uint64_t *heap) {
    if (k == 0) return;
    for (int64_t i = 0; i < k; i++) {
        heap[i] = sq_key_f64(values[i]);
        places[i] = i;
    }
    for (int64_t i = k / 2 - 1; i >= 0; i--) sift_pair(heap, places, k, i, heap[i], places[i]);
    for (int64_t i = k; i < n; i++) {
        const uint64_t key = sq_key_f64(values[i]);
        if (SQ_UNLIKELY(key < heap[0])) sift_pair(heap, places, k, 0, key, i);
    }
    for (int64_t last = k - 1; last > 0; last--) {
        const uint64_t largest = heap[0];
        const int64_t place = places[0];
        sift_pair(heap, places, last, 0, heap[last], places[last]);
        heap[last] = largest;
        places[last] = place;
    }
}
