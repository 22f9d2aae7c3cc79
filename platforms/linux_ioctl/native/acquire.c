/* The agent's walks and questions with PROCMAP_QUERY. */
#include "procmap.h"
#include "source_linux.h"

extern const struct source vmatlas_linux_ioctl_sources[];

enum {
    BUILD_ID_ROOM = 64, /* the kernel has at most 20 */
    MOST_ADDRESSES = 4000
};

struct asked {
    struct procmap_query record;
    char name[NAME_ROOM];
    char build_id[BUILD_ID_ROOM];
};

/* One ioctl; 0 or the errno. */
static int ask(int maps, const struct source_question *question, uint64_t address, struct asked *asked)
{
    int names = (question->want & WANT_NAMES) != 0, error;
    for (;;) {
        memset(&asked->record, 0, sizeof asked->record);
        asked->record.size = sizeof asked->record;
        asked->record.query_flags = question->flags;
        asked->record.query_addr = address;
        if (names) {
            asked->record.vma_name_addr = (uint64_t)(uintptr_t)asked->name;
            asked->record.vma_name_size = NAME_ROOM;
        }
        if ((question->want & WANT_BUILD_IDS) != 0) {
            asked->record.build_id_addr = (uint64_t)(uintptr_t)asked->build_id;
            asked->record.build_id_size = BUILD_ID_ROOM;
        }
        error = procmap_ask(maps, &asked->record);
        if (error == 0)
            break;
        /* A path longer than PATH_MAX cannot be told; without its name the walk can go on. */
        if (error != ENAMETOOLONG || !names)
            return error;
        names = 0;
    }
    asked->record.vma_name_addr = 0;
    asked->record.build_id_addr = 0;
    return 0;
}

static int put_record(const struct asked *asked, struct source_sink *sink)
{
    int error = sink->put(sink, "vmas", 0, &asked->record, sizeof asked->record);
    uint32_t name = asked->record.vma_name_size, build_id = asked->record.build_id_size;
    if (error == 0 && (name > NAME_ROOM || build_id > BUILD_ID_ROOM))
        return EPROTO;
    if (error == 0 && name > 0)
        error = sink->put(sink, "vmas", 1, asked->name, name);
    if (error == 0 && build_id > 0)
        error = sink->put(sink, "vmas", 1, asked->build_id, build_id);
    return error;
}

static int open_maps(const struct source_question *question, struct source_sink *sink, int *maps)
{
    int folder, error = linux_open_process(question, sink, &folder);
    if (error != 0)
        return error;
    error = linux_put_file(folder, "stat", question, sink);
    if (error == 0)
        error = linux_open_file(folder, "maps", question, sink, maps);
    (void)close(folder);
    return error;
}

static int walk(int maps, const struct source_question *question, struct source_sink *sink)
{
    struct asked asked;
    uint64_t address = question->address;
    uint32_t found = 0;
    for (;;) {
        int error = ask(maps, question, address, &asked);
        if (error == ENOENT)
            return 0; /* nothing there, or nothing above: the kernel's way to say that the walk is over */
        if (error != 0)
            return linux_failure(question, sink, "ioctl PROCMAP_QUERY", "maps", error);
        if (question->end != 0 && asked.record.vma_start >= question->end)
            return 0;
        error = put_record(&asked, sink);
        if (error != 0)
            return error;
        found++;
        if ((question->flags & COVERING_OR_NEXT) == 0 || found == question->limit)
            return 0;
        /* Each answer ends above the address asked for, so the walk ends; a kernel that answers otherwise is not followed. */
        sink->refused = asked.record.vma_end <= address;
        if (sink->refused)
            return linux_failure(question, sink, "a walk that goes no further: PROCMAP_QUERY", "maps", EPROTO);
        address = asked.record.vma_end;
    }
}

static int acquire(const struct source_question *question, struct source_sink *sink)
{
    int maps, error = open_maps(question, sink, &maps);
    if (error != 0)
        return error;
    error = walk(maps, question, sink);
    (void)close(maps);
    return error;
}

static int query(const struct source_question *question, const uint64_t *addresses, uint32_t count,
                 struct source_sink *sink)
{
    struct asked asked;
    int maps, error;
    if (count > MOST_ADDRESSES) {
        sink->refused = 1;
        return E2BIG;
    }
    error = open_maps(question, sink, &maps);
    if (error != 0)
        return error;
    for (uint32_t i = 0; i < count && error == 0; i++) {
        uint32_t answer = (uint32_t)ask(maps, question, addresses[i], &asked);
        if (answer != 0 && answer != ENOENT) {
            error = linux_failure(question, sink, "ioctl PROCMAP_QUERY", "maps", (int)answer);
            break;
        }
        error = sink->put(sink, "errnos", 0, &answer, sizeof answer);
        if (error == 0 && answer == 0)
            error = put_record(&asked, sink);
    }
    (void)close(maps);
    return error;
}

const struct source vmatlas_linux_ioctl_sources[] = {
    {"linux.procmap_query", acquire, query},
    {NULL, NULL, NULL},
};
