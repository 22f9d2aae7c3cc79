/* Scans made-up memory, and reads its entries, under the sanitizers: fuzz_scan ROUNDS SEED, or SECONDS as "10s".
 *
 * The kernel is made up: `scripted` answers PAGEMAP_SCAN from a list of pages as the real one does, in pieces of 512 answers whose
 * last start stays in walk_end, and `scripted_read` gives the entries. Claims: each page in a range is told once, with what it is, by
 * both ways alike; what lies above the highest address is left out; what the kernel refuses is refused, and memory that is gone is
 * said to be. */
#include <errno.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fuzz.h"
#include "runs.h"

static long scripted(long number, ...);
static ssize_t scripted_read(int file, void *room, size_t size, off_t offset);
#define syscall scripted
#define pread scripted_read
#include "scan.c"
#include "entries.c"
#undef syscall
#undef pread

enum { PAGES = 6000, PAGE = 4096, PIECE = 512, PRESENT = 8, SWAPPED = 0x10, HUGE_ONE = 0x40 };

static struct {
    uint8_t pages[PAGES]; /* categories of each */
    uint64_t top;         /* pages from here on nobody can have */
    int fails, gone, interrupts;
    unsigned long calls;
} kernel;

/* What a scan gives for a page: the bits that the entries have as well are the same here. */
static uint64_t entry_of(uint8_t categories)
{
    return (categories & PRESENT ? UINT64_C(1) << 63 : 0) | (categories & SWAPPED ? UINT64_C(1) << 62 : 0) |
           (categories & HUGE_ONE ? UINT64_C(1) << 61 : 0) | 7;
}

static long answer(struct scan_record *record)
{
    struct scan_answer *room = (struct scan_answer *)(uintptr_t)record->vec;
    uint64_t count = 0, piece = record->start / PAGE, end = record->end / PAGE;
    if (record->size != sizeof *record || record->start % PAGE != 0)
        return -EINVAL;
    if (record->end < record->start || end > kernel.top)
        return -EFAULT;
    if (record->vec == 0 && record->vec_len != 0)
        return -EINVAL;
    record->walk_end = 0;
    if (kernel.gone)
        return 0;
    for (uint64_t at = record->start / PAGE; at < end; at++) {
        uint64_t told = kernel.pages[at] & record->told;
        if ((kernel.pages[at] & record->anyof) == 0)
            continue;
        if (count > 0 && count % PIECE != 0 && room[count - 1].end == at * PAGE && room[count - 1].categories == told) {
            room[count - 1].end += PAGE;
            continue;
        }
        if (count == record->vec_len) {
            record->walk_end = at * PAGE;
            return (long)count;
        }
        if (count > 0 && count % PIECE == 0)
            piece = at;
        room[count].start = at * PAGE;
        room[count].end = at * PAGE + PAGE;
        room[count++].categories = told;
    }
    record->walk_end = count > PIECE ? piece * PAGE : record->end;
    return (long)count;
}

static long scripted(long number, ...)
{
    struct scan_record *record;
    va_list words;
    long count;
    va_start(words, number);
    (void)va_arg(words, int);
    (void)va_arg(words, unsigned long);
    record = va_arg(words, struct scan_record *);
    va_end(words);
    kernel.calls++;
    if (kernel.interrupts && draw(4) == 0) {
        errno = EINTR;
        return -1;
    }
    count = kernel.fails ? -ENOMEM : answer(record);
    if (count >= 0)
        return count;
    errno = (int)-count;
    return -1;
}

static ssize_t scripted_read(int file, void *room, size_t size, off_t offset)
{
    uint64_t first = (uint64_t)offset / 8, count = size / 8;
    (void)file;
    if (kernel.interrupts && draw(4) == 0) {
        errno = EINTR;
        return -1;
    }
    if (kernel.fails) {
        errno = ENOMEM;
        return -1;
    }
    if (kernel.gone || first >= kernel.top)
        return 0;
    count = count < kernel.top - first ? count : kernel.top - first;
    if (count > 1 && draw(3) == 0)
        count = 1 + draw((uint32_t)count); /* a reading may give less */
    for (uint64_t i = 0; i < count; i++) {
        uint64_t entry = kernel.pages[first + i] == 0 ? 0 : entry_of(kernel.pages[first + i]);
        memcpy((char *)room + i * 8, &entry, 8);
    }
    return (ssize_t)(count * 8);
}

