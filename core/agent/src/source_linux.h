/* What the Linux sources share: the descriptor of a process, and its stat line as a stream.
 * A header alone, so that a plugin's acquire.c needs nothing at link time. */
#ifndef VMATLAS_SOURCE_LINUX_H
#define VMATLAS_SOURCE_LINUX_H

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "source.h"

/* ---- what /proc is here ---- */

/* How many numbers the line that begins with `key` (NSpid: since Linux 4.1) of an open /proc/PID/status has, and the last of them;
 * 0 where it has no such line, or cannot be read. The line of groups before it may be long. */
static inline int linux_read_numbers(int status, const char *key, uint32_t *last)
{
    enum { AT_KEY, ELSEWHERE, AT_NUMBERS };
    char bytes[1024];
    size_t matched = 0;
    int state = AT_KEY, count = 0, in_number = 0;
    for (;;) {
        ssize_t got = read(status, bytes, sizeof bytes);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return 0;
        for (ssize_t i = 0; i < got; i++) {
            if (state == AT_NUMBERS) {
                int digit = bytes[i] >= '0' && bytes[i] <= '9';
                if (digit && !in_number) {
                    count++;
                    *last = 0;
                }
                if (digit)
                    *last = *last * 10 + (uint32_t)(bytes[i] - '0');
                in_number = digit;
                if (bytes[i] == '\n')
                    return count;
            } else if (bytes[i] == '\n') {
                state = AT_KEY;
                matched = 0;
            } else if (state == AT_KEY) {
                state = bytes[i] == key[matched] ? AT_KEY : ELSEWHERE;
                if (state == AT_KEY && key[++matched] == '\0')
                    state = AT_NUMBERS;
            }
        }
    }
}

/* 0 where /proc calls processes by the numbers that system calls take here, EXDEV where it is of another pid namespace: its
 * numbers mean others then. Such a /proc may call this process as getpid() does, by chance; its NSpid has a second number then.
 * Believed from then on of just this process and this /proc: a fork has another inode there, another /proc another device. */
static inline int linux_numbers_differ(void)
{
    static dev_t device;
    static ino_t inode;
    struct stat self;
    char number[24];
    ssize_t got;
    uint32_t last;
    int status, numbers;
    if (stat("/proc/self", &self) != 0)
        return lstat("/proc/self", &self) == 0 ? EXDEV : 0; /* a link that leads nowhere: this process is not in there */
    if (inode != 0 && self.st_dev == device && self.st_ino == inode)
        return 0;
    got = readlink("/proc/self", number, sizeof number - 1);
    if (got <= 0)
        return 0; /* what comes next says it */
    number[got] = '\0';
    if (strtoul(number, NULL, 10) != (unsigned long)getpid())
        return EXDEV;
    status = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
    if (status < 0)
        return 0;
    numbers = linux_read_numbers(status, "NSpid:", &last);
    (void)close(status);
    if (numbers > 1)
        return EXDEV;
    device = self.st_dev;
    inode = self.st_ino;
    return 0;
}

/* The same, said in sink->failed: the agent's own refusal. */
static inline int linux_check_numbers(struct source_sink *sink)
{
    int error = linux_numbers_differ();
    if (error == 0)
        return 0;
    sink->refused = 1;
    return source_failure(sink, "/proc", "is of another pid namespace", error);
}

/* The emulator that runs this process (qemu-user), 0 where there is none. It answers for some files of /proc/self that are named
 * by their path, so as to show what the program that it runs would see, and not for those below a descriptor: the two names of the
 * running program differ then, and never without it. `name` is the last part of the emulator's own. */
static inline int linux_find_emulator(char *name, size_t room)
{
    char by_path[4096], below[4096];
    const char *last = below;
    ssize_t size, true_size = -1;
    int folder = open("/proc/self", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0)
        return 0;
    size = readlink("/proc/self/exe", by_path, sizeof by_path);
    true_size = readlinkat(folder, "exe", below, sizeof below - 1);
    (void)close(folder);
    if (size <= 0 || true_size <= 0 || (size == true_size && memcmp(by_path, below, (size_t)size) == 0))
        return 0;
    below[true_size] = '\0';
    for (const char *at = below; *at != '\0'; at++)
        if (*at == '/')
            last = at + 1;
    name[0] = '\0';
    add_text(name, room, last);
    return 1;
}

/* ---- one process ---- */

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
    int error = linux_check_numbers(sink);
    if (error != 0)
        return error;
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

/* Opens a file that tells of memory. Where an emulator runs this process, its own map below the descriptor is the emulator's: it
 * is asked for by its path, for which the emulator tells that of the program. What it does not tell is refused. */
static inline int linux_open_map(int folder, const char *file, const struct source_question *question,
                                 struct source_sink *sink, int *opened)
{
    char path[64] = "/proc/self/", emulator[64];
    struct stat of_kernel, told;
    if (question->pid != (uint32_t)getpid() || question->tid != 0 || !linux_find_emulator(emulator, sizeof emulator))
        return linux_open_file(folder, file, question, sink, opened);
    add_text(path, sizeof path, file);
    *opened = open(path, O_RDONLY | O_CLOEXEC);
    if (*opened < 0)
        return linux_failure(question, sink, "open", file, errno);
    if (fstat(folder, &of_kernel) == 0 && fstat(*opened, &told) == 0 && of_kernel.st_dev != told.st_dev)
        return 0;
    (void)close(*opened);
    sink->refused = 1;
    return linux_failure(question, sink, "the emulator does not tell", file, ENOTSUP);
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
