/* PAGEMAP_SCAN on /proc/PID/pagemap (Linux 6.7 and newer; include/uapi/linux/fs.h), declared here since older headers lack it; and a
 * scan of a range by it, one call after another: for the agent and for this machine alike. */
#ifndef VMATLAS_LINUX_PAGEMAP_SCAN_H
#define VMATLAS_LINUX_PAGEMAP_SCAN_H

#include <stddef.h>
#include <stdint.h>

struct scan_record {
    uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages, inverted, mask, anyof, told;
};
typedef char scan_record_is_96_bytes[sizeof(struct scan_record) == 96 ? 1 : -1];

struct scan_answer {
    uint64_t start, end, categories;
};
typedef char scan_answer_is_24_bytes[sizeof(struct scan_answer) == 24 ? 1 : -1];

#define PAGEMAP_SCAN _IOWR('f', 16, struct scan_record)

enum {
    SCAN_ROOM = 1024,       /* answers that one call may give: more is no quicker */
    SCAN_SOFT_DIRTY = 0x80, /* PAGE_IS_SOFT_DIRTY: taken by every kernel, and set where CONFIG_MEM_SOFT_DIRTY is */
    SCAN_GUARD = 0x100      /* PAGE_IS_GUARD: since 6.16 */
};

/* What scan_range gives beside 0 and the kernel's errno. */
enum {
    SCAN_GONE = -1,   /* nothing was walked: the memory that the descriptor belongs to is gone */
    SCAN_STOPPED = -2 /* by the taker */
};

struct scan {
    int pagemap;          /* a descriptor of /proc/PID/pagemap of a process that has memory: see scan_has_memory */
    uint64_t anyof, told; /* pages with a category of `anyof` are given, each with what it has of `told` */
    /* Takes what a call gave: its record, with the number of answers in place of the pointer `vec`, and the answers. Gives 0, or
     * anything else to stop. */
    int (*take)(struct scan *scan, const struct scan_record *record, const struct scan_answer *answers);
    void *taker;
    struct scan_answer room[SCAN_ROOM];
};

/* Whether there is memory to scan: of a process that has none older kernels open pagemap, read nothing from it, and fall over a null
 * pointer when they are to scan it. 1, 0, or the errno as a negative number. */
int scan_has_memory(int pagemap);

/* Scans [start, end), whole pages of `page` bytes. What lies above all that a process may have is left out. */
int scan_range(struct scan *scan, uint64_t start, uint64_t end, uint64_t page);

#endif
