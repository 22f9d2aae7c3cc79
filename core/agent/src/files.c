#include "files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "system.h"

void do_read_file(struct reader *reader, struct answer *answer)
{
    static char path[TEXT_ROOM], bytes[16384];
    uint64_t limit, left;
    int file, error = 0;
    take_text16(reader, path, sizeof path);
    limit = take_u64(reader);
    if (!reader_holds(reader, answer))
        return;
    left = limit != 0 ? limit : UINT64_MAX;
    file = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC); /* a pipe or a tty must not hold us up */
    if (file < 0) {
        answer_error(answer, ORIGIN_KERNEL, errno, "open");
        return;
    }
    while (left > 0 && error == 0) {
        ssize_t got = read(file, bytes, left < sizeof bytes ? (size_t)left : sizeof bytes);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            error = errno;
            strcpy(answer->sink.failed, "read");
        }
        if (got <= 0)
            break;
        left -= (uint64_t)got;
        error = answer_put(answer, "file", 0, bytes, (size_t)got);
    }
    (void)close(file);
    answer_conclude(answer, error);
}

void do_write_file(struct reader *reader, struct answer *answer)
{
    static char path[TEXT_ROOM];
    uint32_t mode, flags;
    int64_t written = 0;
    int file, how, error = 0;
    take_text16(reader, path, sizeof path);
    mode = take_u32(reader);
    flags = take_u32(reader);
    if (!reader_holds(reader, answer))
        return;
    how = (flags & 1U) ? O_APPEND : O_TRUNC;
    if ((flags & 2U) == 0)
        how |= O_CREAT;
    if ((flags & 4U) != 0)
        how |= O_CREAT | O_EXCL; /* then no link is followed either */
    file = open(path, O_WRONLY | O_CLOEXEC | O_NONBLOCK | how, (mode_t)(mode & 07777U));
    if (file < 0) {
        answer_result(answer, -1, errno, 0);
        return;
    }
    while (reader_left(reader) > 0 && error == 0) {
        ssize_t some = write(file, reader->at, reader_left(reader));
        if (some > 0) {
            reader->at += some;
            written += some;
        } else if (some == 0 || errno != EINTR) {
            error = some == 0 ? EIO : errno;
        }
    }
    if (close(file) != 0 && error == 0)
        error = errno;
    answer_result(answer, error != 0 ? -1 : written, error, 0);
}

void do_unlink(struct reader *reader, struct answer *answer)
{
    static char path[TEXT_ROOM];
    take_text16(reader, path, sizeof path);
    if (reader_holds(reader, answer))
        answer_call(answer, unlink(path));
}

void do_list_folder(struct reader *reader, struct answer *answer)
{
    static char path[TEXT_ROOM];
    struct dirent *entry;
    int error = 0;
    DIR *folder;
    take_text16(reader, path, sizeof path);
    if (!reader_holds(reader, answer))
        return;
    folder = opendir(path);
    if (folder == NULL) {
        answer_error(answer, ORIGIN_KERNEL, errno, "opendir");
        return;
    }
    while (error == 0 && (entry = readdir(folder)) != NULL)
        error = answer_put(answer, "names", 0, entry->d_name, strlen(entry->d_name) + 1);
    (void)closedir(folder);
    answer_conclude(answer, error);
}

void do_stat_file(struct reader *reader, struct answer *answer)
{
    static char path[TEXT_ROOM];
    struct stat found;
    int done;
    take_text16(reader, path, sizeof path);
    if (!reader_holds(reader, answer))
        return;
    memset(&found, 0, sizeof found);
    done = lstat(path, &found);
    answer_result(answer, done, done != 0 ? errno : 0, (uint64_t)found.st_ino);
}

void do_look_up(struct reader *reader, struct answer *answer)
{
    enum { MOST_MOUNTS = 64 };
    static char root[TEXT_ROOM], path[TEXT_ROOM];
    static struct answering answering[MOST_MOUNTS];
    struct looked found;
    uint8_t more[24];
    uint32_t count;
    int done;
    take_text16(reader, root, sizeof root);
    take_text16(reader, path, sizeof path);
    count = take_u32(reader);
    if (count > MOST_MOUNTS) {
        answer_error(answer, ORIGIN_AGENT, E2BIG, "more than 64 mounts");
        return;
    }
    for (uint32_t i = 0; i < count; i++)
        answering[i].number = take_u64(reader);
    /* Older hosts say the numbers alone, which may mean other mounts by now: then nobody is asked. */
    if (reader_left(reader) < count * sizeof answering[0].mark)
        count = 0;
    for (uint32_t i = 0; i < count; i++)
        answering[i].mark = take_u32(reader);
    if (!reader_holds(reader, answer))
        return;
    memset(&found, 0, sizeof found);
    done = system_look_up(root, path, answering, count, &found);
    write_u32(more, found.mode);
    write_u32(more + 4, found.links);
    write_u32(more + 8, found.major);
    write_u32(more + 12, found.minor);
    write_u64(more + 16, found.mount);
    answer_result_with(answer, done, done != 0 ? errno : 0, found.inode, more, sizeof more);
}

void do_read_link(struct reader *reader, struct answer *answer)
{
    static char path[TEXT_ROOM], link[TEXT_ROOM];
    ssize_t size;
    take_text16(reader, path, sizeof path);
    if (!reader_holds(reader, answer))
        return;
    size = readlink(path, link, sizeof link);
    if (size < 0) {
        answer_error(answer, ORIGIN_KERNEL, errno, "readlink");
        return;
    }
    answer_conclude(answer, answer_put(answer, "link", 0, link, (size_t)size));
}
