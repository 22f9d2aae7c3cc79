/* The agent's questions about pages, by PAGEMAP_SCAN and by the entries of /proc/PID/pagemap. */
#include "entries.h"
#include "scan.h"
#include "source_linux.h"

extern const struct source vmatlas_linux_pagemap_sources[];

enum {
    MOST_BOUNDS = 4000,
    TOLD_AT = 32,                 /* of the flags: the lower half are the categories of `anyof`, the upper those of `told` */
    AT_ONCE = 256 * ENTRIES_ROOM, /* entries between two signs of life: 16 MiB of them */
    KNOWN = 0xe580,               /* of the upper 16 bits of an entry: present, swapped, file, guard, alone, soft dirty */
    KNOWN_GUARD = 0x400,
    KNOWN_SOFT_DIRTY = 0x80
};

/* ---- what this kernel tells, found out by trying ---- */

static uint64_t page_size(void) { return (uint64_t)sysconf(_SC_PAGESIZE); }

static int open_own(void) { return open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC); }

/* Whether a page that was just written has the bit: it takes CONFIG_MEM_SOFT_DIRTY, and a processor that can. */
static int tells_soft_dirty(void)
{
    static volatile char written;
    uint64_t entry = 0;
    ssize_t got = -1;
    int pagemap = open_own();
    written = 1;
    if (pagemap >= 0) {
        got = pread(pagemap, &entry, sizeof entry, (off_t)((uintptr_t)&written / page_size() * sizeof entry));
        (void)close(pagemap);
    }
    return got == (ssize_t)sizeof entry && (entry >> ENTRIES_UPPER & KNOWN_SOFT_DIRTY) != 0;
}

static int pass_over(struct scan *scan, const struct scan_record *record, const struct scan_answer *answers)
{
    (void)scan, (void)record, (void)answers;
    return 0;
}

/* Whether the ioctl knows guards: the category came with the bit of the entries (6.16). */
static int knows_guards(struct scan *scan)
{
    int known = 0;
    scan->pagemap = open_own();
    if (scan->pagemap < 0)
        return 0;
    scan->anyof = scan->told = SCAN_GUARD;
    scan->take = pass_over;
    known = scan_range(scan, page_size(), 2 * page_size(), page_size()) == 0;
    (void)close(scan->pagemap);
    return known;
}

/* ---- a process ---- */

static int open_pagemap(const struct source_question *question, struct source_sink *sink, int *pagemap)
{
    int folder, has_memory, error = linux_open_process(question, sink, &folder);
    if (error != 0)
        return error;
    error = linux_put_file(folder, "stat", question, sink);
    if (error == 0)
        error = linux_open_map(folder, "pagemap", question, sink, pagemap);
    (void)close(folder);
    if (error != 0)
        return error;
    has_memory = scan_has_memory(*pagemap);
    if (has_memory == 1)
        return 0;
    (void)close(*pagemap);
    return linux_failure(question, sink, "read", "pagemap", has_memory == 0 ? ESRCH : -has_memory);
}

struct putting {
    struct source_sink *sink;
    const char *stream;
    int error;
    int is_nowhere; /* what is asked about is no range of the question's: its answers are not told */
};

static int put(struct putting *putting, const void *bytes, size_t size)
{
    if (size > 0)
        putting->error = putting->sink->put(putting->sink, putting->stream, 0, bytes, size);
    return putting->error;
}

/* The end of a question: `error` is what a loop over the kernel gave. */
static int conclude(const struct source_question *question, const struct putting *putting, const char *call, int error)
{
    if (error == 0 || putting->error != 0)
        return putting->error;
    putting->sink->refused = error == EPROTO;
    return linux_failure(question, putting->sink, error == EPROTO ? "an answer that cannot be followed:" : call, "pagemap",
                         error < 0 ? ESRCH : error);
}

static int check(const struct source_question *question, const uint64_t *bounds, uint32_t count, struct source_sink *sink)
{
    int is_right = count <= MOST_BOUNDS && count % 2 == 0;
    for (uint32_t i = 0; i < count && is_right; i++)
        is_right = bounds[i] % page_size() == 0;
    if (is_right)
        return 0;
    sink->refused = 1;
    return linux_failure(question, sink, "at most 2000 ranges of whole pages:", "pagemap", EINVAL);
}

/* ---- PAGEMAP_SCAN ---- */

static int put_answers(struct scan *scan, const struct scan_record *record, const struct scan_answer *answers)
{
    struct putting *putting = scan->taker;
    struct scan_record told = *record;
    if (putting->is_nowhere)
        told.vec = 0;
    if (put(putting, &told, sizeof told) != 0)
        return putting->error;
    return put(putting, answers, (size_t)told.vec * sizeof *answers);
}

