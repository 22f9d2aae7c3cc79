#include "entries.h"

#include <errno.h>
#include <unistd.h>

/* As pread(2), which a signal does not end. */
static ssize_t read_at(int file, void *room, size_t size, uint64_t offset)
{
    ssize_t got;
    do
        got = pread(file, room, size, (off_t)offset);
    while (got < 0 && errno == EINTR);
    return got;
}

/* Whether any entry is not 0: of an untouched terabyte 2 GiB are. */
static int says_something(const uint64_t *all, size_t count)
{
    uint64_t found = 0;
    for (size_t i = 0; i < count; i++)
        found |= all[i];
    return found >> ENTRIES_UPPER != 0;
}

int entries_range(struct entries *entries, uint64_t start, uint64_t end)
{
    while (start < end) {
        uint64_t left = (end - start) / entries->page;
        size_t wanted = left < ENTRIES_ROOM ? (size_t)left : ENTRIES_ROOM, count;
        ssize_t got = read_at(entries->pagemap, entries->room, wanted * sizeof *entries->room, start / entries->page * 8);
        if (got < 0)
            return errno;
        count = (size_t)got / sizeof *entries->room;
        if (count == 0) {
            got = read_at(entries->pagemap, entries->room, sizeof *entries->room, 0);
            return got < 0 ? errno : got == 0 ? ENTRIES_GONE : 0;
        }
        if (says_something(entries->room, count) && entries->take(entries, start, entries->room, count) != 0)
            return ENTRIES_STOPPED;
        start += count * entries->page;
    }
    return 0;
}
