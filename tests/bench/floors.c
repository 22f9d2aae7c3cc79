/* The floors: what the kernel itself takes, with as little around it as C allows.
 *
 *   floors read  FILE REPEAT          nanoseconds of reading the file whole
 *   floors walk  FILE REPEAT          nanoseconds of PROCMAP_QUERY from region to region, names included
 *   floors query FILE REPEAT          addresses (hexadecimal) on standard input; nanoseconds of asking for each
 *   floors parse FILE REPEAT          of reading and parsing each line, as a careful C programmer does with strtoull
 *   floors search FILE REPEAT         addresses on standard input; of reading, parsing, and a binary search for each
 *   floors files FILE REPEAT          of PROCMAP_QUERY over the executable regions that have a file
 *   floors scan  FILE REPEAT          a start and an end on standard input; of PAGEMAP_SCAN over that range, in time of
 *                                     the processor
 *   floors entries FILE REPEAT        the same; of reading the entries of its pages
 *   floors machine maps REPEAT        of opening and reading that file of every process
 *
 * Each repetition is printed on a line of its own. Exit status 3: this kernel has no PROCMAP_QUERY, no PAGEMAP_SCAN. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

struct query {
    uint64_t size, flags, address, start, end, vma_flags, page_size, offset, inode;
    uint32_t major, minor, name_size, build_id_size;
    uint64_t name, build_id;
};
#define PROCMAP_QUERY _IOWR('f', 17, struct query)
#define COVERING_OR_NEXT 0x10

static char text[1 << 16], name[4096];

static void stop(const char *what)
{
    int number = errno;
    perror(what);
    exit(number == ENOTTY ? 3 : 1);
}

static clockid_t measured = CLOCK_MONOTONIC;

static uint64_t now(void)
{
    struct timespec time;
    clock_gettime(measured, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static int ask(int file, uint64_t address, uint64_t flags, struct query *query)
{
    memset(query, 0, sizeof *query);
    query->size = sizeof *query;
    query->flags = flags;
    query->address = address;
    query->name = (uint64_t)(uintptr_t)name;
    query->name_size = sizeof name;
    if (ioctl(file, PROCMAP_QUERY, query) == 0)
        return 1;
    if (errno != ENOENT)
        stop("PROCMAP_QUERY");
    return 0;
}

static void read_whole(int file)
{
    ssize_t count;
    if (lseek(file, 0, SEEK_SET) < 0)
        stop("lseek");
    while ((count = read(file, text, sizeof text)) > 0)
        continue;
    if (count < 0)
        stop("read");
}

static void walk(int file)
{
    struct query query;
    uint64_t address = 0;
    while (ask(file, address, COVERING_OR_NEXT, &query))
        address = query.end;
}

/* A line at a time, every field, bounds kept: what a crash handler's walk over the map does. */
struct bounds {
    uint64_t start, end;
};
static struct bounds *kept;
static size_t kept_count, kept_room;
static unsigned long long sink;

static void take_line(char *line)
{
    char *at = line;
    unsigned long long start = strtoull(at, &at, 16), end, offset, inode;
    unsigned major, minor;
    char *rights;
    if (*at != '-')
        stop("a line without a dash");
    end = strtoull(at + 1, &at, 16);
    rights = ++at;
    offset = strtoull(at + 5, &at, 16);
    major = (unsigned)strtoul(at, &at, 16);
    minor = (unsigned)strtoul(at + 1, &at, 16);
    inode = strtoull(at, &at, 10);
    while (*at == ' ')
        at++;
    sink += offset + inode + major + minor + (rights[2] == 'x') + strlen(at);
    if (kept_count == kept_room) {
        kept_room = kept_room * 2 + 1024;
        if ((kept = realloc(kept, kept_room * sizeof *kept)) == NULL)
            stop("realloc");
    }
    kept[kept_count].start = start;
    kept[kept_count++].end = end;
}

static void parse(int file)
{
    size_t left = 0;
    ssize_t count;
    kept_count = 0;
    if (lseek(file, 0, SEEK_SET) < 0)
        stop("lseek");
    while ((count = read(file, text + left, sizeof text - 1 - left)) > 0) {
        char *at = text, *behind = text + left + count, *newline;
        while ((newline = memchr(at, '\n', (size_t)(behind - at))) != NULL) {
            *newline = '\0';
            take_line(at);
            at = newline + 1;
        }
        left = (size_t)(behind - at);
        memmove(text, at, left);
    }
    if (count < 0)
        stop("read");
}

static void search(int file, const uint64_t *addresses, size_t known)
{
    parse(file);
    for (size_t i = 0; i < known; i++) {
        size_t low = 0, high = kept_count;
        while (low < high) {
            size_t middle = low + (high - low) / 2;
            if (kept[middle].start <= addresses[i])
                low = middle + 1;
            else
                high = middle;
        }
        sink += low > 0 && addresses[i] < kept[low - 1].end ? low : 0;
    }
}

