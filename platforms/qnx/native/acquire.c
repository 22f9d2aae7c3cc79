/* DCMD_PROC_MAPINFO and DCMD_PROC_PAGEDATA: the entries as the kernel writes them, and the names that it tells for them. */
#include "source_qnx.h"

#include <sys/mman.h>

extern const struct source vmatlas_qnx_sources[];

enum {
    FIRST_ENTRIES = 2048,    /* room that is always there: reading oneself then makes no memory that shows */
    MOST_ENTRIES = 1 << 20,
    ATTEMPTS = 8             /* how often the map may grow or change while it is asked */
};

/* Fields of an entry, and the flags that say that it has no name of its own. */
enum { ENTRY_FLAGS = 16, ENTRY_DEV = 20, TYPE = 3, PRIVATE_ANON = 3, ELF = 0x20, PHYS = 0x10000, ANON = 0x80000 };

struct reading {
    uint8_t *entries;
    size_t count, room; /* in entries */
};

static uint8_t first_room[FIRST_ENTRIES * QNX_ENTRY];

static void let_go(struct reading *reading)
{
    if (reading->entries != first_room)
        (void)munmap(reading->entries, reading->room * QNX_ENTRY);
    reading->entries = first_room;
    reading->room = FIRST_ENTRIES;
}

static int make_room(struct reading *reading, size_t wanted)
{
    void *made;
    size_t room = 2 * wanted; /* a busy process was seen to gain a fifth of its entries between two calls */
    let_go(reading);
    made = mmap(NULL, room * QNX_ENTRY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON, -1, 0);
    if (made == MAP_FAILED)
        return errno;
    reading->entries = made;
    reading->room = room;
    return 0;
}

/* Our own refusal, and not the kernel's. */
static int refuse(uint32_t pid, struct source_sink *sink, const char *why, int error)
{
    sink->refused = 1;
    return qnx_failure(pid, sink, why, error);
}

/* Every entry. The kernel tells how many there are whatever fits, and writes what fits. Says in the sink what failed. */
static int read_entries(int process, uint32_t pid, unsigned command, struct reading *reading, struct source_sink *sink)
{
    for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
        int told = 0, error = qnx_ask(process, command, reading->entries, reading->room * QNX_ENTRY, &told);
        if (error != 0)
            return qnx_failure(pid, sink, command == QNX_PAGEDATA ? "devctl PAGEDATA" : "devctl MAPINFO", error);
        if (told >= 0 && (size_t)told <= reading->room) {
            reading->count = (size_t)told;
            return 0;
        }
        if (told < 0 || told > MOST_ENTRIES)
            return refuse(pid, sink, "more than 1,048,576 entries in the map of", E2BIG);
        error = make_room(reading, (size_t)told);
        if (error != 0)
            return refuse(pid, sink, "no memory for the map of", error);
    }
    return refuse(pid, sink, "the map grew during each of 8 readings of", EAGAIN);
}

/* FNV-1a: tells whether a second reading is the same without room for both. */
static uint64_t digest(const struct reading *reading)
{
    uint64_t sum = 0xcbf29ce484222325U;
    for (size_t i = 0; i < reading->count * QNX_ENTRY; i++)
        sum = (sum ^ reading->entries[i]) * 0x100000001b3U;
    return sum;
}

static int has_name(const uint8_t *entry)
{
    uint32_t flags, device;
    memcpy(&flags, entry + ENTRY_FLAGS, sizeof flags);
    memcpy(&device, entry + ENTRY_DEV, sizeof device);
    if (flags & ELF)
        return 1;
    return device != 0 && (flags & (ANON | PHYS)) == 0 && (flags & TYPE) != PRIVATE_ANON;
}

/* For each entry that has a name a record: u64 address, u32 errno, u32 size of the answer, the answer up to its NUL. */
static int put_names(int process, const struct reading *reading, struct source_sink *sink, int *asked)
{
    static uint8_t answer[QNX_NAME_ROOM];
    *asked = 0;
    for (size_t i = 0; i < reading->count; i++) {
        const uint8_t *entry = reading->entries + i * QNX_ENTRY;
        uint8_t head[16];
        uint64_t address;
        uint32_t error, size;
        int failed;
        if (!has_name(entry))
            continue;
        memcpy(&address, entry, sizeof address);
        error = (uint32_t)qnx_ask_name(process, address, answer, sizeof answer);
        if (error == ESRCH)
            return ESRCH;
        size = error == 0 ? QNX_NAME_AT + (uint32_t)strlen((const char *)answer + QNX_NAME_AT) + 1 : 0;
        memcpy(head, &address, sizeof address);
        memcpy(head + 8, &error, sizeof error);
        memcpy(head + 12, &size, sizeof size);
        failed = sink->put(sink, "mapdebug", 0, head, sizeof head);
        if (failed == 0 && size > 0)
            failed = sink->put(sink, "mapdebug", 0, answer, size);
        if (failed != 0)
            return failed;
        *asked = 1;
    }
    return 0;
}

/* The names belong to the entries when the entries are the same after them as before. Names of several rounds are sent one
 * after another: of two for an address the later counts. */
static int read_all(int process, const struct source_question *question, unsigned command, const char *stream,
                    struct reading *reading, struct source_sink *sink)
{
    int asked = 0, error = read_entries(process, question->pid, command, reading, sink);
    if (error != 0)
        return error;
    for (int round = 0; (question->want & WANT_NAMES) != 0; round++) {
        uint64_t before = digest(reading);
        error = put_names(process, reading, sink, &asked);
        if (error != 0)
            return qnx_failure(question->pid, sink, "devctl MAPDEBUG", error);
        if (asked)
            error = read_entries(process, question->pid, command, reading, sink);
        if (error != 0)
            return error;
        if (!asked || digest(reading) == before)
            break;
        if (round + 1 == ATTEMPTS) {
            error = sink->put(sink, "unsettled", 0, "1", 1);
            break;
        }
    }
    return error != 0 ? error : sink->put(sink, stream, 0, reading->entries, reading->count * QNX_ENTRY);
}

static int acquire(const struct source_question *question, unsigned command, const char *stream,
                   struct source_sink *sink)
{
    struct reading reading = {first_room, 0, FIRST_ENTRIES};
    uint8_t info[QNX_INFO_SIZE];
    int told = 0, process, error = qnx_open_process(question->pid, &process);
    if (error != 0)
        return qnx_failure(question->pid, sink, "open", error);
    error = qnx_ask(process, QNX_INFO, info, sizeof info, &told);
    if (error != 0)
        error = qnx_failure(question->pid, sink, "devctl INFO", error);
    if (error == 0)
        error = sink->put(sink, "procinfo", 0, info, sizeof info);
    if (error == 0)
        error = read_all(process, question, command, stream, &reading, sink);
    let_go(&reading);
    (void)close(process);
    return error;
}

static int acquire_mapinfo(const struct source_question *question, struct source_sink *sink)
{
    return acquire(question, QNX_MAPINFO, "mapinfo", sink);
}

static int acquire_pagedata(const struct source_question *question, struct source_sink *sink)
{
    return acquire(question, QNX_PAGEDATA, "pagedata", sink);
}

const struct source vmatlas_qnx_sources[] = {
    {"qnx.mapinfo", acquire_mapinfo, NULL},
    {"qnx.pagedata", acquire_pagedata, NULL},
    {NULL, NULL, NULL},
};
