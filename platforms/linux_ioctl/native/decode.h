/* The records of PROCMAP_QUERY into columns. */
#ifndef VMATLAS_LINUX_IOCTL_DECODE_H
#define VMATLAS_LINUX_IOCTL_DECODE_H

#include "columns.h"
#include "procmap.h"

/* A fact: what follows, then the name without its NUL byte. The tag is 0. */
struct fact_head {
    uint64_t vma_flags, inode, page_size;
    uint32_t dev_major, dev_minor;
};

/* A fact being put together; the kernel writes the name where it belongs. */
struct fact_text {
    struct fact_head head;
    char name[NAME_ROOM];
};

/* The size of a fact whose name is in place; 0 when the name is not one that ends with its only NUL byte. */
size_t finish_fact(const struct procmap_query *record, struct fact_text *fact);

/* One answer as a row, its page size as the one number of it. The name is in `fact` already. */
enum verdict add_record(const struct procmap_query *record, struct fact_text *fact, struct columns *columns);

/* The stream `vmas` in this machine's byte order: records, then their names. See decode.py, its twin. */
enum verdict decode_records(const char *data, size_t size, struct columns *columns);

#endif
