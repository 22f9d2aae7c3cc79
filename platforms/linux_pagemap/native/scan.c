#include "scan.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

int scan_has_memory(int pagemap)
{
    uint64_t entry;
    ssize_t got;
    do
        got = pread(pagemap, &entry, sizeof entry, 0);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        return errno == ESRCH ? 0 : -errno;
    return got > 0;
}

/* The number of answers, or the errno as a negative number. */
static long call_kernel(int pagemap, struct scan_record *record)
{
    for (;;) {
        long count = syscall(SYS_ioctl, pagemap, (unsigned long)PAGEMAP_SCAN, record);
        if (count >= 0)
            return count;
        if (errno != EINTR)
            return -errno;
    }
}

/* Whether a range reaches above all that a process may have. The kernel looks at the range before it looks at the room for answers,
 * and room of no address is EINVAL: so it walks nothing to tell. */
static int is_too_high(const struct scan *scan, uint64_t start, uint64_t end)
{
    struct scan_record record;
    memset(&record, 0, sizeof record);
    record.size = sizeof record;
    record.start = start;
    record.end = end;
    record.vec_len = 1;
    record.anyof = scan->anyof;
    record.told = scan->told;
    return call_kernel(scan->pagemap, &record) == -EFAULT;
}

/* The highest end that a range from `start` on may have; `start` where it may have none. */
static uint64_t highest_end(const struct scan *scan, uint64_t start, uint64_t end, uint64_t page)
{
    uint64_t low = 0, high = (end - start) / page; /* in pages: `low` may be asked about, `high` may not */
    while (high - low > 1) {
        uint64_t middle = low + (high - low) / 2;
        if (is_too_high(scan, start, start + middle * page))
            high = middle;
        else
            low = middle;
    }
    return start + low * page;
}

int scan_range(struct scan *scan, uint64_t start, uint64_t end, uint64_t page)
{
    struct scan_record record;
    while (start < end) {
        long count = 0;
        uint64_t next;
        memset(&record, 0, sizeof record);
        record.size = sizeof record;
        record.start = start;
        record.end = end;
        if (scan->anyof != 0) {
            record.vec = (uint64_t)(uintptr_t)scan->room;
            record.vec_len = SCAN_ROOM;
            record.anyof = scan->anyof;
            record.told = scan->told;
            count = call_kernel(scan->pagemap, &record);
            if (count == -EFAULT) {
                uint64_t highest = highest_end(scan, start, end, page);
                if (highest == end)
                    return EFAULT; /* it is not the range */
                end = highest;
                continue;
            }
            if (count < 0)
                return (int)-count;
            if (count > SCAN_ROOM)
                return EPROTO; /* more than there is room for */
            if (count == 0 && record.walk_end == 0)
                return SCAN_GONE;
        } else {
            record.walk_end = end; /* no bit is left to ask for: without one the kernel would give every page */
        }
        record.vec = (uint64_t)count;
        if (scan->take(scan, &record, scan->room) != 0)
            return SCAN_STOPPED;
        if (count < SCAN_ROOM)
            return 0;
        /* After more than 512 answers walk_end is stale, and never below the last of them. */
        next = record.walk_end > scan->room[count - 1].end ? record.walk_end : scan->room[count - 1].end;
        if (next <= start)
            return EPROTO; /* such a kernel is not followed */
        start = next;
    }
    return 0;
}
