/* What the FreeBSD sources share: reading a sysctl whole, and saying who a process is. A header alone, so that a plugin's C needs
 * nothing at link time. */
#ifndef VMATLAS_SOURCE_FREEBSD_H
#define VMATLAS_SOURCE_FREEBSD_H

#include <sys/param.h>
#include <sys/types.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysctl.h>
#include <sys/user.h>
#include <unistd.h>

#include "source.h"

/* The value of a sysctl: in the room that was given, or in memory that was mapped for it. */
struct freebsd_value {
    uint8_t *bytes;
    size_t size, mapped;
};

static inline void freebsd_free(struct freebsd_value *value)
{
    if (value->mapped > 0)
        (void)munmap(value->bytes, value->mapped);
    value->mapped = 0;
}

/* Reads a sysctl whole; 0 or an errno (E2BIG: beyond all reason). The kernel tells the size of what is there now, and what is
 * there may have grown by the time that it is read: that is ENOMEM. So there is a third more room than it said, and more
 * each time that was not enough. */
static inline int freebsd_read(const int *mib, unsigned count, void *room, size_t room_size, struct freebsd_value *value)
{
    enum { ATTEMPTS = 8, MOST = 1 << 28 };
    size_t wanted = 0;
    for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
        size_t size = 0;
        value->bytes = room;
        value->size = 0;
        value->mapped = 0;
        if (sysctl(mib, count, NULL, &size, NULL, 0) != 0)
            return errno;
        if (size == 0)
            return 0;
        if (size > MOST)
            return E2BIG;
        wanted = size + size / 3 > 2 * wanted ? size + size / 3 : 2 * wanted;
        if (wanted > MOST)
            return E2BIG;
        value->size = room_size;
        if (wanted > room_size) {
            void *mapped = mmap(NULL, wanted, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON, -1, 0);
            if (mapped == MAP_FAILED)
                return errno;
            value->bytes = mapped;
            value->size = value->mapped = wanted;
        }
        if (sysctl(mib, count, value->bytes, &value->size, NULL, 0) == 0)
            return 0;
        size = (size_t)errno;
        freebsd_free(value);
        if (size != ENOMEM)
            return (int)size;
        wanted = wanted > room_size ? wanted : room_size;
    }
    return ENOMEM;
}

/* Puts the streams `boottime` (struct timeval) and `proc` (struct kinfo_proc; empty when there is no such process). Done after a
 * map was read: a pid goes from one process to another and never back, so the map was of the process that is told here. */
static inline int freebsd_put_identity(const struct source_question *question, struct source_sink *sink)
{
    int boot_mib[2] = {CTL_KERN, KERN_BOOTTIME}, mib[4] = {CTL_KERN, KERN_PROC, KERN_PROC_PID, 0}, error;
    struct timeval boot_time;
    struct kinfo_proc process;
    size_t size = sizeof boot_time;
    if (sysctl(boot_mib, 2, &boot_time, &size, NULL, 0) != 0)
        return source_failure_of(sink, "sysctl kern.boottime, asked because", question->pid, errno);
    error = sink->put(sink, "boottime", 0, &boot_time, size);
    if (error != 0)
        return error;
    mib[3] = (int)question->pid;
    size = sizeof process;
    if (sysctl(mib, 4, &process, &size, NULL, 0) != 0)
        return errno == ESRCH ? 0 : source_failure_of(sink, "sysctl kern.proc.pid", question->pid, errno);
    return sink->put(sink, "proc", 0, &process, size);
}

/* Ends an acquisition: who the process is goes along, also with an error, which it may explain. */
static inline int freebsd_conclude(const struct source_question *question, struct source_sink *sink, const char *what, int error)
{
    int untold = freebsd_put_identity(question, sink);
    return error != 0 ? source_failure_of(sink, what, question->pid, error) : untold;
}

#endif
