/* /proc/PID/smaps_rollup of one process after another, with who it is and how many regions it has, where that is wanted. */
#ifndef VMATLAS_LINUX_PROCFS_ROLLUPS_H
#define VMATLAS_LINUX_PROCFS_ROLLUPS_H

#include <stddef.h>

struct piece {
    char bytes[4096]; /* what the kernel gives of a short file in one read */
    size_t size;      /* 0: it is empty or cannot be read */
};

struct rollup {
    struct piece text, stat; /* stat: where it is wanted, and where the text could not be read */
    long lines;              /* of maps; -1: not wanted, or cannot be read */
};

void read_rollup(int pid, int described, int counted, struct rollup *rollup);

#endif
