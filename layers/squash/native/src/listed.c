/* Filters of which few rows may pass, by the lists of an attribute's rows: all else is not read. */
#include "filter.h"

/* Rows [begin, end) of a list; all of them pass the leaf `known`, if it is not NULL. */
typedef struct run {
    const uint32_t *slots;
    int64_t begin, end;
    const sq_leaf *known;
} run;

enum { RUNS = 1024, OPERANDS = 64, AHEAD = 16 };
static const int64_t NO_COVER = INT64_MAX;

typedef struct place {
    int64_t cluster, partition, row;
} place;

SQ_INLINE place place_of(const sq_table *table, const uint32_t *owners, uint32_t slot) {
    const int64_t cluster = owners[slot / SQ_BLOCK_ROWS];
    const int64_t inside = (int64_t)slot - SQ_BLOCK_ROWS * table->first_block[cluster];
    const place found = {cluster, table->partition[cluster], table->first_row[cluster] + inside};
    return found;
}

/* The place of the first number in [begin, end) that is not below x, or that is above x. */
static int64_t bisect(const sq_table *table, const sq_leaf *leaf, const sq_lists *lists,
                      const uint32_t *slots, int64_t begin, int64_t end, double x, int above) {
    while (begin < end) {
        const int64_t middle = begin + (end - begin) / 2;
        const place at = place_of(table, lists->owners, slots[middle]);
        const uint32_t id = sq_load_u32((const uint8_t *)leaf->ids[at.partition] + 4 * at.row);
        double number;
        memcpy(&number, (const uint8_t *)leaf->numbers[at.partition] + 8 * (size_t)id,
               sizeof number);
        if (above ? number <= x : number < x) begin = middle + 1;
        else end = middle;
    }
    return begin;
}

/* ---- the rows that may pass, as runs ---- */

typedef struct cover {
    int64_t begin, rows; /* its runs begin there and end where the next one's begin */
} cover;

typedef struct covers {
    run runs[RUNS];
    int64_t count;
    int full;
} covers;

static int64_t add(covers *made, const uint32_t *slots, int64_t begin, int64_t end,
                   const sq_leaf *known) {
    if (begin >= end) return 0;
    if (made->count == RUNS) {
        made->full = 1;
        return 0;
    }
    const run one = {slots, begin, end, known};
    made->runs[made->count++] = one;
    return end - begin;
}

static const sq_list *list_of(const sq_lists *lists, const sq_leaf *leaf) {
    for (int64_t i = 0; i < lists->count; i++)
        if (lists->lists[i].columns == leaf->column) return &lists->lists[i];
    return NULL;
}

static int64_t leaf_rows(const sq_table *table, const sq_leaf *leaf, const sq_lists *lists,
                         int64_t rows_most, covers *made) {
    const sq_list *list = list_of(lists, leaf);
    if (!list) return NO_COVER;
    int64_t rows = 0;
    for (int64_t code = 0; code < 256; code++)
        if (leaf->truth[code] == 2 && code != leaf->list_code)
            rows += list->begins[code + 1] - list->begins[code];
    if (rows > rows_most) return NO_COVER; /* before anything is bisected */
    rows = 0;
    for (int64_t code = 0; code < 256; code++) {
        const int64_t begin = list->begins[code], end = list->begins[code + 1];
        if (begin == end) continue;
        if (code == leaf->list_code) {
            if (leaf->possible_bits) rows += add(made, list->slots, begin, end, NULL);
        } else if (leaf->truth[code] == 2) {
            rows += add(made, list->slots, begin, end, leaf);
        } else if (leaf->truth[code] == 1) {
            const int64_t numbered = leaf->intervals ? list->numbered[code] : begin;
            for (int64_t i = 0; leaf->intervals && i < leaf->interval_count; i++) {
                const double *ends = leaf->intervals + 2 * i;
                const int64_t from = bisect(table, leaf, lists, list->slots, begin, numbered,
                                            ends[0], 0);
                rows += add(made, list->slots, from,
                            bisect(table, leaf, lists, list->slots, from, numbered, ends[1], 1), leaf);
            }
            rows += add(made, list->slots, numbered, end, NULL);
        }
    }
    return rows;
}

/* The fewest rows beyond which the program is false, as far as lists say; or NO_COVER. */
static int64_t cover_rows(const sq_table *table, const sq_program *program, const sq_lists *lists,
                          int64_t rows_most, covers *made) {
    cover stack[OPERANDS];
    int64_t top = -1;
    made->count = 0;
    made->full = 0;
    for (int64_t i = 0; i < program->operations; i++) {
        const int32_t operation = program->code[2 * i];
        if (operation == SQ_LEAF) {
            if (++top == OPERANDS) return NO_COVER;
            stack[top].begin = made->count;
            stack[top].rows = leaf_rows(table, &program->leaves[program->code[2 * i + 1]], lists,
                                        rows_most, made);
        } else if (operation == SQ_NOT) {
            made->count = stack[top].begin;
            stack[top].rows = NO_COVER;
        } else {
            const cover right = stack[top--];
            cover *left = &stack[top];
            if (operation == SQ_AND && right.rows < left->rows) {
                const int64_t count = made->count - right.begin;
                memmove(made->runs + left->begin, made->runs + right.begin,
                        (size_t)count * sizeof *made->runs);
                made->count = left->begin + count;
                left->rows = right.rows;
            } else if (operation == SQ_AND) {
                made->count = right.begin;
            } else if (left->rows == NO_COVER || right.rows == NO_COVER) {
                made->count = left->begin;
                left->rows = NO_COVER;
            } else {
                left->rows += right.rows;
            }
        }
        if (made->full) return NO_COVER;
    }
    return stack[0].rows;
}

