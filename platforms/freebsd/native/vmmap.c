/* The sysctl KERN_PROC_VMMAP: packed struct kinfo_vmentry, as the kernel writes them (<sys/user.h>). */
#include "source_freebsd.h"

extern const struct source vmatlas_freebsd_vmmap_sources[];

static int acquire(const struct source_question *question, struct source_sink *sink)
{
    /* Not on the stack, and there before it is asked: reading oneself shall change the answer as little as can be. Some 25,000
     * entries; a larger map gets memory of its own. */
    static uint8_t room[4 << 20];
    int mib[4] = {CTL_KERN, KERN_PROC, KERN_PROC_VMMAP, 0}, error;
    struct freebsd_value value;
    if (question->tid != 0 || question->pid > INT32_MAX) {
        sink->refused = 1;
        return source_failure_of(sink, "the map of a thread, or a number that is none,", question->pid, ENOTSUP);
    }
    mib[3] = (int)question->pid;
    error = freebsd_read(mib, 4, room, sizeof room, &value);
    if (error == 0) {
        error = sink->put(sink, "vmmap", 0, value.bytes, value.size);
        freebsd_free(&value);
        if (error != 0)
            return error;
    }
    return freebsd_conclude(question, sink, "sysctl kern.proc.vmmap", error);
}

const struct source vmatlas_freebsd_vmmap_sources[] = {
    {"freebsd.vmmap", acquire, NULL},
    {NULL, NULL, NULL},
};
