/* Attribute cells to sure and possible bitmaps, cluster by cluster. */
#include "filter.h"

void SQ_NAME(filter)(const sq_table *table, const sq_program *program, int64_t count,
                     const int64_t *clusters, uint32_t *sure, uint32_t *possible,
                     int64_t *sure_counts, int64_t *possible_counts, uint64_t *stack) {
    sq_plan plan;
    sq_plan_of(program, &plan);
    for (int64_t begin = 0; begin < count; begin += SQ_LOT) {
        const int64_t n = count - begin < SQ_LOT ? count - begin : SQ_LOT;
        uint32_t *sure_at[SQ_LOT], *possible_at[SQ_LOT];
        sq_counts counts[SQ_LOT];
        for (int64_t i = 0; i < n; i++) {
            const int64_t cluster = clusters[begin + i], block = table->first_block[cluster];
            sq_filter_ahead(table, program, cluster, table->rows[cluster]);
            sure_at[i] = sure + block;
            possible_at[i] = possible + block;
        }
        sq_filter_lot(table, &plan, clusters + begin, n, INT64_MAX, sure_at, possible_at, counts,
                      stack);
        for (int64_t i = 0; i < n; i++) {
            sure_counts[begin + i] = counts[i].sure;
            possible_counts[begin + i] = counts[i].possible;
        }
    }
}

void SQ_NAME(filter_sample)(const sq_table *table, const sq_program *program, int64_t *totals,
                            uint64_t *stack) {
    sq_plan plan;
    sq_plan_of(program, &plan);
    uint32_t words[2][SQ_LOT][SQ_SAMPLE_ROWS / SQ_BLOCK_ROWS];
    uint32_t *sure[SQ_LOT], *possible[SQ_LOT];
    sq_counts counts[SQ_LOT];
    for (int64_t i = 0; i < SQ_LOT; i++) {
        sure[i] = words[0][i];
        possible[i] = words[1][i];
    }
    totals[0] = totals[1] = 0;
    /* The last search has driven the sample out of the caches. */
    for (int64_t i = 0; i < table->clusters; i++)
        sq_filter_ahead(table, program, i,
                        table->rows[i] < SQ_SAMPLE_ROWS ? table->rows[i] : SQ_SAMPLE_ROWS);
    for (int64_t begin = 0; begin < table->clusters; begin += SQ_LOT) {
        const int64_t left = table->clusters - begin, n = left < SQ_LOT ? left : SQ_LOT;
        int64_t clusters[SQ_LOT];
        for (int64_t i = 0; i < n; i++) clusters[i] = begin + i;
        sq_filter_lot(table, &plan, clusters, n, SQ_SAMPLE_ROWS, sure, possible, counts, stack);
        for (int64_t i = 0; i < n; i++) {
            totals[0] += counts[i].sure;
            totals[1] += counts[i].possible;
        }
    }
}