/* ---- their truth ---- */

typedef struct question {
    const sq_table *table;
    const sq_program *program;
    const uint32_t *owners;
    uint32_t *sure, *possible;
    uint64_t *stack;
    int conjunction; /* of leaves and nothing else */
} question;

/* Asks for what a row further on needs. */
SQ_INLINE void ask_ahead(const question *q, const sq_leaf *known, uint32_t slot) {
    const uint32_t block = slot / SQ_BLOCK_ROWS;
    __builtin_prefetch(q->table->alive + block);
    if (known && q->program->operations == 1) {
        __builtin_prefetch(q->owners + block);
        __builtin_prefetch(q->sure + block, 1);
        __builtin_prefetch(q->possible + block, 1);
        return;
    }
    const place at = place_of(q->table, q->owners, slot);
    for (int64_t i = 0; i < q->program->operations; i++) {
        if (q->program->code[2 * i] != SQ_LEAF) continue;
        const sq_leaf *leaf = &q->program->leaves[q->program->code[2 * i + 1]];
        const uint8_t *column = leaf == known ? NULL : leaf->column[at.partition];
        if (column) __builtin_prefetch(column + at.row);
    }
}

/* As `sq_row_settled`. Most rows fail a conjunction by the cell of another leaf. */
SQ_INLINE unsigned truth_of(const question *q, const sq_leaf *known, const place *at) {
    const sq_program *program = q->program;
    if (!q->conjunction) return sq_row_settled(program, at->partition, at->row, q->stack);
    unsigned both = 3;
    for (int64_t i = 0; i < program->operations; i++) {
        if (program->code[2 * i] != SQ_LEAF) continue;
        const sq_leaf *leaf = &program->leaves[program->code[2 * i + 1]];
        if (leaf == known) continue;
        const uint8_t *column = leaf->column[at->partition];
        if (!column) return 0;
        const uint8_t code = column[at->row];
        const uint8_t truth = leaf->truth[code];
        if (code == leaf->list_code || truth == 1) both &= 2;
        else if (truth == 0) return 0;
    }
    return both == 3 ? 3 : sq_row_settled(program, at->partition, at->row, q->stack);
}

int64_t SQ_NAME(filter_listed)(const sq_table *table, const sq_program *program,
                               const sq_lists *lists, int64_t rows_most, uint32_t *sure,
                               uint32_t *possible, int64_t *sure_counts, int64_t *possible_counts,
                               uint64_t *stack) {
    covers made;
    const int64_t rows = cover_rows(table, program, lists, rows_most, &made);
    if (rows > rows_most) return -1;
    const size_t bytes = (size_t)table->clusters * sizeof *sure_counts;
    memset(sure_counts, 0, bytes);
    memset(possible_counts, 0, bytes);
    const int alone = program->operations == 1;
    question q = {table, program, lists->owners, sure, possible, stack, 1};
    for (int64_t i = 0; i < program->operations; i++)
        q.conjunction &= program->code[2 * i] == SQ_LEAF || program->code[2 * i] == SQ_AND;
    for (int64_t r = 0; r < made.count; r++) {
        const run *one = &made.runs[r];
        for (int64_t i = one->begin; i < one->end; i++) {
            const uint32_t slot = one->slots[i], block = slot / SQ_BLOCK_ROWS;
            const uint32_t bit = 1u << slot % SQ_BLOCK_ROWS;
            if (i + AHEAD < one->end) ask_ahead(&q, one->known, one->slots[i + AHEAD]);
            if (!(table->alive[block] & bit)) continue;
            const int64_t cluster = lists->owners[block];
            unsigned truth = 3;
            if (!alone || !one->known) {
                const place at = place_of(table, lists->owners, slot);
                truth = truth_of(&q, one->known, &at);
                if (!(truth & 2)) continue;
            }
            if (!possible_counts[cluster]) {
                const int64_t first = table->first_block[cluster];
                const int64_t count = table->rows[cluster] + SQ_BLOCK_ROWS - 1;
                const size_t size = (size_t)(count / SQ_BLOCK_ROWS) * sizeof *sure;
                memset(sure + first, 0, size);
                memset(possible + first, 0, size);
            } else if (possible[block] & bit) {
                continue; /* in two runs */
            }
            possible[block] |= bit;
            possible_counts[cluster]++;
            if (truth & 1) {
                sure[block] |= bit;
                sure_counts[cluster]++;
            }
        }
    }
    return rows;
}
