/* /proc/PID/smaps_rollup of one process after another, with who it is and how many regions it has, where that is wanted. */
#ifndef VMATLAS_LINUX_PROCFS_ROLLUPS_H
#define VMATLAS_LINUX_PROCFS_ROLLUPS_H

#include <stddef.h>
#include <stdint.h>

struct piece {
    char bytes[4096]; /* what the kernel gives of a short file in one read */
    size_t size;      /* 0: it is empty or cannot be read */
};

struct rollup {
    struct piece text, stat; /* stat: where it is wanted, and where the text could not be read */
    long lines;              /* of maps; -1: not wanted, or cannot be read */
    int error;               /* why the text could not be opened; 0: it could, or the process is gone */
};

enum { ROLLUP_KEYS = 64 };

/* The text taken apart. */
struct totals {
    char keys[1024]; /* each with its colon, one behind the other */
    size_t keys_size;
    uint64_t numbers[ROLLUP_KEYS]; /* bytes */
    unsigned count;                /* 0: it is not as kernels write it, or has more than there is room for */
};

void parse_rollup(const struct piece *text, struct totals *totals);
void read_rollup(int pid, int described, int counted, struct rollup *rollup);

#endif