static int query_scan(const struct source_question *question, const uint64_t *bounds, uint32_t count,
                      struct source_sink *sink)
{
    static struct scan scan;
    struct putting putting = {sink, "pages-scan", 0, count == 0};
    uint64_t page = page_size(), nowhere[2];
    int pagemap, error = check(question, bounds, count, sink);
    if (error == 0)
        error = open_pagemap(question, sink, &pagemap);
    if (error != 0)
        return error;
    if (count == 0) { /* what the kernel knows is told by its answer all the same */
        nowhere[0] = page;
        nowhere[1] = 2 * page;
        bounds = nowhere;
        count = 2;
    }
    scan.pagemap = pagemap;
    scan.anyof = question->flags & UINT32_MAX;
    scan.told = question->flags >> TOLD_AT;
    scan.take = put_answers;
    scan.taker = &putting;
    if ((scan.told & SCAN_SOFT_DIRTY) != 0 && !tells_soft_dirty()) {
        scan.anyof &= ~(uint64_t)SCAN_SOFT_DIRTY;
        scan.told &= ~(uint64_t)SCAN_SOFT_DIRTY;
    }
    for (uint32_t i = 0; i < count && error == 0; i += 2) {
        error = scan_range(&scan, bounds[i], bounds[i + 1], page);
        if (error == EINVAL && i == 0 && ((scan.anyof | scan.told) & SCAN_GUARD) != 0) { /* older than 6.16 */
            scan.anyof &= ~(uint64_t)SCAN_GUARD;
            scan.told &= ~(uint64_t)SCAN_GUARD;
            error = scan_range(&scan, bounds[i], bounds[i + 1], page);
        }
    }
    (void)close(pagemap);
    return conclude(question, &putting, "ioctl PAGEMAP_SCAN", error);
}

/* ---- entries ---- */

/* The upper 16 bits of what are not zeros, for pages side by side, behind their address and their count. */
static int put_entries(struct entries *entries, uint64_t address, const uint64_t *all, size_t count)
{
    static uint16_t upper[ENTRIES_ROOM];
    struct putting *putting = entries->taker;
    for (size_t at = 0; at < count; at++) {
        uint64_t head[2] = {address + at * entries->page, 0};
        size_t size = 0;
        while (at < count && (upper[size] = (uint16_t)(all[at] >> ENTRIES_UPPER)) != 0) {
            size++;
            at++;
        }
        head[1] = size;
        if (size > 0 && (put(putting, head, sizeof head) != 0 || put(putting, upper, size * sizeof *upper) != 0))
            return putting->error;
    }
    return 0;
}

static int query_entries(const struct source_question *question, const uint64_t *bounds, uint32_t count,
                         struct source_sink *sink)
{
    static struct entries entries;
    static struct scan scan;
    struct putting putting = {sink, "pages-entries", 0, 0};
    uint64_t page = page_size(), head[2] = {page, KNOWN};
    int pagemap, error = check(question, bounds, count, sink);
    if (error == 0)
        error = open_pagemap(question, sink, &pagemap);
    if (error != 0)
        return error;
    if (!tells_soft_dirty())
        head[1] &= ~(uint64_t)KNOWN_SOFT_DIRTY;
    if (!knows_guards(&scan))
        head[1] &= ~(uint64_t)KNOWN_GUARD;
    entries.pagemap = pagemap;
    entries.page = page;
    entries.take = put_entries;
    entries.taker = &putting;
    error = put(&putting, head, sizeof head);
    for (uint32_t i = 0; i < count && error == 0; i += 2)
        for (uint64_t at = bounds[i], end = bounds[i + 1]; at < end && error == 0;) {
            uint64_t next = (end - at) / page > AT_ONCE ? at + AT_ONCE * page : end;
            uint64_t none[2] = {next, 0};
            error = entries_range(&entries, at, next);
            /* Of untouched memory nothing is told: so that the host hears something meanwhile, that there is nothing. */
            if (error == 0 && next < end)
                error = put(&putting, none, sizeof none);
            at = next;
        }
    (void)close(pagemap);
    return conclude(question, &putting, "read", error);
}

/* ---- one range ---- */

static int acquire_scan(const struct source_question *question, struct source_sink *sink)
{
    const uint64_t bounds[] = {question->address, question->end};
    return query_scan(question, bounds, question->end == 0 ? 0 : 2, sink);
}

static int acquire_entries(const struct source_question *question, struct source_sink *sink)
{
    const uint64_t bounds[] = {question->address, question->end};
    return query_entries(question, bounds, question->end == 0 ? 0 : 2, sink);
}

const struct source vmatlas_linux_pagemap_sources[] = {
    {"linux.pagemap_scan", acquire_scan, query_scan},
    {"linux.pagemap", acquire_entries, query_entries},
    {NULL, NULL, NULL},
};
