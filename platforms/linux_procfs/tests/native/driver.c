/* Plays Linux's /proc to the agent's source. `stat` and `text` are what one read after another of the file gives: so many bytes,
 * or the errno -NUMBER; behind the last one is its end. `again` is the same of the text, once its end was reached. */
#include <assert.h>
#include <fcntl.h>
#include <unistd.h>

#include "scripted_kernel.h"

extern const struct source vmatlas_linux_procfs_sources[];

enum { FOLDER = 70, STAT, TEXT };

static const char *reads[] = {[STAT] = "stat", [TEXT] = "text"};

int open(const char *path, int flags, ...)
{
    assert((flags & O_DIRECTORY) != 0);
    printf("open %s\n", path);
    return FOLDER;
}

int openat(int folder, const char *path, int flags, ...)
{
    assert(folder == FOLDER && (flags & O_ACCMODE) == O_RDONLY);
    printf("openat %s\n", path);
    return strcmp(path, "stat") == 0 ? STAT : TEXT;
}

int close(int file)
{
    printf("close %s\n", file == FOLDER ? "folder" : file == STAT ? "stat" : "text");
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
    long long given = script_next(reads[file]);
    assert(given <= (long long)size);
    if (given < 0) {
        errno = (int)-given;
        return -1;
    }
    memset(bytes, file == STAT ? 's' : 'm', (size_t)given);
    return (ssize_t)given;
}

int main(int argc, char **argv)
{
    script_begin(argc, argv);
    return script_ask(vmatlas_linux_procfs_sources);
}
