/* Plays Linux's /proc to the agent's source. `stat` and `text` are what one read after another of the file gives: so many bytes,
 * or the errno -NUMBER; behind the last one is its end. `again` is the same of the text, once its end was reached. With `lines`, the
 * text is a line for each pair START,END of these, and no `text` is asked. PROCMAP_QUERY answers from the pairs of `mapped`, which
 * are in order, each with the name "/n"; with `errno`, that is its answer; without `mapped` there is no such ioctl. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <unistd.h>

#include "procmap.h"

#include "scripted_kernel.h"

extern const struct source vmatlas_linux_procfs_sources[];

enum { FOLDER = 70, STAT, TEXT, MAPS };

static const char *reads[] = {[STAT] = "stat", [TEXT] = "text"};

int open(const char *path, int flags, ...)
{
    if (strcmp(path, "/proc/self/status") == 0) { /* no number to compare: the check of the pid namespace is not played here */
        errno = ENOENT;
        return -1;
    }
    assert((flags & O_DIRECTORY) != 0);
    printf("open %s\n", path);
    return FOLDER;
}

int openat(int folder, const char *path, int flags, ...)
{
    static int is_open;
    assert(folder == FOLDER && (flags & O_ACCMODE) == O_RDONLY);
    printf("openat %s\n", path);
    if (strcmp(path, "stat") == 0)
        return STAT;
    is_open = is_open || strcmp(path, "smaps") == 0;
    return strcmp(path, "maps") == 0 && is_open ? MAPS : TEXT;
}

int close(int file)
{
    printf("close %s\n", file == FOLDER ? "folder" : file == STAT ? "stat" : file == MAPS ? "maps" : "text");
    return 0;
}

off_t lseek(int file, off_t offset, int whence)
{
    static int seeks;
    assert(file == TEXT && offset == 0 && whence == SEEK_SET);
    if (seeks++ > 0)
        reads[TEXT] = "again";
    return 0;
}

ssize_t read(int file, void *bytes, size_t size)
{
    long long given;
    if (file == TEXT && strcmp(reads[TEXT], "text") == 0 && (script_find("lines") != NULL)) {
        long long start = script_next("lines"), end = script_next("lines");
        return end == 0 ? 0 : snprintf(bytes, size, "%08llx-%08llx r--p 00000000 00:00 0 \nSize: 4 kB\n", start, end);
    }
    given = script_next(reads[file]);
    assert(given <= (long long)size);
    if (given < 0) {
        errno = (int)-given;
        return -1;
    }
    memset(bytes, file == STAT ? 's' : 'm', (size_t)given);
    return (ssize_t)given;
}

long syscall(long number, ...)
{
    va_list words;
    struct procmap_query *query;
    char *at = script_find("mapped");
    int file;
    va_start(words, number);
    file = va_arg(words, int);
    (void)va_arg(words, unsigned long);
    query = va_arg(words, struct procmap_query *);
    va_end(words);
    assert(number == SYS_ioctl && (file == TEXT || file == MAPS) && query->query_flags == COVERING_OR_NEXT);
    errno = at == NULL ? ENOTTY : (int)script_number("errno", ENOENT);
    if (errno != ENOENT)
        return -1;
    while (at != NULL && *at != '\0') {
        query->vma_start = strtoull(at, &at, 10);
        query->vma_end = strtoull(at + 1, &at, 10);
        at += *at == ',';
        if (query->vma_end <= query->query_addr)
            continue;
        if (query->vma_name_size > 0) {
            memcpy((void *)(uintptr_t)query->vma_name_addr, "/n", 3);
            query->vma_name_size = 3;
        }
        return 0;
    }
    return -1;
}

int main(int argc, char **argv)
{
    script_begin(argc, argv);
    return script_ask(vmatlas_linux_procfs_sources);
}
