/* Since Linux 6.17 the text of maps (since 7.3 that of smaps, too) can lack memory that is mapped all the time, while another thread
 * splits, merges or replaces regions there. PROCMAP_QUERY never misses such memory. So each hole that a text shows is asked about: for
 * the agent and for this machine alike. */
#ifndef VMATLAS_LINUX_PROCFS_HOLES_H
#define VMATLAS_LINUX_PROCFS_HOLES_H

#include "procmap.h"

enum hole_place { AT_LINE, IN_START, IN_END, IN_REST };

struct holes {
    int maps;        /* a descriptor of maps; -1: it has turned out that the ioctl cannot be asked (Linux before 6.11) */
    uint64_t behind; /* where the last region ended */
    int is_over;     /* the kernel has told that from there on nothing is mapped */
    /* Takes an answer about memory in a hole, with its name (vma_name_size bytes): 0, or an errno with which all ends. */
    int (*put)(struct holes *holes, const struct procmap_query *answer, const char *name);
    void *taker;
    /* Where holes_text() stands. */
    enum hole_place place;
    uint64_t start, end;
};

/* The next region of a text. What lies between it and the one before is asked about. 0, or an errno: the taker's, or the kernel's
 * (ESRCH: the memory is gone). */
int holes_region(struct holes *holes, uint64_t start, uint64_t end);

/* The same for the lines of a piece of the text of maps or smaps, wherever it was cut. */
int holes_text(struct holes *holes, const char *piece, size_t size);

/* Behind the last region. */
int holes_end(struct holes *holes);

#endif
