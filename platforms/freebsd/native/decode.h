/* The records of KERN_PROC_VMMAP into columns. */
#ifndef VMATLAS_FREEBSD_DECODE_H
#define VMATLAS_FREEBSD_DECODE_H

#include "columns.h"

/* A fact: what follows, then the path. The tag is 0. A mark is the flags of an entry, four bytes. */
struct fact_head {
    uint64_t device, fileid;
    uint32_t type, flags, protection, traits;
};

/* Traits: what else decides the meaning of an entry (decode/meaning.py). */
enum { HAS_OBJECT = 1, ONE_PAGE = 2, HAS_ATTRIBUTES = 4 };

/* The numbers of a row; UINT64_MAX where the entry does not tell. */
enum {
    MARK, RESIDENT, PRIVATE_RESIDENT, PROTECTION, TYPE, REF_COUNT, SHADOW_COUNT, OBJECT, OBJECT_OFFSET, VN_TYPE, VN_SIZE,
    VN_MODE, VN_RDEV, NUMBERS
};

/* The stream `vmmap` in this machine's byte order. See decode/vmmap.py, its twin. */
enum verdict decode_vmmap(const char *data, size_t size, uint64_t page_size, struct columns *columns);

#endif
