/* Plays QNX's procfs to the agent's source, and prints what it is asked. The script: `entries` of the map, `growth` a call in percent,
 * `changes`: calls that change a byte, `map_errno` and `name_errno` of MAPINFO and MAPDEBUG, `gone`: there is no process. With `room`
 * nothing but a name is asked, with a buffer of so many bytes. */
#include "../../native/acquire.c"
#include "scripted_kernel.h"

/* Flags and device of entries. The first, third and last have a name: by ELF, by ELF alone, by a device. The others are anonymous (said
 * in either way), physical, or of no device. */
static const uint32_t kinds[][2] = {{0x571, 4}, {0x1080302, 2}, {0x80122, 0}, {0x10102, 4}, {0x103, 4}, {0x102, 0}, {0x102, 4}};

static unsigned map_calls;

static void fill(uint8_t *bytes, size_t size, unsigned entries)
{
    unsigned changes = (unsigned)script_number("changes", 0);
    for (unsigned i = 0; i < entries && i * QNX_ENTRY < size; i++) {
        uint64_t vaddr = (i + 1) * 0x2000ULL, length = 0x1000;
        const uint32_t *kind = kinds[i % (sizeof kinds / sizeof kinds[0])];
        uint8_t entry[QNX_ENTRY] = {0};
        size_t room = size - i * QNX_ENTRY;
        memcpy(entry, &vaddr, 8);
        memcpy(entry + 8, &length, 8);
        memcpy(entry + 16, kind, 8);
        entry[24] = (uint8_t)(map_calls < changes ? map_calls : changes);
        memcpy(bytes + i * QNX_ENTRY, entry, room < QNX_ENTRY ? room : QNX_ENTRY); /* the last one in part */
    }
}

int devctl(int fd, int command, void *data, size_t size, int *told)
{
    static unsigned entries;
    int error;
    printf("devctl %08x %zu\n", (unsigned)command, size);
    if (fd != 99)
        return EBADF;
    if ((unsigned)command == QNX_INFO) {
        memset(data, 7, size);
        return 0;
    }
    if ((unsigned)command == QNX_MAPDEBUG) {
        error = (int)script_number("name_errno", 0);
        if (error == 0)
            memcpy((uint8_t *)data + 8, "proc/boot/libc.so.3", 20);
        return error;
    }
    error = (int)script_number("map_errno", 0);
    if (error != 0)
        return error;
    if (map_calls == 0)
        entries = (unsigned)script_number("entries", 0);
    fill(data, size, entries);
    *told = (int)entries;
    entries += entries * (unsigned)script_number("growth", 0) / 100;
    map_calls++;
    return 0;
}

int open(const char *path, int flags, ...)
{
    (void)flags;
    printf("open %s\n", path);
    if (script_number("gone", 0)) {
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

static int ask_name(const struct source_question *question, struct source_sink *sink)
{
    uint8_t answer[64];
    (void)question;
    (void)sink;
    return qnx_ask_name(99, 0x1000, answer, (size_t)script_number("room", 0));
}

int main(int argc, char **argv)
{
    const struct source name_alone = {"name", ask_name, NULL};
    script_begin(argc, argv);
    return script_ask(script_find("room") != NULL ? &name_alone : vmatlas_qnx_sources);
}
