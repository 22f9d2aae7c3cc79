/* What the drivers share that feed a compiled decoder with mutated bytes under the sanitizers. For tests alone.
 *
 * A driver is called with ROUNDS SEED, or SECONDS as "10s". The generator's seed is fixed, so a failure can be had again.
 */
#ifndef VMATLAS_FUZZ_H
#define VMATLAS_FUZZ_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "columns.h"

static struct {
    uint64_t state;
    unsigned long rounds, round, decoded, refused;
    time_t end; /* 0: so many rounds */
} fuzz;

/* `arguments`: ROUNDS or SECONDS, and SEED, as far as they are given. */
static inline void fuzz_begin(int count, char **arguments)
{
    fuzz.rounds = count > 0 ? strtoul(arguments[0], NULL, 10) : 1000;
    fuzz.end = count > 0 && strchr(arguments[0], 's') != NULL ? time(NULL) + (time_t)fuzz.rounds : 0;
    fuzz.state = count > 1 ? strtoull(arguments[1], NULL, 10) : 88172645463325252ULL;
}

/* Whether there is another round. */
static inline int fuzz_goes_on(void)
{
    unsigned long round = fuzz.round++;
    return fuzz.end != 0 ? (round & 255) != 0 || time(NULL) < fuzz.end : round < fuzz.rounds;
}

static inline void fuzz_count(enum verdict verdict)
{
    *(verdict == DECODED ? &fuzz.decoded : &fuzz.refused) += 1;
}

/* A number in [0, below). */
static inline uint32_t draw(uint32_t below)
{
    fuzz.state ^= fuzz.state << 13;
    fuzz.state ^= fuzz.state >> 7;
    fuzz.state ^= fuzz.state << 17;
    return (uint32_t)((fuzz.state >> 16) % below);
}

/* Of this machine's byte order; little-endian ones have the low bytes first. */
static inline void put(char *record, size_t at, uint64_t value, size_t size)
{
    memcpy(record + at, &value, size);
}

/* A copy of the exact size: a read beyond it is seen. To be freed. */
static inline void *exact_copy(const void *bytes, size_t size)
{
    void *copy = malloc(size + (size == 0));
    if (copy == NULL)
        abort();
    memcpy(copy, bytes, size);
    return copy;
}

/* Now and then cuts the bytes short, or changes some. Gives how many there are then. */
static inline size_t damage(char *data, size_t used)
{
    for (uint32_t flips = draw(4) == 0 ? 1 + draw(3) : 0; flips > 0 && used > 0; flips--) {
        if (draw(3) == 0)
            used = draw((uint32_t)used);
        else
            data[draw((uint32_t)used)] = (char)draw(256);
    }
    return used;
}

/* Aborts unless the rows are in order and what they refer to is there. */
static inline void check_columns(const struct columns *columns)
{
    for (size_t i = 0; i < columns->count; i++) {
        const struct row *row = &columns->rows[i];
        if (row->start >= row->end || (i > 0 && row->start < row[-1].end) || row->fact >= columns->facts.count)
            abort();
    }
    for (uint32_t i = 0; i < columns->facts.count; i++)
        if (columns->facts.all[i].at + columns->facts.all[i].size > columns->facts.used)
            abort();
}

/* Aborts unless the number `mark` of each row is one of a mark. */
static inline void check_marks(const struct columns *columns, size_t mark)
{
    for (size_t i = 0; i < columns->count; i++)
        if (columns->numbers[i * columns->width + mark] >= columns->marks.count)
            abort();
}

#endif
