#include "rollups.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#ifndef O_PATH
#define O_PATH 010000000
#endif

static int is_key(char c) { return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_'; }

/* One line, "Key:   NUMBER kB"; where the next begins, or NULL. */
static const char *parse_line(const char *at, const char *end, struct totals *totals)
{
    const char *key = at;
    uint64_t number = 0;
    size_t size;
    int digits = 0;
    while (at < end && is_key(*at))
        at++;
    if (at == key || (*key >= '0' && *key <= '9') || *key == '_' || at == end || *at++ != ':')
        return NULL;
    size = (size_t)(at - key);
    if (totals->count == ROLLUP_KEYS || size > sizeof totals->keys - totals->keys_size)
        return NULL;
    memcpy(totals->keys + totals->keys_size, key, size);
    totals->keys_size += size;
    while (at < end && *at == ' ')
        at++;
    for (; at < end && *at >= '0' && *at <= '9' && digits < 17; at++, digits++)
        number = number * 10 + (uint64_t)(*at - '0');
    if (digits == 0 || number > UINT64_MAX / 1024 || end - at < 4 || memcmp(at, " kB\n", 4) != 0)
        return NULL;
    totals->numbers[totals->count++] = number * 1024;
    return at + 4;
}

/* "START-END ---p 00000000 00:00 0    [rollup]": what stands before it is looked at by Python, where anything is unusual. */
void parse_rollup(const struct piece *text, struct totals *totals)
{
    static const char mark[] = " ---p 00000000 00:00 0 ", name[] = " [rollup]\n";
    const char *at = text->bytes, *end = at + text->size, *line = (const char *)memchr(at, '\n', text->size);
    totals->count = 0;
    totals->keys_size = 0;
    if (line == NULL)
        return;
    while (at < line && ((*at >= '0' && *at <= '9') || (*at >= 'a' && *at <= 'f') || *at == '-'))
        at++;
    if (line - at < (ptrdiff_t)(sizeof mark + sizeof name) || memcmp(at, mark, sizeof mark - 1) != 0 ||
        memcmp(line + 2 - sizeof name, name, sizeof name - 1) != 0)
        return;
    for (at = line + 1; at != NULL && at < end;)
        at = parse_line(at, end, totals);
    if (at == NULL)
        totals->count = 0;
}

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

/* Why it could not be opened, or 0. */
static int read_piece(int folder, const char *name, struct piece *piece)
{
    ssize_t got;
    int file = open_below(folder, name, O_RDONLY);
    if (file < 0)
        return errno;
    got = read_on(file, piece->bytes, sizeof piece->bytes);
    piece->size = got > 0 ? (size_t)got : 0;
    (void)close(file);
    return 0;
}

static long count_lines(int folder)
{
    char bytes[8192];
    ssize_t got;
    long lines = 0, left = 1L << 28; /* a process chooses its names: what is longer than any map is not counted to its end */
    int file = open_below(folder, "maps", O_RDONLY);
    if (file < 0)
        return -1;
    while ((got = read_on(file, bytes, sizeof bytes)) > 0 && (left -= got) >= 0)
        for (const char *at = bytes; (at = (const char *)memchr(at, '\n', (size_t)(bytes + got - at))) != NULL; at++)
            lines++;
    (void)close(file);
    return got < 0 || left < 0 ? -1 : lines;
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
    rollup->error = 0;
    if (pid < 0)
        return;
    folder_of(pid, path);
    folder = open_below(AT_FDCWD, path, O_PATH | O_DIRECTORY);
    if (folder < 0)
        return;
    rollup->error = read_piece(folder, "smaps_rollup", &rollup->text);
    if (described || rollup->text.size == 0)
        (void)read_piece(folder, "stat", &rollup->stat);
    if (counted && rollup->text.size > 0)
        rollup->lines = count_lines(folder);
    (void)close(folder);
}
