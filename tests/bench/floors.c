/* The floors: what the kernel itself takes, with as little around it as C allows.
 *
 *   floors read  FILE REPEAT          nanoseconds of reading the file whole
 *   floors walk  FILE REPEAT          nanoseconds of PROCMAP_QUERY from region to region, names included
 *   floors query FILE REPEAT          addresses (hexadecimal) on standard input; nanoseconds of asking for each
 *
 * Each repetition is printed on a line of its own. Exit status 3: this kernel has no PROCMAP_QUERY. */
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

static uint64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
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

int main(int count, char **words)
{
    uint64_t *addresses = NULL, address;
    size_t known = 0, room = 0;
    if (count != 4)
        return 2;
    int file = open(words[2], O_RDONLY | O_CLOEXEC);
    if (file < 0)
        stop(words[2]);
    if (strcmp(words[1], "query") == 0)
        while (scanf("%" SCNx64, &address) == 1) {
            if (known == room && !(addresses = realloc(addresses, (room = room * 2 + 64) * sizeof *addresses)))
                stop("realloc");
            addresses[known++] = address;
        }
    for (long left = atol(words[3]); left > 0; left--) {
        struct query query;
        uint64_t begin = now();
        if (strcmp(words[1], "read") == 0)
            read_whole(file);
        else if (strcmp(words[1], "walk") == 0)
            walk(file);
        else
            for (size_t i = 0; i < known; i++)
                ask(file, addresses[i], 0, &query);
        printf("%" PRIu64 "\n", now() - begin);
    }
    return 0;
}
