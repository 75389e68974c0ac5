/* Leaves of filters made whole: where their parts lie, and what an interval is over the cells. */
#include "variant.h"

/* How many of some ends lie below a number. */
static int64_t below(const double *ends, int64_t count, double number) {
    int64_t least = 0;
    while (count > 0) {
        const int64_t half = count / 2;
        if (ends[least + half] < number) {
            least += half + 1;
            count -= half + 1;
        } else {
            count = half;
        }
    }
    return least;
}

/* The greatest number below another; of infinity, the greatest there is. */
static double next_below(double number) {
    int64_t bits;
    if (number == -__builtin_inf()) return number;
    memcpy(&bits, &number, sizeof bits);
    bits = number == 0.0 ? INT64_MIN + 1 : bits < 0 ? bits + 1 : bits - 1;
    memcpy(&number, &bits, sizeof number);
    return number;
}

static void put(uint8_t *set, int64_t begin, int64_t end) {
    for (int64_t code = begin; code < end; code++)
        set[(code >> 7) * 16 + (code & 15)] |= (uint8_t)(1 << (code >> 4 & 7));
}

/* The truth of low <= number < high: cell i of numbers lies between its ends i - 1 and i. */
static void tell(const sq_leaf *leaf, double low, double high, uint8_t *truth, uint8_t *sets) {
    const double *ends = leaf->ends;
    const int64_t count = leaf->end_count;
    int64_t begin = 1, sure_begin = 1, end = count + 2, sure_end = count + 2;
    if (low != -__builtin_inf()) {
        const int64_t at = below(ends, count, low);
        sure_begin = at + 2;
        begin = at < count && ends[at] == low ? at + 2 : at + 1;
    }
    if (high != __builtin_inf()) {
        const int64_t at = below(ends, count, high);
        end = at + 2;
        sure_end = at < count && ends[at] == high ? end : end - 1;
    }
    if (end < begin) end = begin;
    if (sure_end < sure_begin) sure_end = sure_begin;
    memset(truth, 0, SQ_LEAF_TABLE_BYTES);
    memset(truth + begin, 1, (size_t)(end - begin));
    put(sets + 32, begin, end);
    if (leaf->list_code >= 0) {
        truth[leaf->list_code] = 1;
        put(sets + 32, leaf->list_code, leaf->list_code + 1);
    }
    memset(truth + sure_begin, 2, (size_t)(sure_end - sure_begin));
    put(sets, sure_begin, sure_end);
    put(sets + 32, sure_begin, sure_end);
}

void SQ_NAME(bind)(sq_leaf *leaves, int64_t count, double *intervals, uint8_t *tables) {
    for (int64_t i = 0; i < count; i++, tables += SQ_LEAF_TABLE_BYTES) {
        sq_leaf *const leaf = &leaves[i];
        leaf->truth = tables;
        leaf->sets = tables + SQ_CODES;
        leaf->intervals = leaf->interval_count < 0 ? NULL : intervals;
        if (leaf->ends) {
            tell(leaf, intervals[0], intervals[1], tables, tables + SQ_CODES);
            if (intervals[0] == -__builtin_inf()) intervals[0] = -__DBL_MAX__;
            intervals[1] = next_below(intervals[1]);
        }
        if (leaf->interval_count < 0) leaf->interval_count = 0;
        intervals += 2 * leaf->interval_count;
    }
}
