/* A procfs made up for native/acquire.c: an array of entries whose count grows as it is told to, answers to MAPDEBUG, and a
 * log of every device command on standard output. Arguments: entries, growth a call in percent, calls that change a byte, errno of
 * MAPINFO (0: none), errno of MAPDEBUG; a sixth: PAGEDATA is asked. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../native/acquire.c"

static unsigned entries, growth, changes, map_errno, name_errno;
static unsigned map_calls;

int devctl(int fd, int command, void *data, size_t size, int *told)
{
    uint8_t *bytes = data;
    printf("devctl %08x %zu\n", (unsigned)command, size);
    if (fd != 99)
        return EBADF;
    if ((unsigned)command == QNX_INFO) {
        memset(bytes, 7, size);
        return 0;
    }
    if ((unsigned)command == QNX_MAPDEBUG) {
        if (name_errno != 0)
            return (int)name_errno;
        memcpy(bytes + 8, "proc/boot/libc.so.3", 20);
        return 0;
    }
    if (map_errno != 0)
        return (int)map_errno;
    for (unsigned i = 0; i < entries && i * QNX_ENTRY < size; i++) {
        uint64_t vaddr = (i + 1) * 0x2000ULL, length = 0x1000;
        uint32_t flags = i % 2 ? 0x1080302 : 0x571, device = i % 2 ? 2 : 4;
        uint8_t entry[QNX_ENTRY] = {0};
        size_t room = size - i * QNX_ENTRY;
        memcpy(entry, &vaddr, 8);
        memcpy(entry + 8, &length, 8);
        memcpy(entry + 16, &flags, 4);
        memcpy(entry + 20, &device, 4);
        entry[24] = (uint8_t)(map_calls < changes ? map_calls : changes);
        memcpy(bytes + i * QNX_ENTRY, entry, room < QNX_ENTRY ? room : QNX_ENTRY); /* the last one in part */
    }
    *told = (int)entries;
    entries += entries * growth / 100;
    map_calls++;
    return 0;
}

int open(const char *path, int flags, ...)
{
    (void)flags;
    printf("open %s\n", path);
    if (entries == 4242) {
        errno = ENOENT;
        return -1;
    }
    return 99;
}

int close(int fd)
{
    printf("close %d\n", fd);
    return 0;
}

static int put(struct source_sink *sink, const char *stream, unsigned part, const void *bytes, size_t size)
{
    const uint8_t *from = bytes;
    (void)sink;
    printf("put %s %u ", stream, part);
    for (size_t i = 0; i < size; i++)
        printf("%02x", from[i]);
    printf("\n");
    return 0;
}

int main(int argc, char **argv)
{
    struct source_question question;
    struct source_sink sink;
    uint8_t answer[64];
    int error;
    if (argc == 2) { /* the guard: a buffer of so many bytes */
        printf("result %d\n", qnx_ask_name(99, 0x1000, answer, strtoul(argv[1], NULL, 10)));
        return 0;
    }
    if (argc != 6 && argc != 7)
        return 2;
    entries = (unsigned)strtoul(argv[1], NULL, 10);
    growth = (unsigned)atoi(argv[2]);
    changes = (unsigned)atoi(argv[3]);
    map_errno = (unsigned)atoi(argv[4]);
    name_errno = (unsigned)atoi(argv[5]);
    memset(&question, 0, sizeof question);
    memset(&sink, 0, sizeof sink);
    question.pid = 40970;
    question.want = WANT_NAMES;
    sink.put = put;
    error = vmatlas_qnx_sources[argc == 7].acquire(&question, &sink);
    printf("result %d %s\n", error, sink.failed);
    return 0;
}
