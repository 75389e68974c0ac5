/* Products of rows with a query, or with two. */
#ifndef SQ_PRODUCTS_H
#define SQ_PRODUCTS_H

#include "variant.h"

enum { ROWS = 4, ROWS_AHEAD = 8 };

/* `found[j]` is the product of row j with x, float64 [d], in lanes8. */
static void products(const float *rows, const double *x, int64_t n, int64_t d, double *found) {
    const int64_t whole = d & ~7;
    int64_t j = 0;
    for (; j + ROWS <= n; j += ROWS) {
        const float *row[ROWS];
        sq_f64x8 sums[ROWS];
        for (int r = 0; r < ROWS; r++) {
            row[r] = rows + (j + r) * d;
            sums[r] = sq_f64x8_zero();
        }
        for (int64_t i = 0; i < whole; i += 8) {
            const sq_f64x8 y = sq_f64x8_load(x + i);
            for (int r = 0; r < ROWS; r++) {
                if (i % 16 == 0) sq_ahead(row[r] + i, (size_t)(ROWS_AHEAD * 4 * d));
                sums[r] = sq_f64x8_add(sums[r], sq_f64x8_mul(sq_f64x8_widen(row[r] + i), y));
            }
        }
        if (whole < d) {
            const sq_f64x8 y = sq_f64x8_load_n(x + whole, d - whole);
            for (int r = 0; r < ROWS; r++)
                sums[r] = sq_f64x8_add(
                    sums[r], sq_f64x8_mul(sq_f64x8_widen_n(row[r] + whole, d - whole), y));
        }
        for (int r = 0; r < ROWS; r++) found[j + r] = sq_f64x8_sum(sums[r]);
    }
    for (; j < n; j++) {
        const float *row = rows + j * d;
        sq_f64x8 sum = sq_f64x8_zero();
        for (int64_t i = 0; i < whole; i += 8)
            sum = sq_f64x8_add(sum, sq_f64x8_mul(sq_f64x8_widen(row + i), sq_f64x8_load(x + i)));
        if (whole < d)
            sum = sq_f64x8_add(sum, sq_f64x8_mul(sq_f64x8_widen_n(row + whole, d - whole),
                                                 sq_f64x8_load_n(x + whole, d - whole)));
        found[j] = sq_f64x8_sum(sum);
    }
}

/* The same of two queries, float64 [2, d]: `found` is [2, n]. A row is widened once for both. */
static void products_of_two(const float *rows, const double *x, int64_t n, int64_t d,
                            double *found) {
    const int64_t whole = d & ~7;
    for (int64_t j = 0; j < n; j += 2) {
        const float *row[2] = {rows + j * d, rows + (j + 1 < n ? j + 1 : j) * d};
        sq_f64x8 sums[2][2];
        for (int r = 0; r < 2; r++) sums[r][0] = sums[r][1] = sq_f64x8_zero();
        for (int64_t i = 0; i < whole; i += 8)
            for (int r = 0; r < 2; r++) {
                if (i % 16 == 0) sq_ahead(row[r] + i, (size_t)(ROWS_AHEAD * 4 * d));
                const sq_f64x8 y = sq_f64x8_widen(row[r] + i);
                for (int q = 0; q < 2; q++)
                    sums[r][q] = sq_f64x8_add(
                        sums[r][q], sq_f64x8_mul(y, sq_f64x8_load(x + q * d + i)));
            }
        if (whole < d)
            for (int r = 0; r < 2; r++) {
                const sq_f64x8 y = sq_f64x8_widen_n(row[r] + whole, d - whole);
                for (int q = 0; q < 2; q++)
                    sums[r][q] = sq_f64x8_add(
                        sums[r][q],
                        sq_f64x8_mul(y, sq_f64x8_load_n(x + q * d + whole, d - whole)));
            }
        for (int q = 0; q < 2; q++) {
            found[q * n + j] = sq_f64x8_sum(sums[0][q]);
            if (j + 1 < n) found[q * n + j + 1] = sq_f64x8_sum(sums[1][q]);
        }
    }
}

#endif
