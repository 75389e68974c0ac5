/* Attribute cells to sure and possible bitmaps, cluster by cluster. */
#include "filter.h"

void SQ_NAME(filter)(const sq_table *table, const sq_program *program, int64_t count,
                     const int64_t *clusters, uint32_t *sure, uint32_t *possible,
                     int64_t *sure_counts, int64_t *possible_counts, uint64_t *stack) {
    for (int64_t i = 0; i < count; i++) {
        const int64_t cluster = clusters[i];
        if (i + 1 < count) sq_filter_ahead(table, program, clusters[i + 1]);
        const sq_counts counts = sq_filter_cluster(table, program, cluster, table->rows[cluster],
                                                   sure, possible, stack);
        sure_counts[i] = counts.sure;
        possible_counts[i] = counts.possible;
    }
}

void SQ_NAME(filter_sample)(const sq_table *table, const sq_program *program, int64_t every,
                            int64_t *totals, uint64_t *stack) {
    totals[0] = totals[1] = totals[2] = 0;
    for (int64_t cluster = 0; cluster < table->clusters; cluster += every) {
        const int64_t rows =
            table->rows[cluster] < SQ_BLOCK_ROWS ? table->rows[cluster] : SQ_BLOCK_ROWS;
        const sq_counts counts =
            sq_filter_cluster(table, program, cluster, rows, NULL, NULL, stack);
        totals[0] += rows;
        totals[1] += counts.sure;
        totals[2] += counts.possible;
    }
}
