/* What is asked of QNX Neutrino's procfs (<sys/procfs.h>), for the sources and for the list of processes.
 * A header alone, so that a plugin's acquire.c needs nothing at link time. */
#ifndef VMATLAS_SOURCE_QNX_H
#define VMATLAS_SOURCE_QNX_H

#include <devctl.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "source.h"

/* (size << 16) + (class 8 << 8) + number, with 0x40000000 from the driver, 0xC0000000 both ways. */
#define QNX_MAPINFO 0x40300802U
#define QNX_PAGEDATA 0x40300814U
#define QNX_INFO 0x41100801U
#define QNX_MAPDEBUG 0xC0100803U
#define QNX_MAPDEBUG_BASE 0x40100803U /* of the program itself; the kernel's own process has a name by this alone */

enum {
    QNX_ENTRY = 48,          /* sizeof(procfs_mapinfo): the same on 32-bit and 64-bit kernels */
    QNX_INFO_SIZE = 272,     /* sizeof(procfs_info) */
    QNX_INFO_PARENT = 4,     /* offsets in it */
    QNX_INFO_FLAGS = 8,
    QNX_INFO_USER = 56,      /* the effective one; the real one stands at 48, the groups behind each */
    QNX_INFO_START_TIME = 112,
    QNX_NAME_AT = 8,         /* MAPDEBUG: a path behind the address */
    QNX_NAME_ROOM = 1040     /* the address, PATH_MAX (1,024), a NUL */
};

static inline void qnx_process_path(uint32_t pid, char *path, size_t size)
{
    path[0] = '\0';
    add_text(path, size, "/proc/");
    add_number(path, size, pid);
    add_text(path, size, "/as");
}

/* Says in sink->failed what was tried, and returns `error`. */
static inline int qnx_failure(uint32_t pid, struct source_sink *sink, const char *call, int error)
{
    char path[32];
    qnx_process_path(pid, path, sizeof path);
    return source_failure(sink, call, path, error);
}

/* Opens the address space, for reading alone: a second opening for writing is EBUSY. The descriptor never comes to mean another
 * process. 0 or an errno. */
static inline int qnx_open_process(uint32_t pid, int *opened)
{
    char path[32];
    qnx_process_path(pid, path, sizeof path);
    do
        *opened = open(path, O_RDONLY | O_CLOEXEC);
    while (*opened < 0 && errno == EINTR);
    return *opened < 0 ? errno : 0;
}

static inline int qnx_ask(int process, unsigned command, void *data, size_t size, int *told)
{
    int error;
    do
        error = devctl(process, (int)command, data, size, told);
    while (error == EINTR);
    return error;
}

/* The only place that asks MAPDEBUG: the path of what is mapped at an address (or of the program), behind the 8 bytes of the
 * address. With a buffer of 8 bytes or less the kernel keeps the lock of the target's address space, and the target hangs for
 * good. */
static inline int qnx_ask_path(int process, unsigned command, uint64_t address, uint8_t *answer, size_t room)
{
    int error, told = 0;
    if (room <= QNX_NAME_AT)
        return EINVAL;
    memset(answer, 0, room);
    memcpy(answer, &address, sizeof address);
    error = qnx_ask(process, command, answer, room, &told);
    answer[room - 1] = '\0';
    return error;
}

static inline int qnx_ask_name(int process, uint64_t address, uint8_t *answer, size_t room)
{
    return qnx_ask_path(process, QNX_MAPDEBUG, address, answer, room);
}

static inline int qnx_ask_program(int process, uint8_t *answer, size_t room)
{
    return qnx_ask_path(process, QNX_MAPDEBUG_BASE, 0, answer, room);
}

#endif
