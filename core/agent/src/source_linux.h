/* What the Linux sources share: the descriptor of a process, and its stat line as a stream.
 * A header alone, so that a plugin's acquire.c needs nothing at link time. */
#ifndef VMATLAS_SOURCE_LINUX_H
#define VMATLAS_SOURCE_LINUX_H

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "source.h"

/* "/proc/PID" or "/proc/PID/task/TID" */
static inline void linux_process_path(const struct source_question *question, char *path, size_t size)
{
    path[0] = '\0';
    add_text(path, size, "/proc/");
    add_number(path, size, question->pid);
    if (question->tid != 0) {
        add_text(path, size, "/task/");
        add_number(path, size, question->tid);
    }
}

/* Says in sink->failed which call on which file of the process failed, and returns `error`. */
static inline int linux_failure(const struct source_question *question, struct source_sink *sink, const char *call,
                                const char *file, int error)
{
    char path[96];
    linux_process_path(question, path, sizeof path);
    add_text(path, sizeof path, "/");
    add_text(path, sizeof path, file);
    return source_failure(sink, call, path, error);
}

/* Opens the directory of the process. Everything opened below it is of this very process: a pid used again cannot slip in. */
static inline int linux_open_process(const struct source_question *question, struct source_sink *sink, int *folder)
{
    char path[64];
    linux_process_path(question, path, sizeof path);
    do
        *folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    while (*folder < 0 && errno == EINTR);
    return *folder < 0 ? linux_failure(question, sink, "open", "", errno) : 0;
}

static inline int linux_open_file(int folder, const char *file, const struct source_question *question,
                                  struct source_sink *sink, int *opened)
{
    do
        *opened = openat(folder, file, O_RDONLY | O_CLOEXEC);
    while (*opened < 0 && errno == EINTR);
    return *opened < 0 ? linux_failure(question, sink, "open", file, errno) : 0;
}

/* Copies a short file of the process (stat), which the kernel gives in one piece, into the stream of the same name. */
static inline int linux_put_file(int folder, const char *file, const struct source_question *question,
                                 struct source_sink *sink)
{
    char bytes[4096];
    ssize_t got;
    int opened, error = linux_open_file(folder, file, question, sink, &opened);
    if (error != 0)
        return error;
    do
        got = read(opened, bytes, sizeof bytes);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        error = linux_failure(question, sink, "read", file, errno);
    else if (got > 0)
        error = sink->put(sink, file, 0, bytes, (size_t)got);
    (void)close(opened);
    return error;
}

#endif
