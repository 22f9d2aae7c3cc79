/* What a plugin's decode.c fills: the rows of a map, and its distinct facts. No Python here, no system call.
 *
 * A decoder takes a kernel's bytes apart and gives DECODED, or NOT_MINE for whatever is unusual: bytes that are malformed,
 * regions that are not in order, values that its twin in Python reads otherwise. The caller then asks that twin, so there
 * is one place where errors are told. What the facts of a region mean is worked out in Python, once for each that is
 * different from all before; here they are numbered.
 */
#ifndef VMATLAS_COLUMNS_H
#define VMATLAS_COLUMNS_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define VMATLAS_COLUMNS 1 /* the version of this header: one more with each change that old decoders cannot stand */

enum verdict { DECODED, NOT_MINE, NO_MEMORY };

/* One region. `fact` is a number of `facts`. */
struct row {
    uint64_t start, end, offset;
    uint32_t fact, spare;
};

struct text {
    size_t at; /* in `bytes` of its table */
    uint32_t size, tag;
    uint64_t hash;
};

/* Distinct texts, numbered as they come. A text is some bytes and a tag, a small number that belongs to it. */
struct texts {
    struct text *all;
    char *bytes;
    uint32_t *slots; /* open addressing: a number of `all` + 1, or 0 */
    size_t used, room;
    uint32_t count, most, mask;
    uint32_t recent[16]; /* numbers + 1 of texts seen lately, by a cheap sign of theirs */
};

/* A map. `numbers` holds `width` more numbers for each row, row after row: what they are, the decoder knows. One of them
 * may be a number of `marks`: texts that are few as well. */
struct columns {
    struct row *rows;
    size_t count, room;
    struct texts facts, marks;
    uint64_t *numbers;
    size_t width, number_room;
    void (*release)(struct columns *columns); /* gives the memory back where free(3) does not; such columns must not grow */
    void *memory;                             /* for `release` */
    size_t size;
};

static inline void texts_free(struct texts *texts)
{
    free(texts->all);
    free(texts->bytes);
    free(texts->slots);
}

static inline void columns_free(struct columns *columns)
{
    if (columns->release != NULL) {
        columns->release(columns);
    } else {
        free(columns->rows);
        free(columns->numbers);
        texts_free(&columns->facts);
        texts_free(&columns->marks);
    }
    memset(columns, 0, sizeof *columns);
}

static inline uint64_t load64(const char *bytes)
{
    uint64_t word;
    memcpy(&word, bytes, sizeof word);
    return word;
}

static inline uint64_t text_hash(const char *bytes, size_t size, uint32_t tag)
{
    uint64_t hash = (size ^ (uint64_t)tag << 32) * 0x9E3779B97F4A7C15u, last = 0;
    for (; size >= 8; bytes += 8, size -= 8)
        hash = (hash ^ load64(bytes) ^ hash >> 29) * 0xBF58476D1CE4E5B9u;
    if (size > 0)
        memcpy(&last, bytes, size);
    hash = (hash ^ last ^ hash >> 29) * 0x94D049BB133111EBu;
    return hash ^ hash >> 31;
}

static inline int text_is(const struct texts *texts, uint32_t number, const char *bytes, size_t size, uint32_t tag)
{
    const struct text *text = &texts->all[number];
    return text->size == size && text->tag == tag && (size == 0 || memcmp(texts->bytes + text->at, bytes, size) == 0);
}

enum { TEXTS_MOST = 1 << 26 };

