/* Walks made-up maps by several threads, under the sanitizers: fuzz_walk ROUNDS SEED, or SECONDS as "10s".
 *
 * The kernel is made up: `scripted` answers PROCMAP_QUERY from a list. Claims: a map that stands still is told exactly, by
 * however many threads; of one that changes meanwhile, nothing is told out of order and no region that stands still is
 * missing; what the kernel refuses is refused; all threads that were started have ended. The maps of a seed are always the same; how
 * the threads share them, and so when they change, is not. */
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "fuzz.h"

static long scripted(long number, ...);
#define syscall scripted
#include "walk.c"
#undef syscall

enum { MOST_REGIONS = 4096, PAGE = 4096, WRITABLE = 2, READABLE = 1 };

struct region {
    uint64_t start, end;
    uint32_t flags, inode;
    int is_still;
};

static struct {
    pthread_mutex_t lock;
    struct region regions[MOST_REGIONS];
    size_t count;
    unsigned changes_in, fails_in; /* one question in so many changes the map, or fails; 0: none */
    int failed;
    unsigned started, refuses_threads;
    unsigned long asked_by_others, asked_beside_others;
    pthread_t caller;
} kernel = {.lock = PTHREAD_MUTEX_INITIALIZER};

static int start_thread(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *argument)
{
    int error = kernel.refuses_threads && kernel.started == kernel.refuses_threads - 1
                    ? EAGAIN
                    : pthread_create(thread, attributes, run, argument);
    kernel.started += error == 0;
    return error;
}

static int end_thread(pthread_t thread)
{
    kernel.started--;
    return pthread_join(thread, NULL);
}

#define pthread_create start_thread
#define pthread_join(thread, result) end_thread(thread)
#include "map.c"
#undef pthread_create
#undef pthread_join

static const char *const names[] = {"", "/lib/x", "/some/long/name/of/a/file", "[heap]"};

/* Grows, shrinks, splits or removes a region that does not stand still, or makes one in a gap. */
static void change(void)
{
    size_t at = draw((uint32_t)kernel.count);
    struct region *region = &kernel.regions[at];
    uint64_t above = at + 1 < kernel.count ? region[1].start : region->end + 16 * PAGE;
    uint32_t how = draw(4);
    if (region->is_still)
        return;
    if (how == 0 && at + 1 < kernel.count && !region[1].is_still) { /* merges with the next */
        region->end = region[1].end;
        memmove(region + 1, region + 2, (kernel.count - at - 2) * sizeof *region);
        kernel.count--;
    } else if (how == 1 && region->end - region->start > PAGE && kernel.count < MOST_REGIONS) { /* is split */
        uint64_t middle = region->start + (region->end - region->start) / PAGE / 2 * PAGE;
        memmove(region + 1, region, (kernel.count - at) * sizeof *region);
        region->end = region[1].start = middle;
        kernel.count++;
    } else if (how == 2 && above > region->end) {
        region->end += PAGE;
    } else if (how == 3 && region->end - region->start > PAGE) {
        region->start += PAGE;
    }
}

static int answer(struct procmap_query *query)
{
    size_t low = 0, high = kernel.count;
    if (kernel.changes_in > 0 && draw(kernel.changes_in) == 0)
        change();
    if (kernel.fails_in > 0 && draw(kernel.fails_in) == 0)
        kernel.failed = 1; /* and from now on, as when a process ends */
    if (kernel.failed)
        return ESRCH;
    high = kernel.count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (kernel.regions[middle].end > query->query_addr)
            high = middle;
        else
            low = middle + 1;
    }
    for (; low < kernel.count; low++) {
        const struct region *region = &kernel.regions[low];
        uint64_t wanted = query->query_flags & 0xf;
        if ((region->flags & wanted) == wanted && (region->inode != 0 || (query->query_flags & 0x20) == 0)) {
            const char *name = names[region->inode % 4];
            query->vma_start = region->start;
            query->vma_end = region->end;
            query->vma_flags = region->flags;
            query->vma_page_size = PAGE;
            query->vma_offset = region->start;
            query->inode = region->inode;
            query->vma_name_size = query->vma_name_addr == 0 || *name == '\0' ? 0 : (uint32_t)strlen(name) + 1;
            if (query->vma_name_size > 0)
                memcpy((char *)(uintptr_t)query->vma_name_addr, name, query->vma_name_size);
            return 0;
        }
    }
    return ENOENT;
}

