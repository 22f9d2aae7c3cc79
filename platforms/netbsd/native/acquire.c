/* The sysctl vm.proc.map: struct kinfo_vmentry, one a region (NetBSD 8 and newer). Compiled into agents. Facts: sysctl(7),
 * <sys/sysctl.h>, fill_vmentries() of sys/uvm/uvm_map.c. */
#include "source_netbsd.h"

#include <uvm/uvm_param.h>

extern const struct source vmatlas_netbsd_sources[];

/* The kernel takes no more room than this, so it tells of no map with more than some 9,000 regions (E2BIG). Static, and there
 * before it is asked: reading oneself shall change the answer as little as can be. */
static uint8_t room[10 << 20];

/* Always asked for whole structures: the loop that fills them is bounded by their size, whatever size was asked for. */
static int read_map(int pid, size_t *size)
{
    enum { ATTEMPTS = 8 };
    int mib[5] = {CTL_VM, VM_PROC, VM_PROC_MAP, 0, (int)sizeof(struct kinfo_vmentry)};
    mib[3] = pid;
    for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
        *size = 0;
        if (sysctl(mib, 5, NULL, size, NULL, 0) != 0)
            return errno;
        if (*size == 0)
            return 0;
        if (*size > sizeof room)
            return E2BIG;
        /* It may grow before it is read, which gives ENOSPC; the kernel makes as much room of its own as it is given. */
        *size += *size / 3 + 4 * sizeof(struct kinfo_vmentry);
        if (*size > sizeof room)
            *size = sizeof room;
        if (sysctl(mib, 5, room, size, NULL, 0) == 0)
            return 0;
        if (errno != ENOSPC && errno != ENOMEM)
            return errno;
    }
    return ENOSPC;
}

static int acquire(const struct source_question *question, struct source_sink *sink)
{
    size_t size;
    int error, untold;
    if (question->tid != 0 || question->pid > INT32_MAX) {
        sink->refused = 1;
        return source_failure_of(sink, "the map of a thread, or a number that is none,", question->pid, ENOTSUP);
    }
    error = read_map((int)question->pid, &size);
    if (error == 0) {
        error = sink->put(sink, "map", 0, room, size);
        if (error != 0)
            return error;
    }
    untold = netbsd_put_identity(question, sink); /* also with an error, which it may explain */
    return error != 0 ? source_failure_of(sink, "sysctl vm.proc.map", question->pid, error) : untold;
}

const struct source vmatlas_netbsd_sources[] = {
    {"netbsd.map", acquire, NULL},
    {NULL, NULL, NULL},
};