/* Room for one more of both, and a table of slots at most half full. */
static inline enum verdict texts_grow(struct texts *texts, size_t size)
{
    if (texts->used + size > TEXTS_MOST) /* a process chooses its names; Python tells how much may be told of it */
        return NOT_MINE;
    if (texts->room - texts->used < size) {
        size_t room = texts->room + texts->room / 2 + size + 4096;
        char *bytes = (char *)realloc(texts->bytes, room);
        if (bytes == NULL)
            return NO_MEMORY;
        texts->bytes = bytes;
        texts->room = room;
    }
    if (texts->count == texts->most) {
        uint32_t most = texts->most == 0 ? 64 : texts->most * 2, mask = most * 2 - 1;
        struct text *all;
        uint32_t *slots;
        if (most > UINT32_C(1) << 28)
            return NOT_MINE;
        all = (struct text *)realloc(texts->all, most * sizeof *all);
        if (all == NULL)
            return NO_MEMORY;
        texts->all = all;
        slots = (uint32_t *)calloc(mask + (size_t)1, sizeof *slots);
        if (slots == NULL)
            return NO_MEMORY;
        for (uint32_t number = 0; number < texts->count; number++) {
            uint32_t at = (uint32_t)all[number].hash & mask;
            while (slots[at] != 0)
                at = (at + 1) & mask;
            slots[at] = number + 1;
        }
        free(texts->slots);
        texts->slots = slots;
        texts->mask = mask;
        texts->most = most;
    }
    return DECODED;
}

/* The number of a text, a new one for a new text. */
static inline enum verdict text_number(struct texts *texts, const char *bytes, size_t size, uint32_t tag, uint32_t *number)
{
    /* Cheap, and different for most texts that follow one another: their length, their tag, two bytes of theirs. */
    size_t sign = (size + tag * 5 + (size > 12 ? (unsigned char)bytes[12] + (unsigned char)bytes[size - 1] : 0)) & 15;
    uint32_t found = texts->recent[sign], at;
    enum verdict verdict;
    uint64_t hash;
    if (found != 0 && text_is(texts, found - 1, bytes, size, tag)) {
        *number = found - 1;
        return DECODED;
    }
    if (size > UINT32_MAX)
        return NOT_MINE;
    verdict = texts_grow(texts, size);
    if (verdict != DECODED)
        return verdict;
    hash = text_hash(bytes, size, tag);
    for (at = (uint32_t)hash & texts->mask; (found = texts->slots[at]) != 0; at = (at + 1) & texts->mask)
        if (texts->all[found - 1].hash == hash && text_is(texts, found - 1, bytes, size, tag))
            break;
    if (found == 0) {
        struct text *text = &texts->all[texts->count];
        text->at = texts->used;
        text->size = (uint32_t)size;
        text->tag = tag;
        text->hash = hash;
        if (size > 0)
            memcpy(texts->bytes + texts->used, bytes, size);
        texts->used += size;
        found = texts->slots[at] = ++texts->count;
    }
    texts->recent[sign] = found;
    *number = found - 1;
    return DECODED;
}

/* Room for so many rows, and their numbers. */
static inline enum verdict columns_reserve(struct columns *columns, size_t room)
{
    if (room > columns->room) {
        struct row *rows = (struct row *)realloc(columns->rows, room * sizeof *rows);
        if (rows == NULL)
            return NO_MEMORY;
        columns->rows = rows;
        columns->room = room;
    }
    if (room * columns->width > columns->number_room) {
        uint64_t *numbers = (uint64_t *)realloc(columns->numbers, room * columns->width * sizeof *numbers);
        if (numbers == NULL)
            return NO_MEMORY;
        columns->numbers = numbers;
        columns->number_room = room * columns->width;
    }
    return DECODED;
}

/* Room for one more row, and the numbers of one. */
static inline enum verdict columns_grow(struct columns *columns)
{
    size_t room = columns->room;
    if (columns->count < room && (columns->count + 1) * columns->width <= columns->number_room)
        return DECODED;
    return columns_reserve(columns, columns->count < room ? room : room == 0 ? 256 : room * 2);
}

/* Whether a region may follow the rows that there are: not empty, and not before the end of the last one. */
static inline int columns_in_order(const struct columns *columns, uint64_t start, uint64_t end)
{
    return start < end && (columns->count == 0 || start >= columns->rows[columns->count - 1].end);
}

#endif
