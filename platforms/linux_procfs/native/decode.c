/* The text of /proc/PID/maps and smaps into columns: proc_pid_maps(5), and vmatlas_linux_procfs/decode.py, its twin. */
#include "decode.h"

/* The value of a hexadecimal digit in lower case; 16 for any other byte. */
static const unsigned char DIGIT[256] = {
#define NO 16
#define NO16 NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO
    NO16, NO16, NO16, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, NO, NO, NO, NO, NO, NO, NO16, NO16,
    NO, 10, 11, 12, 13, 14, 15, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO16,
    NO16, NO16, NO16, NO16, NO16, NO16, NO16, NO16,
#undef NO16
#undef NO
};

/* 1 to 16 digits, then `after`; the byte behind it, or NULL. Ends at the newline that every line has, at the latest. */
static inline const char *hexadecimal(const char *at, char after, uint64_t *number)
{
    const char *begin = at;
    uint64_t value = 0;
    unsigned digit;
    while ((digit = DIGIT[(unsigned char)*at]) < 16) {
        value = value << 4 | digit;
        at++;
    }
    if (*at != after || at == begin || at - begin > 16)
        return NULL;
    *number = value;
    return at + 1;
}

/* One line, without its newline, which stands at `stop`. */
static inline enum verdict region_line(const char *at, const char *stop, struct columns *columns)
{
    struct row *row;
    enum verdict verdict = columns_grow(columns);
    uint64_t start, end, offset;
    uint32_t rights = 0;
    if (verdict != DECODED)
        return verdict;
    if ((at = hexadecimal(at, '-', &start)) == NULL || (at = hexadecimal(at, ' ', &end)) == NULL || stop - at < 7)
        return NOT_MINE;
    for (int i = 0; i < 3; i++) {
        if (at[i] == "rwx"[i])
            rights |= 1U << i;
        else if (at[i] != '-')
            return NOT_MINE;
    }
    if ((at[3] != 'p' && at[3] != 's' && at[3] != 'S') || at[4] != ' ') /* S: Linux without an MMU */
        return NOT_MINE;
    rights |= at[3] != 'p' ? 8 : 0;
    if ((at = hexadecimal(at + 5, ' ', &offset)) == NULL || !columns_in_order(columns, start, end))
        return NOT_MINE;
    row = &columns->rows[columns->count];
    verdict = text_number(&columns->facts, at, (size_t)(stop - at), rights, &row->fact);
    if (verdict != DECODED)
        return verdict;
    row->start = start;
    row->end = end;
    row->offset = offset;
    columns->count++;
    return DECODED;
}

enum verdict decode_maps(const char *text, size_t size, struct columns *columns, size_t *used)
{
    const char *at = text, *behind = text + size, *stop;
    *used = 0;
    while (at < behind && (stop = (const char *)memchr(at, '\n', (size_t)(behind - at))) != NULL) {
        enum verdict verdict = region_line(at, stop, columns);
        if (verdict != DECODED)
            return verdict;
        at = stop + 1;
        *used = (size_t)(at - text);
    }
    return DECODED;
}

static int is_letter(char byte)
{
    return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z');
}

/* The bytes of the key that a line begins with, its colon included; 0 when it begins with none. */
static size_t key_size(const char *line, const char *stop)
{
    const char *at = line;
    if (at == stop || !is_letter(*at))
        return 0;
    while (at < stop && (is_letter(*at) || (*at >= '0' && *at <= '9') || *at == '_' || *at == '(' || *at == ')'))
        at++;
    return at < stop && *at == ':' ? (size_t)(at - line) + 1 : 0;
}

/* One more of the keys below the first region. */
static enum verdict learn_key(struct keys *keys, const char *line, size_t size)
{
    if (size == 0 || size > LONGEST_KEY || keys->count == MOST_KEYS)
        return NOT_MINE;
    for (unsigned i = 0; i < keys->count; i++)
        if (keys->all[i].size == size && memcmp(keys->all[i].text, line, size) == 0)
            return NOT_MINE;
    memcpy(keys->all[keys->count].text, line, size);
    keys->all[keys->count].size = (unsigned)size;
    if (size == 8 && memcmp(line, "VmFlags:", 8) == 0)
        keys->flags = (int)keys->count;
    keys->count++;
    return DECODED;
}

/* Digits, perhaps with " kB" behind them, to the end of the line: bytes, below 2**64 - 1. */
static inline int amount(const char *at, const char *stop, uint64_t *number)
{
    const char *begin = at;
    uint64_t value = 0;
    while (at < stop && *at >= '0' && *at <= '9') {
        if (value > (UINT64_MAX - 9) / 10)
            return 0;
        value = value * 10 + (uint64_t)(*at++ - '0');
    }
    if (at == begin || at - begin > 20)
        return 0;
    if (stop - at == 3 && memcmp(at, " kB", 3) == 0) {
        if (value > (UINT64_MAX - 1) / 1024)
            return 0;
        value *= 1024;
    } else if (at != stop) {
        return 0;
    }
    *number = value;
    return value != UINT64_MAX;
}

