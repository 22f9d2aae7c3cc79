/* Plays Linux's /proc/PID/pagemap to the agent's sources. `stat` is what one read of that file gives. `memory` is what a look at the first
 * entry gives: 8 bytes, 0 of a process without memory, or the errno -NUMBER. `pages` are pairs of a page and what it says: its categories
 * to PAGEMAP_SCAN, which knows those of `known`, and the upper 16 bits of its entry to pread(2). From page `top` on nobody can have any.
 * `soft`: this kernel sets the bit of what was written. `errno`: the answer of the ioctl; `gone`: nothing is walked; `lie`: it says that
 * it gave more than there was room for. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "scan.h"

#include "scripted_kernel.h"

extern const struct source vmatlas_linux_pagemap_sources[];

enum { FOLDER = 70, STAT, PAGEMAP, OWN };

static uint64_t page(void) { return (uint64_t)sysconf(_SC_PAGESIZE); }

int open(const char *path, int flags, ...)
{
    if (strcmp(path, "/proc/self/status") == 0) { /* the check of the pid namespace is not played here */
        errno = ENOENT;
        return -1;
    }
    if (strcmp(path, "/proc/self/pagemap") == 0)
        return OWN;
    assert((flags & O_DIRECTORY) != 0);
    printf("open %s\n", path);
    return FOLDER;
}

int openat(int folder, const char *path, int flags, ...)
{
    assert(folder == FOLDER && (flags & O_ACCMODE) == O_RDONLY);
    printf("openat %s\n", path);
    return strcmp(path, "stat") == 0 ? STAT : PAGEMAP;
}

int close(int file)
{
    if (file != OWN)
        printf("close %s\n", file == FOLDER ? "folder" : file == STAT ? "stat" : "pagemap");
    return 0;
}

ssize_t read(int file, void *bytes, size_t size)
{
    long long given = script_next("stat");
    assert(file == STAT && given <= (long long)size);
    memset(bytes, 's', (size_t)given);
    return (ssize_t)given;
}

/* What a page says; 0 where nothing is. */
static uint64_t said_by(uint64_t number)
{
    char *at = script_find("pages");
    while (at != NULL && *at != '\0') {
        uint64_t which = strtoull(at, &at, 0), says = strtoull(at + 1, &at, 0);
        at += *at == ',';
        if (which == number)
            return says;
    }
    return 0;
}

ssize_t pread(int file, void *bytes, size_t size, off_t offset)
{
    uint64_t first = (uint64_t)offset / 8, top = (uint64_t)script_number("top", 1 << 20), count = size / 8;
    if (file == OWN || (offset == 0 && size == 8)) {
        uint64_t entry = script_number("soft", 0) != 0 ? UINT64_C(1) << 55 : 0;
        long long given = file == OWN ? 8 : script_number("memory", 8);
        memcpy(bytes, &entry, sizeof entry);
        errno = given < 0 ? (int)-given : 0;
        return given < 0 ? -1 : (ssize_t)given;
    }
    assert(file == PAGEMAP);
    if (first >= top)
        return 0;
    count = count < top - first ? count : top - first;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t entry = said_by(first + i) << 48;
        memcpy((char *)bytes + 8 * i, &entry, sizeof entry);
    }
    return (ssize_t)(count * 8);
}

static long answer(struct scan_record *record)
{
    struct scan_answer *room = (struct scan_answer *)(uintptr_t)record->vec;
    uint64_t count = 0, top = (uint64_t)script_number("top", 1 << 20);
    int error = (int)script_number("errno", 0);
    if (error != 0)
        return -error;
    if (((record->anyof | record->told) & ~(uint64_t)script_number("known", 0x1ff)) != 0)
        return -EINVAL;
    if (record->end / page() > top)
        return -EFAULT;
    if (record->vec == 0)
        return -EINVAL;
    if (script_number("lie", 0) != 0)
        return (long)record->vec_len + 1;
    if (script_number("gone", 0) != 0)
        return 0;
    for (uint64_t at = record->start / page(); at < record->end / page() && count < record->vec_len; at++) {
        uint64_t says = said_by(at);
        record->walk_end = (at + 1) * page();
        if ((says & record->anyof) == 0)
            continue;
        room[count].start = at * page();
        room[count].end = at * page() + page();
        room[count++].categories = says & record->told;
    }
    return (long)count;
}

long syscall(long number, ...)
{
    va_list words;
    struct scan_record *record;
    long count;
    int file;
    va_start(words, number);
    file = va_arg(words, int);
    (void)va_arg(words, unsigned long);
    record = va_arg(words, struct scan_record *);
    va_end(words);
    assert(number == SYS_ioctl && (file == PAGEMAP || file == OWN));
    if (file == PAGEMAP)
        printf("scan %d\n", (int)(record->end / page()));
    count = answer(record);
    errno = count < 0 ? (int)-count : 0;
    return count < 0 ? -1 : count;
}

int main(int argc, char **argv)
{
    script_begin(argc, argv);
    return script_ask(vmatlas_linux_pagemap_sources);
}
