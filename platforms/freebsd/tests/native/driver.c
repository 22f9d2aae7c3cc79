/* Runs a source of the agent against a scripted sysctl: driver PID SIZE GROWTH... ; GROWTH are bytes by which the map has grown
 * between a size probe and the reading, for one reading after another. A SIZE below 0 is an errno. Prints what came out. */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysctl.h>
#include <sys/user.h>

#include "source.h"

extern const struct source vmatlas_freebsd_vmmap_sources[];

static long size_now, growth[16];
static int readings, growths, alive;

int sysctl(const int *mib, unsigned count, void *old, size_t *old_size, const void *new_value, size_t new_size)
{
    size_t size;
    if (new_value != NULL || new_size != 0)
        abort();
    if (count == 2 && mib[1] == KERN_BOOTTIME) {
        memset(old, 7, *old_size);
        return 0;
    }
    if (mib[2] == KERN_PROC_PID) {
        errno = ESRCH;
        if (!alive)
            return -1;
        memset(old, 9, *old_size);
        return 0;
    }
    if (size_now < 0) {
        errno = (int)-size_now;
        return -1;
    }
    size = (size_t)size_now;
    if (old == NULL) {
        *old_size = size;
        return 0;
    }
    if (readings < growths)
        size += (size_t)growth[readings];
    readings++;
    memset(old, 'm', size < *old_size ? size : *old_size);
    if (size > *old_size) {
        errno = ENOMEM;
        return -1;
    }
    *old_size = size;
    return 0;
}

static int put(struct source_sink *sink, const char *stream, unsigned part, const void *bytes, size_t size)
{
    const unsigned char *from = bytes;
    unsigned long sum = 0;
    (void)sink;
    for (size_t i = 0; i < size; i++)
        sum += from[i] == 'm';
    printf("%s %u %zu %lu\n", stream, part, size, sum);
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
    size_now = strtol(argv[2], NULL, 10);
    for (int i = 3; i < argc && growths < 16; i++)
        growth[growths++] = strtol(argv[i], NULL, 10);
    error = vmatlas_freebsd_vmmap_sources[0].acquire(&question, &sink);
    printf("error %d refused %d readings %d: %s\n", error, sink.refused, readings, sink.failed);
    return 0;
}
