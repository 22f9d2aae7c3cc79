/* Runs of pages as they are made, one after another: see RunColumns of vmatlas/model/pages.py. */
#ifndef VMATLAS_LINUX_PAGEMAP_RUNS_H
#define VMATLAS_LINUX_PAGEMAP_RUNS_H

#include "columns.h"

enum {
    RUNS_STATES = 512, /* what a page says is told by nine bits: the categories of a scan, the upper nine bits of an entry */
    RUNS_MOST = 1 << 24 /* 320 MiB; Python tells the error */
};

/* One run after the other, those that touch and are in the same state as one. */
struct runs {
    uint64_t *start, *end;
    uint32_t *state;
    size_t count, room;
    uint64_t reached;       /* the end of what came last, whatever it said */
    enum verdict (*full)(struct runs *runs); /* makes room, and leaves the last run; NULL: the room grows */
    const uint32_t *states; /* RUNS_STATES of them: the state that each of the nine bits' values means; 0: it is left out */
};

static inline void runs_free(struct runs *runs)
{
    free(runs->start);
    free(runs->end);
    free(runs->state);
    memset(runs, 0, sizeof *runs);
}

static inline enum verdict runs_grow(struct runs *runs)
{
    size_t room = runs->room == 0 ? 256 : runs->room * 2;
    uint64_t *start, *end;
    uint32_t *state;
    if (room > RUNS_MOST)
        return NOT_MINE;
    if ((start = (uint64_t *)realloc(runs->start, room * sizeof *start)) != NULL)
        runs->start = start;
    if ((end = (uint64_t *)realloc(runs->end, room * sizeof *end)) != NULL)
        runs->end = end;
    if ((state = (uint32_t *)realloc(runs->state, room * sizeof *state)) != NULL)
        runs->state = state;
    if (start == NULL || end == NULL || state == NULL)
        return NO_MEMORY;
    runs->room = room;
    return DECODED;
}

/* [start, end) says `bits`. NOT_MINE where that is empty, or begins before what came last has ended. */
static inline enum verdict runs_add(struct runs *runs, uint64_t start, uint64_t end, uint64_t bits)
{
    uint32_t state = runs->states[bits & (RUNS_STATES - 1)];
    if (start >= end || start < runs->reached)
        return NOT_MINE;
    runs->reached = end;
    if (state == 0)
        return DECODED;
    if (runs->count > 0 && runs->end[runs->count - 1] == start && runs->state[runs->count - 1] == state) {
        runs->end[runs->count - 1] = end;
        return DECODED;
    }
    if (runs->count == runs->room) {
        enum verdict verdict = runs->full != NULL && runs->room > 0 ? runs->full(runs) : runs_grow(runs);
        if (verdict != DECODED)
            return verdict;
    }
    runs->start[runs->count] = start;
    runs->end[runs->count] = end;
    runs->state[runs->count++] = state;
    return DECODED;
}

#endif
