/* What is expected of a filter of intervals: which share of rows passes, and what its plans cost. */
#include "variant.h"

/* How many of some ascending numbers lie below another. */
static int64_t below(const double *numbers, int64_t count, double number) {
    int64_t least = 0;
    while (count > 0) {
        const int64_t half = count / 2;
        if (numbers[least + half] < number) {
            least += half + 1;
            count -= half + 1;
        } else {
            count = half;
        }
    }
    return least;
}

static double least(double x, double y) { return y < x ? y : x; }

static void price(const sq_prices *by, int64_t leaves, sq_expected *found) {
    const double rows = (double)by->rows, matches = found->share * rows;
    const double open_share = found->open > by->open_least ? found->open : by->open_least;
    double filter = (double)(by->rows * leaves) * by->filter_row;
    filter += open_share * rows * by->open_row;
    const double every = filter + matches * by->exact;
    const double needed = by->walked[sq_share_cell(found->share * by->thinning)];
    const double taken = least(needed, (double)by->clusters);
    const double reached = taken / (double)(by->clusters ? by->clusters : 1);
    const double gathered = matches / (by->rows ? rows : 1.0) * by->gathered;
    const double codes =
        reached * rows * least(gathered, by->signs + by->surviving * gathered);
    double walk = by->preparation + taken * by->begun;
    walk += reached * filter + codes;
    walk += least((double)by->refined, reached * matches) * by->exact;
    found->scan_all = matches <= (double)by->always_most || (by->whole && every <= walk);
    found->walk_ns = walk;
    found->scan_all_ns = every;
    found->filter_ns = filter;
    found->walk_filter_ns = reached * filter;
}

/* What can be searched at once of what is expected, and how. */
static void admit(const sq_prices *by, int64_t leaves, sq_expected *found) {
    const double matches = found->share * (double)by->rows;
    const double each = by->listed * (double)(1 + leaves);
    double filter = found->walk_filter_ns;
    found->every = 0;
    found->listed_most = -1;
    if (found->scan_all != 0 || !(found->open <= by->unsure_most * found->share)) {
        found->every = matches <= (double)by->always_most ? 1 : -1;
        filter = found->filter_ns;
    }
    /* No fewer rows of lists are asked than pass. */
    if (found->every >= 0 && by->lists && matches * each < filter)
        found->listed_most = (double)(int64_t)(filter / each);
}

const sq_expected *SQ_NAME(expected)(const sq_ranges *alike, const sq_prices *prices, uint8_t *room) {
    const int64_t leaves = alike->leaves;
    sq_program *const program = (sq_program *)room;
    sq_leaf *const leaf = (sq_leaf *)(program + 1);
    double *const intervals = (double *)(leaf + leaves);
    int32_t *const code = (int32_t *)(intervals + 2 * leaves);
    uint8_t *const tables = (uint8_t *)(code + 2 * program->operations);
    sq_expected *const found = (sq_expected *)(tables + leaves * SQ_LEAF_TABLE_BYTES);
    program->leaves = leaf;
    program->code = code;
    const double low = intervals[0], high = intervals[1];
    SQ_NAME(bind)(leaf, leaves, intervals, tables);
    if (alike->sample) {
        int64_t totals[2];
        uint64_t stack[2 * SQ_STACK_WORDS];
        SQ_NAME(filter_sample)(alike->sample, program, totals, stack);
        found->share = (double)totals[1] / (double)alike->rows;
        found->open = (double)(totals[1] - totals[0]) / (double)alike->rows;
    } else {
        const int64_t begin = below(alike->numbers, alike->number_count, low);
        int64_t inside = below(alike->numbers, alike->number_count, high) - begin;
        if (inside < 0) inside = 0;
        found->share = least((double)(inside * alike->step) / (double)alike->rows, 1.0) * alike->alive;
        found->open = 0.0;
    }
    price(prices, leaves, found);
    admit(prices, leaves, found);
    return found;
}

void SQ_NAME(expect)(const sq_ranges *alike, const sq_prices *prices, uint8_t *room) {
    SQ_NAME(expected)(alike, prices, room);
}