static int take_answers(struct scan *scan, const struct scan_record *record, const struct scan_answer *answers)
{
    for (uint64_t i = 0; i < record->vec; i++)
        if (runs_add((struct runs *)scan->taker, answers[i].start, answers[i].end, answers[i].categories) != DECODED)
            abort();
    return 0;
}

static int take_entries(struct entries *entries, uint64_t address, const uint64_t *all, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (runs_add((struct runs *)entries->taker, address + i * PAGE, address + (i + 1) * PAGE, all[i] >> 55) != DECODED)
            abort();
    return 0;
}

static void make_memory(void)
{
    static const uint8_t said[] = {0, PRESENT, SWAPPED, PRESENT | HUGE_ONE};
    uint32_t dense = draw(4);
    memset(&kernel, 0, sizeof kernel);
    kernel.top = draw(3) == 0 ? 1 + draw(PAGES) : PAGES;
    for (uint32_t at = 0; at < PAGES;) {
        uint32_t alike = dense == 0 ? 1 : 1 + draw(1U << (dense * 3));
        uint8_t categories = said[draw(4)];
        for (; alike > 0 && at < PAGES; alike--)
            kernel.pages[at++] = categories;
    }
    kernel.interrupts = draw(2) == 0;
    kernel.fails = draw(20) == 0;
    kernel.gone = draw(20) == 0;
}

static void check(const struct runs *runs, uint64_t start, uint64_t end, uint64_t asked)
{
    size_t row = 0;
    for (uint64_t at = start; at < end; at++) {
        uint64_t told = at < kernel.top && (kernel.pages[at] & asked) != 0 ? kernel.pages[at] : 0, address = at * PAGE;
        while (row < runs->count && runs->end[row] <= address)
            row++;
        if (row < runs->count && runs->start[row] <= address ? runs->state[row] != told : told != 0)
            abort();
    }
    if (runs->count > 0 && (runs->start[0] < start * PAGE || runs->end[runs->count - 1] > end * PAGE))
        abort();
}

int main(int argc, char **argv)
{
    static uint32_t by_categories[RUNS_STATES], by_bits[RUNS_STATES];
    static struct scan scan;
    static struct entries entries;
    unsigned long stale = 0, gone = 0, above = 0;
    for (uint32_t bits = 0; bits < RUNS_STATES; bits++) {
        by_categories[bits] = bits;
        by_bits[bits] = (bits & 0x100 ? PRESENT : 0) | (bits & 0x80 ? SWAPPED : 0) | (bits & 0x40 ? HUGE_ONE : 0);
    }
    fuzz_begin(argc - 1, argv + 1);
    while (fuzz_goes_on()) {
        struct runs scanned = {.states = by_categories}, read = {.states = by_bits};
        uint64_t start = draw(PAGES), end = start + draw(PAGES), asked = draw(8) == 0 ? PRESENT : PRESENT | SWAPPED;
        int by_scan, by_entries;
        make_memory();
        scan.anyof = draw(30) == 0 ? 0 : asked;
        scan.told = PRESENT | SWAPPED | HUGE_ONE;
        scan.take = take_answers;
        scan.taker = &scanned;
        entries.page = PAGE;
        entries.take = take_entries;
        entries.taker = &read;
        if (scan_has_memory(3) != (kernel.fails ? -ENOMEM : !kernel.gone))
            abort();
        by_scan = scan_range(&scan, start * PAGE, end * PAGE, PAGE);
        by_entries = entries_range(&entries, start * PAGE, end * PAGE);
        fuzz_count(by_scan == 0 && by_entries == 0 ? DECODED : NOT_MINE);
        if (kernel.fails || kernel.gone) {
            /* Nothing is asked of an empty range, nor by no category; and nothing lies above the top. */
            int asks = start < end && scan.anyof != 0;
            if (by_scan != (!asks ? 0 : kernel.fails ? ENOMEM : start >= kernel.top ? 0 : SCAN_GONE) ||
                by_entries != (start == end ? 0 : kernel.fails ? ENOMEM : ENTRIES_GONE))
                abort();
            gone += kernel.gone;
        } else {
            if (by_scan != 0 || by_entries != 0)
                abort();
            check(&scanned, start, end, scan.anyof);
            check(&read, start, end, PRESENT | SWAPPED | HUGE_ONE);
            stale += scanned.count > PIECE;
            above += start < kernel.top && end > kernel.top;
        }
        runs_free(&scanned);
        runs_free(&read);
    }
    printf("decoded %lu refused %lu stale %lu gone %lu above %lu\n", fuzz.decoded, fuzz.refused, stale, gone, above);
    return 0;
}
