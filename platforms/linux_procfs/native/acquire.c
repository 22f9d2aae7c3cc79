/* /proc/PID/maps, smaps and smaps_rollup, as the kernel writes them (proc(5)). */
#include "holes.h"
#include "source_linux.h"
#include "text_file.h"

extern const struct source vmatlas_linux_procfs_sources[];

/* Where the text goes, and beside it, as the stream `unlisted`, what is mapped in the holes that it shows. */
struct stream {
    struct source_sink *sink;
    const char *name;
    struct holes holes;
    int error, hole_error;
};

static int put_unlisted(struct holes *holes, const struct procmap_query *answer, const char *name)
{
    struct stream *stream = holes->taker;
    int error = stream->sink->put(stream->sink, "unlisted", 0, answer, sizeof *answer);
    if (error == 0 && answer->vma_name_size > 0)
        error = stream->sink->put(stream->sink, "unlisted", 0, name, answer->vma_name_size);
    stream->error = error;
    return error;
}

static ssize_t put_piece(struct text_file *text, const char *piece, size_t size, int is_end)
{
    struct stream *stream = text->taker;
    (void)is_end;
    stream->error = stream->sink->put(stream->sink, stream->name, 0, piece, size);
    /* At once: the less time lies between, the less has really changed. What is wrong with the ioctl is told when the text was whole. */
    if (stream->error == 0 && stream->hole_error == 0)
        stream->hole_error = holes_text(&stream->holes, piece, size);
    return stream->error == 0 ? (ssize_t)size : TEXT_STOP;
}

static int put_text(int opened, int maps, const char *file, const struct source_question *question, struct source_sink *sink)
{
    char room[16384];
    struct stream stream = {.sink = sink, .name = file, .holes = {.maps = maps, .put = put_unlisted}};
    struct text_file text = {opened, room, sizeof room, put_piece, &stream, 0, 0};
    stream.holes.taker = &stream;
    switch (read_text_file(&text)) {
    case TEXT_FAILED:
        return linux_failure(question, sink, "read", file, text.error);
    case TEXT_CUT:
        return linux_failure(question, sink, "read again", file, text.error);
    case TEXT_STOPPED:
        return stream.error;
    default:
        if (stream.hole_error == 0 && stream.holes.behind > 0)
            stream.hole_error = holes_end(&stream.holes);
        if (stream.error != 0 || stream.hole_error == 0)
            return stream.error;
        return linux_failure(question, sink, "ioctl PROCMAP_QUERY", "maps", stream.hole_error);
    }
}

static int acquire_text(const char *file, const struct source_question *question, struct source_sink *sink)
{
    int folder, opened = -1, maps = -1, error = linux_open_process(question, sink, &folder);
    int is_maps = strcmp(file, "maps") == 0;
    if (error != 0)
        return error;
    /* stat first: it is what tells a kernel thread or a zombie from a process, since all three give an empty text. */
    error = linux_put_file(folder, "stat", question, sink);
    if (error == 0)
        error = linux_open_map(folder, file, question, sink, &opened);
    if (error == 0 && !is_maps) /* the ioctl is one of maps alone */
        error = linux_open_file(folder, "maps", question, sink, &maps);
    if (error == 0)
        error = put_text(opened, is_maps ? opened : maps, file, question, sink);
    if (opened >= 0)
        (void)close(opened);
    if (maps >= 0)
        (void)close(maps);
    (void)close(folder);
    return error;
}

static int acquire_maps(const struct source_question *question, struct source_sink *sink)
{
    return acquire_text("maps", question, sink);
}

static int acquire_smaps(const struct source_question *question, struct source_sink *sink)
{
    return acquire_text("smaps", question, sink);
}

/* The totals. ESRCH of the reading: no memory (any more), which the empty stream and `stat` tell, as with the texts. */
static int acquire_rollup(const struct source_question *question, struct source_sink *sink)
{
    int folder, there, error = linux_open_process(question, sink, &folder);
    if (error != 0)
        return error;
    error = linux_put_file(folder, "stat", question, sink);
    if (error == 0)
        error = linux_put_file(folder, "smaps_rollup", question, sink);
    if (error == ENOENT && linux_open_file(folder, "stat", question, sink, &there) == 0) {
        (void)close(there); /* the process is there, and the kernel older than 4.14 */
        sink->refused = 1;
        error = linux_failure(question, sink, "the kernel has no", "smaps_rollup", ENOTSUP);
    }
    (void)close(folder);
    return error;
}

const struct source vmatlas_linux_procfs_sources[] = {
    {"linux.maps", acquire_maps, NULL},
    {"linux.smaps", acquire_smaps, NULL},
    {"linux.smaps_rollup", acquire_rollup, NULL},
    {NULL, NULL, NULL},
};