enum { MOST_DIGITS = 12, ROOM = LONGEST_KEY + 64 };

static inline int same4(const char *one, const char *other)
{
    return memcmp(one, other, 4) == 0;
}

static inline int same8(const char *one, const char *other)
{
    return memcmp(one, other, 8) == 0;
}

/* Whether a line begins with a key, in a few comparisons of machine words. Both have LONGEST_KEY bytes to read. */
static inline int begins_with(const char *line, const char *key, unsigned size)
{
    unsigned at = 0;
    if (size < 4)
        return memcmp(line, key, size) == 0;
    if (size < 8)
        return same4(line, key) && same4(line + size - 4, key + size - 4);
    for (; at + 8 <= size; at += 8)
        if (!same8(line + at, key + at))
            return 0;
    return same8(line + size - 8, key + size - 8);
}

/* The newline behind a line that is as the kernel writes nearly all: the key, blanks, few digits, " kB". NULL for any
 * other, which is no error: `value_line` looks at it. Each byte of such a line is looked at once, and its end not searched
 * for. */
static inline const char *usual_line(const char *line, const char *behind, const char *key, unsigned size, uint64_t *number)
{
    const char *at, *begin;
    uint64_t value = 0;
    if (behind - line < ROOM || !begins_with(line, key, size))
        return NULL;
    at = line + size;
    while (at < line + LONGEST_KEY && same8(at, "        "))
        at += 8;
    for (begin = at + 8; at < begin && *at == ' ';)
        at++;
    for (begin = at; *at >= '0' && *at <= '9' && at - begin <= MOST_DIGITS; at++)
        value = value * 10 + (uint64_t)(*at - '0');
    if (at == begin || at - begin > MOST_DIGITS || memcmp(at, " kB\n", 4) != 0)
        return NULL;
    *number = value * 1024;
    return at + 3;
}

static enum verdict value_line(const char *line, const char *stop, unsigned key, struct columns *columns,
                               const struct keys *keys)
{
    unsigned size = keys->all[key].size;
    uint64_t *number = &columns->numbers[(columns->count - 1) * columns->width + key];
    if ((size_t)(stop - line) < size || memcmp(line, keys->all[key].text, size) != 0)
        return NOT_MINE;
    line += size;
    while (line < stop && (*line == ' ' || *line == '\t'))
        line++;
    if ((int)key == keys->flags) {
        uint32_t found;
        enum verdict verdict = text_number(&columns->marks, line, (size_t)(stop - line), 0, &found);
        *number = found;
        return verdict;
    }
    return amount(line, stop, number) ? DECODED : NOT_MINE;
}

/* The keys below the first region, all of which must be here, with the line that follows them. */
static enum verdict learn_keys(const char *text, const char *behind, int is_end, struct columns *columns, struct keys *keys)
{
    const char *at = text, *stop;
    keys->flags = -1;
    for (int line = 0;; line++, at = stop + 1) {
        size_t size;
        stop = at < behind ? (const char *)memchr(at, '\n', (size_t)(behind - at)) : NULL;
        if (stop == NULL && at == behind && is_end)
            break;
        if (stop == NULL)
            return NOT_MINE;
        size = line == 0 ? 0 : key_size(at, stop);
        if (line > 0 && size == 0)
            break;
        if (line > 0) {
            enum verdict verdict = learn_key(keys, at, size);
            if (verdict != DECODED)
                return verdict;
        }
    }
    columns->width = keys->count;
    return keys->count > 0 ? DECODED : NOT_MINE;
}

enum verdict decode_smaps(const char *text, size_t size, int is_end, struct columns *columns, struct keys *keys,
                          size_t *used)
{
    const char *at = text, *behind = text + size;
    *used = 0;
    if (size == 0)
        return DECODED;
    if (keys->count == 0) {
        enum verdict verdict = learn_keys(text, behind, is_end, columns, keys);
        if (verdict != DECODED)
            return verdict;
    }
    while (at < behind) {
        size_t known = columns->count;
        const char *stop = (const char *)memchr(at, '\n', (size_t)(behind - at));
        enum verdict verdict;
        if (stop == NULL)
            break;
        verdict = region_line(at, stop, columns);
        if (verdict != DECODED)
            return verdict;
        for (unsigned key = 0; key < keys->count; key++) {
            const char *line = stop + 1, *found;
            found = usual_line(line, behind, keys->all[key].text, keys->all[key].size,
                               &columns->numbers[(columns->count - 1) * columns->width + key]);
            if (found != NULL && (int)key != keys->flags) {
                stop = found;
                continue;
            }
            stop = line < behind ? (const char *)memchr(line, '\n', (size_t)(behind - line)) : NULL;
            if (stop == NULL) { /* the rest comes with the next call */
                columns->count = known;
                return DECODED;
            }
            verdict = value_line(line, stop, key, columns, keys);
            if (verdict != DECODED)
                return verdict;
        }
        at = stop + 1;
        *used = (size_t)(at - text);
    }
    return DECODED;
}
