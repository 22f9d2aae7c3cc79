/* What the NetBSD sources share: processes by sysctl, and saying who one is. A header alone, so that a plugin's C needs nothing at
 * link time. Facts: sysctl(7), <sys/sysctl.h>, sys/kern/kern_proc.c. */
#ifndef VMATLAS_SOURCE_NETBSD_H
#define VMATLAS_SOURCE_NETBSD_H

#include <sys/param.h>
#include <sys/types.h>

#include <errno.h>
#include <stdint.h>
#include <sys/sysctl.h>

#include "source.h"

/* Reads `*size` bytes' worth of struct kinfo_proc2, of all processes or of one (by KERN_PROC_ALL, KERN_PROC_PID); *size becomes what
 * came. 0 or an errno: ENOMEM when there are more. */
static inline int netbsd_read_processes(int which, int pid, struct kinfo_proc2 *room, size_t *size)
{
    int mib[6] = {CTL_KERN, KERN_PROC2, 0, 0, (int)sizeof(struct kinfo_proc2), 0};
    mib[2] = which;
    mib[3] = pid;
    mib[5] = (int)(*size / sizeof(struct kinfo_proc2));
    return sysctl(mib, 6, room, size, NULL, 0) == 0 ? 0 : errno;
}

/* Puts the stream `process` (struct kinfo_proc2; empty when there is none). Done after a map was read: a pid goes from one process
 * to another and never back, so the map was of the process that is told here. */
static inline int netbsd_put_identity(const struct source_question *question, struct source_sink *sink)
{
    struct kinfo_proc2 process;
    size_t size = sizeof process;
    int error = netbsd_read_processes(KERN_PROC_PID, (int)question->pid, &process, &size);
    if (error == ESRCH)
        return sink->put(sink, "process", 0, &process, 0);
    if (error != 0)
        return source_failure_of(sink, "sysctl kern.proc2.pid", question->pid, error);
    return sink->put(sink, "process", 0, &process, size);
}

#endif
