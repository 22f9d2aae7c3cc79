/* Arrays of `procfs_mapinfo` into columns. */
#ifndef VMATLAS_QNX_DECODE_H
#define VMATLAS_QNX_DECODE_H

#include "columns.h"

/* A fact: what decides the meaning of a region, and of an entry of the kernel's own. The tag is 0. A mark is the flags, four
 * bytes: a region's without the bits that say what the page tables hold. */
struct fact {
    uint32_t dev, name, traits, flags;
};

enum { IS_HEAP = 1 };

/* The numbers of a row; UINT64_MAX where the entry does not tell. */
enum { MARK, RESIDENT, DEV, INO, PADDR, NUMBERS };

/* The name of what lies at an address, by its number (not 0). */
struct name {
    uint64_t address, number;
};

/* Entries in this machine's byte order, and the names in the order of their addresses. `limit`: where memory ends at the
 * latest, below UINT64_MAX. `told`: whether the entries say what the page tables hold. See vmatlas_qnx/decode.py, the twin. */
enum verdict decode_entries(const char *data, size_t size, const struct name *names, size_t name_count, uint64_t limit,
                            int told, struct columns *regions, struct columns *entries);

#endif
