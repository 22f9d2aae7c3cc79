#include "rollups.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#ifndef O_PATH
#define O_PATH 010000000
#endif

static int open_below(int folder, const char *name, int flags)
{
    int opened;
    do
        opened = openat(folder, name, flags | O_CLOEXEC);
    while (opened < 0 && errno == EINTR);
    return opened;
}

static ssize_t read_on(int file, char *room, size_t size)
{
    ssize_t got;
    do
        got = read(file, room, size);
    while (got < 0 && errno == EINTR);
    return got;
}

static void read_piece(int folder, const char *name, struct piece *piece)
{
    ssize_t got;
    int file = open_below(folder, name, O_RDONLY);
    if (file < 0)
        return;
    got = read_on(file, piece->bytes, sizeof piece->bytes);
    piece->size = got > 0 ? (size_t)got : 0;
    (void)close(file);
}

static long count_lines(int folder)
{
    char bytes[8192];
    ssize_t got;
    long lines = 0;
    int file = open_below(folder, "maps", O_RDONLY);
    if (file < 0)
        return -1;
    while ((got = read_on(file, bytes, sizeof bytes)) > 0)
        for (const char *at = bytes; (at = (const char *)memchr(at, '\n', (size_t)(bytes + got - at))) != NULL; at++)
            lines++;
    (void)close(file);
    return got < 0 ? -1 : lines;
}

/* "/proc/PID": no call of the library that might take its locks. */
static void folder_of(int pid, char *path)
{
    char digits[16];
    int count = 0;
    memcpy(path, "/proc/", 6);
    path += 6;
    do
        digits[count++] = (char)('0' + pid % 10);
    while ((pid /= 10) > 0);
    while (count > 0)
        *path++ = digits[--count];
    *path = '\0';
}

/* Below a descriptor of the process's folder, so that all is of the same process. */
void read_rollup(int pid, int described, int counted, struct rollup *rollup)
{
    char path[32];
    int folder;
    rollup->text.size = rollup->stat.size = 0;
    rollup->lines = -1;
    if (pid < 0)
        return;
    folder_of(pid, path);
    folder = open_below(AT_FDCWD, path, O_PATH | O_DIRECTORY);
    if (folder < 0)
        return;
    read_piece(folder, "smaps_rollup", &rollup->text);
    if (described || rollup->text.size == 0)
        read_piece(folder, "stat", &rollup->stat);
    if (counted && rollup->text.size > 0)
        rollup->lines = count_lines(folder);
    (void)close(folder);
}
