/* Columns to read one's own map into, whose memory does not appear in the answer: vmatlas.systems.linux.scratch says why, and how it is
 * told from everything else. They are filled as ever, without a call of malloc(3). There is room for more than hardly any map needs:
 * what is not touched takes no memory. */
#ifndef VMATLAS_SCRATCH_H
#define VMATLAS_SCRATCH_H

#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "columns.h"

#define SCRATCH_NAME "vmatlas-scratch"
#define SCRATCH_LABEL "/memfd:" SCRATCH_NAME " (deleted)" /* what the kernel calls it in the map */

enum {
    SCRATCH_ROOM = 1 << 15, /* bytes at the front of its memory for whatever the reading needs besides */
    SCRATCH_STEP = 2048,    /* so many rows, and distinct texts, fit where scratch_has_room() says so, of so many bytes as that room has */
    SCRATCH_FIRST = 4096    /* texts: a small map touches few pages of their table */
};

static inline void scratch_release(struct columns *columns) { (void)munmap(columns->memory, columns->size); }

/* A table of texts in `size` bytes that are zero: half for the bytes, the other half for numbered texts and slots. What slots need
 * when there are more texts comes behind those that there are. */
static inline struct texts scratch_texts(char *at, size_t size)
{
    struct texts texts = {0};
    texts.bytes = at;
    texts.room = size / 2;
    texts.all = (struct text *)(void *)(at + size / 2);
    texts.slots = (uint32_t *)(void *)(at + size / 4 * 3);
    texts.most = SCRATCH_FIRST;
    texts.mask = texts.most * 2 - 1;
    return texts;
}

/* Whether the table, of `size` bytes, takes a step more; a table of slots that is too small for it is replaced by a larger one. */
static inline int scratch_texts_have_room(struct texts *texts, size_t size)
{
    if (texts->most - texts->count < SCRATCH_STEP) {
        uint32_t mask = (texts->mask + 1) * 4 - 1, *slots = texts->slots + texts->mask + 1;
        if ((size_t)((char *)(slots + mask + 1) - texts->bytes) > size || (mask + 1) / 2 * sizeof *texts->all > size / 4)
            return 0;
        for (uint32_t number = 0; number < texts->count; number++) {
            uint32_t at = (uint32_t)texts->all[number].hash & mask;
            while (slots[at] != 0)
                at = (at + 1) & mask;
            slots[at] = number + 1;
        }
        texts->slots = slots;
        texts->mask = mask;
        texts->most = (mask + 1) / 2;
    }
    return texts->room - texts->used >= SCRATCH_ROOM;
}

/* Empty columns in memory of their own, of which an eighth is for facts, a sixteenth for marks, a quarter for rows, half for numbers.
 * `memory` is NULL where there is none to be had. */
static inline struct columns scratch_columns(void)
{
    struct columns columns = {0}, none = {0};
    struct rlimit most;
    size_t size = sizeof(void *) > 4 ? (size_t)1 << 28 : (size_t)1 << 25, eighth = size / 8;
    void *made = MAP_FAILED;
    char *memory;
    int file;
    /* To go over the limit of the size of files is a signal. */
    if (getrlimit(RLIMIT_FSIZE, &most) != 0 || (most.rlim_cur != RLIM_INFINITY && most.rlim_cur < size))
        return none;
    file = (int)syscall(SYS_memfd_create, SCRATCH_NAME, 1 /* MFD_CLOEXEC */);
    if (file < 0)
        return none;
    /* A mapping of a file of its own merges with no neighbour. A child that is forked meanwhile does not inherit it. */
    if (ftruncate(file, (off_t)size) == 0)
        made = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    (void)close(file);
    if (made == MAP_FAILED)
        return none;
    columns.memory = made;
    columns.size = size;
    columns.release = scratch_release;
    if (madvise(made, size, MADV_DONTFORK) != 0) {
        columns_free(&columns);
        return none;
    }
    memory = (char *)made;
    columns.facts = scratch_texts(memory + eighth, eighth);
    columns.marks = scratch_texts(memory + eighth / 2, eighth / 2);
    columns.rows = (struct row *)(void *)(memory + 2 * eighth);
    columns.room = 2 * eighth / sizeof *columns.rows;
    columns.numbers = (uint64_t *)(void *)(memory + 4 * eighth);
    columns.number_room = 4 * eighth / sizeof *columns.numbers;
    return columns;
}

/* Whether the columns take SCRATCH_STEP more rows and texts. */
static inline int scratch_has_room(struct columns *columns)
{
    return scratch_texts_have_room(&columns->facts, columns->size / 8) &&
           scratch_texts_have_room(&columns->marks, columns->size / 16) && columns->room - columns->count >= SCRATCH_STEP &&
           (columns->count + SCRATCH_STEP) * columns->width <= columns->number_room;
}

/* Drops the regions of scratch memory, ours and other threads', and their facts. Nothing is added to the columns after that. */
static inline void scratch_cut(struct columns *columns, int (*is_scratch)(const char *fact, size_t size))
{
    struct texts *facts = &columns->facts;
    uint32_t *numbers = facts->slots; /* no more needed: twice as many as there are facts */
    uint32_t kept = 0;
    size_t rows = 0;
    for (uint32_t i = 0; i < facts->count; i++) {
        struct text fact = facts->all[i];
        int is_cut = is_scratch(facts->bytes + fact.at, fact.size);
        numbers[i] = is_cut ? UINT32_MAX : kept;
        facts->all[kept] = fact;
        kept += !is_cut;
    }
    facts->count = kept;
    for (size_t i = 0; i < columns->count; i++) {
        struct row row = columns->rows[i];
        if (numbers[row.fact] == UINT32_MAX)
            continue;
        row.fact = numbers[row.fact];
        columns->rows[rows] = row;
        if (rows != i && columns->width > 0)
            memcpy(columns->numbers + rows * columns->width, columns->numbers + i * columns->width,
                   columns->width * sizeof *columns->numbers);
        rows++;
    }
    columns->count = rows;
}

#endif
