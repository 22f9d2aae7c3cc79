/* Runs the agent's source against a scripted sysctl: driver PID REGIONS GROWTH... ; GROWTH are regions by which the map has grown
 * between a size probe and the reading, for one reading after another. REGIONS below 0 is an errno. Prints what came out. */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysctl.h>
#include <uvm/uvm_param.h>

#include "source.h"

extern const struct source vmatlas_netbsd_sources[];

static long regions, growth[16];
static int readings, growths, alive;

/* As fill_vmentries() of sys/uvm/uvm_map.c answers. */
static int tell_map(const int *mib, unsigned count, void *old, size_t *old_size)
{
    const size_t one = sizeof(struct kinfo_vmentry);
    size_t there = (size_t)regions * one, room = *old_size / one;
    if (count != 5 || mib[2] != VM_PROC_MAP || mib[4] != (int)one)
        abort();
    if (regions < 0) {
        errno = (int)-regions;
        return -1;
    }
    if (old == NULL) {
        *old_size = there;
        return 0;
    }
    if (*old_size > 10U * 1024 * 1024) {
        errno = E2BIG;
        return -1;
    }
    if (room == 0) {
        errno = ENOMEM;
        return -1;
    }
    if (readings < growths)
        there += (size_t)growth[readings] * one;
    readings++;
    memset(old, 'm', there < room * one ? there : room * one);
    if (there > *old_size) {
        *old_size = there;
        errno = ENOSPC;
        return -1;
    }
    *old_size = there;
    return 0;
}

int sysctl(const int *mib, unsigned count, void *old, size_t *old_size, const void *new_value, size_t new_size)
{
    if (new_value != NULL || new_size != 0)
        abort();
    if (mib[0] == CTL_VM)
        return tell_map(mib, count, old, old_size);
    if (count != 6 || mib[1] != KERN_PROC2 || mib[2] != KERN_PROC_PID || mib[4] != 680 || mib[5] != 1)
        abort();
    if (!alive) {
        errno = ESRCH;
        return -1;
    }
    memset(old, 9, *old_size);
    return 0;
}

static int put(struct source_sink *sink, const char *stream, unsigned part, const void *bytes, size_t size)
{
    const unsigned char *from = bytes;
    size_t right = 0;
    (void)sink;
    for (size_t i = 0; i < size; i++)
        right += from[i] == 'm';
    printf("%s %u %zu %zu\n", stream, part, size, right);
    return 0;
}

int main(int argc, char **argv)
{
    struct source_question question;
    struct source_sink sink;
    int error;
    memset(&question, 0, sizeof question);
    memset(&sink, 0, sizeof sink);
    sink.put = put;
    question.pid = (uint32_t)strtoul(argv[1], NULL, 10);
    question.tid = question.pid == 99 ? 1 : 0;
    alive = question.pid != 404;
    regions = strtol(argv[2], NULL, 10);
    for (int i = 3; i < argc && growths < 16; i++)
        growth[growths++] = strtol(argv[i], NULL, 10);
    error = vmatlas_netbsd_sources[0].acquire(&question, &sink);
    printf("error %d refused %d readings %d: %s\n", error, sink.refused, readings, sink.failed);
    return 0;
}
