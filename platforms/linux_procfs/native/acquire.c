/* /proc/PID/maps and /proc/PID/smaps, as the kernel writes them (proc(5)). */
#include "source_linux.h"
#include "text_file.h"

extern const struct source vmatlas_linux_procfs_sources[];

/* Where the text goes. */
struct stream {
    struct source_sink *sink;
    const char *name;
    int error;
};

static ssize_t put_piece(struct text_file *text, const char *piece, size_t size, int is_end)
{
    struct stream *stream = text->taker;
    (void)is_end;
    stream->error = stream->sink->put(stream->sink, stream->name, 0, piece, size);
    return stream->error == 0 ? (ssize_t)size : TEXT_STOP;
}

static int put_text(int opened, const char *file, const struct source_question *question, struct source_sink *sink)
{
    char room[16384];
    struct stream stream = {sink, file, 0};
    struct text_file text = {opened, room, sizeof room, put_piece, &stream, 0, 0};
    switch (read_text_file(&text)) {
    case TEXT_FAILED:
        return linux_failure(question, sink, "read", file, text.error);
    case TEXT_CUT:
        return linux_failure(question, sink, "read again", file, text.error);
    default:
        return stream.error;
    }
}

static int acquire_text(const char *file, const struct source_question *question, struct source_sink *sink)
{
    int folder, opened, error = linux_open_process(question, sink, &folder);
    if (error != 0)
        return error;
    /* stat first: it is what tells a kernel thread or a zombie from a process, since all three give an empty text. */
    error = linux_put_file(folder, "stat", question, sink);
    if (error == 0)
        error = linux_open_file(folder, file, question, sink, &opened);
    if (error == 0) {
        error = put_text(opened, file, question, sink);
        (void)close(opened);
    }
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

const struct source vmatlas_linux_procfs_sources[] = {
    {"linux.maps", acquire_maps, NULL},
    {"linux.smaps", acquire_smaps, NULL},
    {NULL, NULL, NULL},
};
