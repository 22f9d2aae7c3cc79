/* The text of /proc/PID/maps and smaps into columns. */
#ifndef VMATLAS_LINUX_PROCFS_DECODE_H
#define VMATLAS_LINUX_PROCFS_DECODE_H

#include "columns.h"

enum { MOST_KEYS = 256, LONGEST_KEY = 64 };

/* What the lines `Key: value` below each region of smaps are: the same keys for all, in one order. */
struct keys {
    unsigned count; /* 0: not known yet */
    int flags;      /* which of them is VmFlags; -1: none */
    struct {
        char text[LONGEST_KEY]; /* with its colon */
        unsigned size;
    } all[MOST_KEYS];
};

/* Decodes whole lines, as many as there are; `*used` tells how many bytes they took. Call it again with what follows.
 * A fact is what stands after the offset (MAJOR:MINOR INODE NAME, unchecked), its tag the rights: bits 1 r, 2 w, 4 x, 8 s. */
enum verdict decode_maps(const char *text, size_t size, struct columns *columns, size_t *used);

/* The same for smaps, whole regions with what stands below them; the last is known to be whole at the end only (`is_end`).
 * The numbers of a row are the values in bytes, in the order of the keys; in the place of VmFlags a number of `marks`.
 * `keys` is zero at the first call, which has the first region and the line behind it, or all. */
enum verdict decode_smaps(const char *text, size_t size, int is_end, struct columns *columns, struct keys *keys,
                          size_t *used);

#endif
