/* Reading /proc/PID/pagemap, 8 bytes for each page (Documentation/admin-guide/mm/pagemap.rst): for the agent and for this machine alike. */
#ifndef VMATLAS_LINUX_PAGEMAP_ENTRIES_H
#define VMATLAS_LINUX_PAGEMAP_ENTRIES_H

#include <stddef.h>
#include <stdint.h>

enum {
    ENTRIES_ROOM = 8192, /* entries that one reading gives (64 KiB, which stay in the cache) */
    ENTRIES_UPPER = 48   /* the bits from here on say what a page is, those below which frame it has */
};

/* What entries_range gives beside 0 and the kernel's errno. */
enum {
    ENTRIES_GONE = -1,   /* the memory that the descriptor belongs to is gone */
    ENTRIES_STOPPED = -2 /* by the taker */
};

struct entries {
    int pagemap;   /* a descriptor of /proc/PID/pagemap */
    uint64_t page; /* bytes */
    /* Takes the entries of so many pages from an address on, of which some are not 0. Gives 0, or anything else to stop. */
    int (*take)(struct entries *entries, uint64_t address, const uint64_t *all, size_t count);
    void *taker;
    uint64_t room[ENTRIES_ROOM];
};

/* Reads the entries of [start, end), whole pages. What lies above all that the process may have is left out. */
int entries_range(struct entries *entries, uint64_t start, uint64_t end);

#endif
