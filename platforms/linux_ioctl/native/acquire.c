/* The agent's walks and questions with PROCMAP_QUERY. */
#include "source_linux.h"
#include "walk.h"

extern const struct source vmatlas_linux_ioctl_sources[];

enum { MOST_ADDRESSES = 4000 };

/* What answers are written to beside the record. */
struct room {
    char name[NAME_ROOM], build_id[BUILD_ID_ROOM];
};

static struct walk walk_for(int maps, const struct source_question *question, struct room *room)
{
    struct walk walk = {maps, question->flags, question->address, question->end, NULL, NULL, {0}, 0};
    if ((question->want & WANT_NAMES) != 0)
        walk.name = room->name;
    if ((question->want & WANT_BUILD_IDS) != 0)
        walk.build_id = room->build_id;
    return walk;
}

static int put_answer(const struct walk *walk, struct source_sink *sink)
{
    uint32_t name = walk->answer.vma_name_size, build_id = walk->answer.build_id_size;
    int error = sink->put(sink, "vmas", 0, &walk->answer, sizeof walk->answer);
    if (error == 0 && name > 0)
        error = sink->put(sink, "vmas", 1, walk->name, name);
    if (error == 0 && build_id > 0)
        error = sink->put(sink, "vmas", 1, walk->build_id, build_id);
    return error;
}

static int failure(const struct source_question *question, struct source_sink *sink, int error)
{
    sink->refused = error == EPROTO;
    return linux_failure(question, sink,
                         sink->refused ? "an answer that cannot be followed: PROCMAP_QUERY" : "ioctl PROCMAP_QUERY",
                         "maps", error);
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

static int put_walk(int maps, const struct source_question *question, struct source_sink *sink)
{
    struct room room;
    struct walk walk = walk_for(maps, question, &room);
    uint32_t found = 0;
    for (;;) {
        int error = walk_next(&walk);
        if (error == ENOENT)
            return 0; /* nothing there, or nothing above: the kernel's way to say that the walk is over */
        if (error != 0)
            return failure(question, sink, error);
        error = put_answer(&walk, sink);
        if (error != 0)
            return error;
        if ((question->flags & COVERING_OR_NEXT) == 0 || ++found == question->limit)
            return 0;
    }
}

static int acquire(const struct source_question *question, struct source_sink *sink)
{
    int maps, error = open_maps(question, sink, &maps);
    if (error != 0)
        return error;
    error = put_walk(maps, question, sink);
    (void)close(maps);
    return error;
}

static int query(const struct source_question *question, const uint64_t *addresses, uint32_t count,
                 struct source_sink *sink)
{
    struct room room;
    struct walk walk;
    int maps, error;
    if (count > MOST_ADDRESSES) {
        sink->refused = 1;
        return E2BIG;
    }
    error = open_maps(question, sink, &maps);
    if (error != 0)
        return error;
    walk = walk_for(maps, question, &room);
    for (uint32_t i = 0; i < count && error == 0; i++) {
        uint32_t answer;
        walk.address = addresses[i];
        answer = (uint32_t)walk_ask(&walk);
        if (answer != 0 && answer != ENOENT) {
            error = failure(question, sink, (int)answer);
            break;
        }
        error = sink->put(sink, "errnos", 0, &answer, sizeof answer);
        if (error == 0 && answer == 0)
            error = put_answer(&walk, sink);
    }
    (void)close(maps);
    return error;
}

const struct source vmatlas_linux_ioctl_sources[] = {
    {"linux.procmap_query", acquire, query},
    {NULL, NULL, NULL},
};
