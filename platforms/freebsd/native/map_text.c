/* The text of /proc/PID/map, as the kernel writes it (procfs(5)). */
#include "source_freebsd.h"

extern const struct source vmatlas_freebsd_map_sources[];

static int acquire(const struct source_question *question, struct source_sink *sink)
{
    /* More than the 1,048,575 bytes at which the kernel cuts. Each read makes the whole text anew: so there is one. */
    static uint8_t room[2 << 20];
    char path[64] = "/proc/";
    ssize_t got = 0;
    int file, error = 0;
    if (question->tid != 0) {
        sink->refused = 1;
        return source_failure_of(sink, "the map of a thread", question->pid, ENOTSUP);
    }
    add_number(path, sizeof path, question->pid);
    add_text(path, sizeof path, "/map");
    do
        file = open(path, O_RDONLY | O_CLOEXEC);
    while (file < 0 && errno == EINTR);
    if (file < 0)
        return freebsd_conclude(question, sink, "opening /proc/PID/map", errno);
    do
        got = read(file, room, sizeof room);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        error = errno;
    (void)close(file);
    if (got > 0) {
        error = sink->put(sink, "map", 0, room, (size_t)got);
        if (error != 0)
            return error;
    }
    return freebsd_conclude(question, sink, "reading /proc/PID/map", error);
}

const struct source vmatlas_freebsd_map_sources[] = {
    {"freebsd.procfs_map", acquire, NULL},
    {NULL, NULL, NULL},
};
