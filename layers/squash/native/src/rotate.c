/* Rotate rows about a mean. */
#include "rotate.h"

void SQ_NAME(rotate_rows)(const sq_rotation *by, const float *rows, int64_t n, int64_t d,
                          float *found, double *scratch) {
    double *turned = scratch + d;
    for (int64_t j = 0; j < n; j++) {
        for (int64_t i = 0; i < d; i++)
            scratch[i] = (double)sq_load_f32(rows + j * d + i) - (double)by->mean[i];
        rotate(by->flips, d, scratch, turned);
        for (int64_t i = 0; i < d; i++) found[j * d + i] = (float)turned[i];
    }
}