static void walk_files(int file)
{
    struct query query;
    uint64_t address = 0;
    while (ask(file, address, COVERING_OR_NEXT | 0x04 | 0x20, &query))
        address = query.end;
}

struct scan {
    uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages, inverted, mask, anyof, told;
};
#define PAGEMAP_SCAN _IOWR('f', 16, struct scan)
enum { ROOM = 1024 };
static uint64_t told[ROOM][3];

/* Present, swapped, the page of zeros, huge; and guards, where the kernel knows them: what costs little. */
static uint64_t categories = 0x178;

static void scan(int file, uint64_t start, uint64_t end)
{
    for (;;) {
        struct scan scan = {.size = sizeof scan, .start = start, .end = end, .vec_len = ROOM};
        int count;
        scan.vec = (uint64_t)(uintptr_t)told;
        scan.anyof = scan.told = categories;
        count = ioctl(file, PAGEMAP_SCAN, &scan);
        if (count < 0 && errno == EINVAL && categories != 0x78) {
            categories = 0x78;
            continue;
        }
        if (count < 0)
            stop("PAGEMAP_SCAN");
        for (int i = 0; i < count; i++)
            sink += told[i][2];
        if (count < ROOM)
            return;
        start = scan.walk_end > told[count - 1][1] ? scan.walk_end : told[count - 1][1];
    }
}

static void read_entries(int file, uint64_t start, uint64_t end)
{
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), at = start / page * 8, behind = end / page * 8;
    while (at < behind) {
        ssize_t count = pread(file, text, behind - at < sizeof text ? behind - at : sizeof text, (off_t)at);
        if (count <= 0)
            stop("pread of pagemap");
        at += (uint64_t)count;
    }
}

static void read_machine(const char *name)
{
    DIR *folder = opendir("/proc");
    struct dirent *entry;
    char path[64];
    if (folder == NULL)
        stop("/proc");
    while ((entry = readdir(folder)) != NULL) {
        int file;
        ssize_t count;
        if (entry->d_name[0] < '0' || entry->d_name[0] > '9')
            continue;
        (void)snprintf(path, sizeof path, "/proc/%.20s/%.20s", entry->d_name, name);
        file = open(path, O_RDONLY | O_CLOEXEC);
        if (file < 0)
            continue;
        while ((count = read(file, text, sizeof text)) > 0)
            continue;
        (void)close(file);
    }
    (void)closedir(folder);
}

int main(int count, char **words)
{
    uint64_t *addresses = NULL, address;
    size_t known = 0, room = 0;
    if (count != 4)
        return 2;
    int is_worked = strcmp(words[1], "machine-worked") == 0; /* the processor's time, whatever else it did meanwhile */
    int of_machine = is_worked || strcmp(words[1], "machine") == 0;
    int of_range = strcmp(words[1], "scan") == 0 || strcmp(words[1], "entries") == 0;
    if (is_worked || of_range)
        measured = CLOCK_PROCESS_CPUTIME_ID;
    int file = of_machine ? 0 : open(words[2], O_RDONLY | O_CLOEXEC);
    if (file < 0)
        stop(words[2]);
    if (strcmp(words[1], "query") == 0 || strcmp(words[1], "search") == 0 || of_range)
        while (scanf("%" SCNx64, &address) == 1) {
            if (known == room && !(addresses = realloc(addresses, (room = room * 2 + 64) * sizeof *addresses)))
                stop("realloc");
            addresses[known++] = address;
        }
    if (of_range && known != 2)
        return 2;
    for (long left = atol(words[3]); left > 0; left--) {
        struct query query;
        uint64_t begin = now();
        if (strcmp(words[1], "read") == 0)
            read_whole(file);
        else if (strcmp(words[1], "walk") == 0)
            walk(file);
        else if (strcmp(words[1], "parse") == 0)
            parse(file);
        else if (strcmp(words[1], "search") == 0)
            search(file, addresses, known);
        else if (strcmp(words[1], "files") == 0)
            walk_files(file);
        else if (strcmp(words[1], "scan") == 0)
            scan(file, addresses[0], addresses[1]);
        else if (strcmp(words[1], "entries") == 0)
            read_entries(file, addresses[0], addresses[1]);
        else if (of_machine)
            read_machine(words[2]);
        else
            for (size_t i = 0; i < known; i++)
                ask(file, addresses[i], 0, &query);
        printf("%" PRIu64 "\n", now() - begin);
    }
    if (sink == 1) /* never: so that no work is left out by the compiler */
        puts("1");
    return 0;
}
