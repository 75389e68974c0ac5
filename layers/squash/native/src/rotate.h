/* A rotation without a matrix: see README.md, rotate. */
#ifndef SQ_ROTATE_H
#define SQ_ROTATE_H

#include "variant.h"

/* The largest power of two that is at most d, which is at least 1. */
SQ_INLINE int64_t window_of(int64_t d) {
    return INT64_C(1) << (63 - __builtin_clzll((unsigned long long)d));
}

/* Negates the numbers whose bit is set. */
static void flip(const uint8_t *flips, int64_t d, double *x) {
    int64_t i = 0;
    for (; i + 8 <= d; i += 8)
        sq_f64x8_store(x + i, sq_f64x8_flip(sq_f64x8_load(x + i), flips[i / 8]));
    for (; i < d; i++)
        if (flips[i / 8] >> i % 8 & 1) x[i] = -x[i];
}

/* One stage: x[i] and x[i + h], for all i without that bit. */
SQ_INLINE void stage(double *x, int64_t p, int64_t h) {
    for (int64_t first = 0; first < p; first += 2 * h)
        for (double *low = x + first, *end = low + h; low < end; low += 8) {
            const sq_f64x8 a = sq_f64x8_load(low), b = sq_f64x8_load(low + h);
            sq_f64x8_store(low, sq_f64x8_add(a, b));
            sq_f64x8_store(low + h, sq_f64x8_sub(a, b));
        }
}

/* Two stages, h and 2 h, that read and write everything once. */
SQ_INLINE void two_stages(double *x, int64_t p, int64_t h) {
    for (int64_t first = 0; first < p; first += 4 * h)
        for (double *low = x + first, *end = low + h; low < end; low += 8) {
            const sq_f64x8 a = sq_f64x8_load(low), b = sq_f64x8_load(low + h);
            const sq_f64x8 c = sq_f64x8_load(low + 2 * h), e = sq_f64x8_load(low + 3 * h);
            const sq_f64x8 ab = sq_f64x8_add(a, b), a_b = sq_f64x8_sub(a, b);
            const sq_f64x8 ce = sq_f64x8_add(c, e), c_e = sq_f64x8_sub(c, e);
            sq_f64x8_store(low, sq_f64x8_add(ab, ce));
            sq_f64x8_store(low + h, sq_f64x8_add(a_b, c_e));
            sq_f64x8_store(low + 2 * h, sq_f64x8_sub(ab, ce));
            sq_f64x8_store(low + 3 * h, sq_f64x8_sub(a_b, c_e));
        }
}

/* The Walsh-Hadamard transform of p numbers, a power of two, each multiplied by `scale` first. */
static void hadamard(double *x, int64_t p, double scale) {
    int64_t h = 1;
    if (p < 8) {
        for (int64_t i = 0; i < p; i++) x[i] *= scale;
        for (; h < p; h *= 2)
            for (int64_t i = 0; i < p; i++) {
                if (i & h) continue;
                const double low = x[i], high = x[i + h];
                x[i] = low + high;
                x[i + h] = low - high;
            }
        return;
    }
    const sq_f64x8 by = sq_f64x8_all(scale);
    for (int64_t i = 0; i < p; i += 8)
        sq_f64x8_store(x + i, sq_f64x8_butterflies(sq_f64x8_mul(sq_f64x8_load(x + i), by)));
    for (h = 8; 4 * h <= p; h *= 4) two_stages(x, p, h);
    if (h < p) stage(x, p, h);
}

/* Rotates x float64 [d] into `found`; x is written over. */
static void rotate(const uint8_t *flips, int64_t d, double *x, double *found) {
    const int64_t p = window_of(d), bytes = (d + 7) / 8, ahead = d / 4;
    const double scale = __builtin_sqrt(1.0 / (double)p);
    double *from = x, *to = found;
    for (int step = 0; step < SQ_FLIPS; step += 2) {
        flip(flips + step * bytes, d, from);
        hadamard(from, p, scale);
        flip(flips + (step + 1) * bytes, d, from);
        hadamard(from + d - p, p, scale);
        memcpy(to + ahead, from, (size_t)(d - ahead) * sizeof *to);
        memcpy(to, from + d - ahead, (size_t)ahead * sizeof *to);
        double *last = from;
        from = to;
        to = last;
    }
}

#endif
