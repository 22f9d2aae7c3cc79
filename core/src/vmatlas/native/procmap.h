/* PROCMAP_QUERY on /proc/PID/maps (Linux 6.11 and newer; include/uapi/linux/fs.h), declared here since older headers lack it:
 * one question, for the agent and for this machine alike. */
#ifndef VMATLAS_PROCMAP_H
#define VMATLAS_PROCMAP_H

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

struct procmap_query {
    uint64_t size, query_flags, query_addr, vma_start, vma_end, vma_flags, vma_page_size, vma_offset, inode;
    uint32_t dev_major, dev_minor, vma_name_size, build_id_size;
    uint64_t vma_name_addr, build_id_addr;
};
typedef char procmap_query_is_104_bytes[sizeof(struct procmap_query) == 104 ? 1 : -1];
typedef char procmap_query_name_is_at_88[offsetof(struct procmap_query, vma_name_addr) == 88 ? 1 : -1];

enum {
    COVERING_OR_NEXT = 0x10,
    NAME_ROOM = 4096,  /* PATH_MAX: the kernel uses no more */
    BUILD_ID_ROOM = 64 /* the kernel has at most 20 */
};

#define PROCMAP_QUERY _IOWR('f', 17, struct procmap_query)

/* 0 or the errno. */
static inline int procmap_ask(int maps, struct procmap_query *query)
{
    /* The C libraries do not agree on the type of the request; the system call does. */
    while (syscall(SYS_ioctl, maps, (unsigned long)PROCMAP_QUERY, query) != 0)
        if (errno != EINTR)
            return errno;
    return 0;
}

#endif