static long scripted(long number, ...)
{
    struct procmap_query *query;
    va_list arguments;
    int error;
    (void)number;
    va_start(arguments, number);
    (void)va_arg(arguments, int);
    (void)va_arg(arguments, unsigned long);
    query = va_arg(arguments, struct procmap_query *);
    va_end(arguments);
    /* The caller pauses now and then, so that the others come to ask on any machine: on a busy one it had asked all itself. */
    if (pthread_equal(pthread_self(), kernel.caller) && kernel.started > 0 && kernel.asked_beside_others++ % 64 == 0)
        (void)nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
    (void)pthread_mutex_lock(&kernel.lock);
    kernel.asked_by_others += !pthread_equal(pthread_self(), kernel.caller);
    error = answer(query);
    (void)pthread_mutex_unlock(&kernel.lock);
    errno = error;
    return error == 0 ? 0 : -1;
}

/* Heaps of regions with gaps of all sizes between them, as address spaces have them. */
static void make_map(void)
{
    static const uint64_t gaps[] = {PAGE, 1 << 21, UINT64_C(1) << 40, UINT64_C(1) << 45};
    uint64_t position = PAGE + draw(1 << 20) * (uint64_t)PAGE;
    size_t wanted = draw(4) == 0 ? 1 + draw(2 * ALONE) : ALONE + draw(MOST_REGIONS - 2 * ALONE);
    kernel.count = 0;
    while (kernel.count < wanted) {
        struct region *region = &kernel.regions[kernel.count];
        uint32_t gap = draw(100);
        position += gap < 50 ? 0 : gap < 90 ? gaps[0] : gap < 98 ? gaps[1] : gap < 99 ? gaps[2] : gaps[3];
        region->start = position;
        position += (1 + draw(8)) * (uint64_t)PAGE;
        region->end = position;
        region->flags = draw(4);
        region->inode = draw(4);
        region->is_still = draw(3) == 0;
        kernel.count++;
    }
}

/* Whether a region is told: by its bounds, its offset, and its name. */
static int is_told(const struct columns *columns, const struct region *region, size_t *from)
{
    while (*from < columns->count && columns->rows[*from].start < region->start)
        ++*from;
    if (*from == columns->count)
        return 0;
    const struct row *row = &columns->rows[*from];
    const struct text *fact = &columns->facts.all[row->fact];
    const char *name = names[region->inode % 4], *bytes = columns->facts.bytes + fact->at;
    struct fact_head head;
    memcpy(&head, bytes, sizeof head);
    return row->start == region->start && row->end == region->end && row->offset == region->start &&
           columns->numbers[*from] == PAGE && head.vma_flags == region->flags && head.inode == region->inode &&
           fact->size == sizeof head + strlen(name) && memcmp(bytes + sizeof head, name, strlen(name)) == 0;
}

static void check(const struct columns *columns, uint64_t flags, int stood_still)
{
    size_t from = 0, expected = 0;
    check_columns(columns);
    for (size_t i = 0; i < kernel.count; i++) {
        const struct region *region = &kernel.regions[i];
        if ((region->flags & flags & 0xf) != (flags & 0xf) || (!stood_still && !region->is_still))
            continue;
        expected++;
        if (!is_told(columns, region, &from))
            abort();
    }
    if (stood_still && expected != columns->count)
        abort();
}

int main(int argc, char **argv)
{
    unsigned long together = 0, changed = 0;
    fuzz_begin(argc - 1, argv + 1);
    kernel.caller = pthread_self();
    while (fuzz_goes_on()) {
        struct columns columns = {0};
        struct map_question question = {.maps = 3, .flags = COVERING_OR_NEXT};
        enum verdict verdict;
        make_map();
        kernel.changes_in = draw(2) == 0 ? 0 : 20 + draw(2000);
        kernel.fails_in = draw(5) == 0 ? 1 + draw(4000) : 0;
        kernel.refuses_threads = draw(5) == 0 ? 1 + draw(4) : 0;
        kernel.failed = 0;
        if (draw(4) == 0)
            question.flags |= WRITABLE;
        question.threads = 1 + draw(8);
        question.only_idle = draw(8) == 0;
        verdict = walk_map(&question, &columns);
        if (kernel.started != 0 || (kernel.failed && verdict == DECODED) || verdict == NO_MEMORY)
            abort();
        if (verdict == DECODED)
            check(&columns, question.flags, kernel.changes_in == 0);
        else if (!kernel.failed && kernel.changes_in == 0 && columns.count > 0)
            abort(); /* nothing was in the way */
        together += verdict == DECODED && question.threads > 1 && columns.count > ALONE;
        changed += verdict == DECODED && kernel.changes_in > 0;
        fuzz_count(verdict);
        columns_free(&columns);
    }
    printf("decoded %lu refused %lu together %lu changed %lu asked_by_others %lu\n", fuzz.decoded, fuzz.refused, together, changed,
           kernel.asked_by_others);
    return 0;
}
