/* Keys of records that lie far from one another: all are asked for before the first is read. */
#include "variant.h"

enum { TOGETHER = 32, LINE_BYTES = 64 };

/* The key of a record `["key",{...`, and its length; 0 where it is not written so. */
static int64_t plain_key(const uint8_t *record, int64_t bytes, const uint8_t **key) {
    if (bytes < 5 || record[0] != '[' || record[1] != '"') return 0;
    int64_t end = 2;
    while (end < bytes && record[end] != '"') {
        if (record[end] < 0x20 || record[end] == '\\') return 0;
        end++;
    }
    if (end + 2 >= bytes || record[end + 1] != ',' || record[end + 2] != '{') return 0;
    *key = record + 2;
    return end - 2;
}

/* Where a row's record lies among its partition's; 0 where there is none. The last of all ends as if another
 * page followed, a byte behind the others. */
static int64_t record_of(const sq_records *of, int64_t row, const uint8_t **record) {
    if (row < 0 || row >= of->rows) return 0;
    const int64_t begin = of->begins[row], next = of->begins[row + 1];
    const int64_t end = next == of->bytes + 1 ? of->bytes : next;
    if (begin < 0 || end > of->bytes || begin > end) return 0;
    *record = of->data + begin;
    return end - begin;
}

int64_t SQ_NAME(gather_keys)(const sq_records *records, int64_t partitions, const int64_t *partition,
                             const int64_t *row, int64_t n, uint8_t *room, int64_t room_bytes) {
    int64_t written = 0;
    for (int64_t first = 0; first < n; first += TOGETHER) {
        const int64_t count = n - first < TOGETHER ? n - first : TOGETHER;
        const uint8_t *record[TOGETHER];
        int64_t bytes[TOGETHER];
        for (int64_t i = 0; i < count; i++) {
            if (partition[first + i] < 0 || partition[first + i] >= partitions) return -1;
            const sq_records *of = records + partition[first + i];
            sq_ahead(of->begins, (size_t)row[first + i] * sizeof *of->begins);
        }
        for (int64_t i = 0; i < count; i++) {
            bytes[i] = record_of(records + partition[first + i], row[first + i], &record[i]);
            if (!bytes[i]) return -1;
            sq_ahead(record[i], 0);
            /* A short key mostly ends within the line, or in the one that is fetched beside it. */
            sq_ahead(record[i], LINE_BYTES / 2);
        }
        for (int64_t i = 0; i < count; i++) {
            const uint8_t *key;
            const int64_t length = plain_key(record[i], bytes[i], &key);
            if (!length) return -1;
            if (written + length + 1 <= room_bytes) {
                memcpy(room + written, key, (size_t)length);
                room[written + length] = '\n';
            }
            written += length + 1;
        }
    }
    return written;
}
