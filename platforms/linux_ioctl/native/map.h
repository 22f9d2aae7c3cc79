/* A whole map as columns, walked by one thread, or by several once it has shown itself large.
 *
 * The kernel answers each question by itself, so nothing ties a walk to one thread. The first regions are walked by the caller
 * alone; if there are more, what is left of the address space is divided among the threads, again and again: who has walked a
 * little gives the upper half of what is left to whoever waits. No thread outlives the call, so all wait for the slowest: on a
 * busy machine that one would wait for a processor, and the caller alone is quicker.
 */
#ifndef VMATLAS_LINUX_IOCTL_MAP_H
#define VMATLAS_LINUX_IOCTL_MAP_H

#include "columns.h"

enum {
    ALONE = 1024, /* regions that the caller walks before others are called: half a millisecond, some times what starting them takes */
    MOST_THREADS = 64
};

struct map_question {
    int maps;         /* a descriptor of /proc/PID/maps */
    uint64_t flags;   /* the kernel's: COVERING_OR_NEXT to walk, and what must hold of a region */
    uint64_t address; /* where the walk begins */
    size_t limit;     /* regions, at most; 0: to the end of memory */
    size_t most;      /* a map of more regions is NOT_MINE; 0: of none */
    unsigned threads; /* at most so many walk, the caller's own among them; with a limit, or a most, the caller alone */
    int only_idle;    /* no more than there are processors without work, and the caller's */
};

/* NOT_MINE for all that is not plain: no region at all, an errno of the kernel's, a name that it does not tell, regions that changed
 * between two answers so that they are out of order. */
enum verdict walk_map(const struct map_question *question, struct columns *columns);

/* The same of our own map, to the end of memory, by the caller alone: no memory is made meanwhile, and what the walk needs itself is not
 * told. */
enum verdict walk_self(const struct map_question *question, struct columns *columns);

#endif
