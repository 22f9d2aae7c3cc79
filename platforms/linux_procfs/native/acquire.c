/* /proc/PID/maps and /proc/PID/smaps, as the kernel writes them (proc(5)). */
#include "source_linux.h"

extern const struct source vmatlas_linux_procfs_sources[];

static int acquire_text(const char *file, const struct source_question *question, struct source_sink *sink)
{
    int folder, error = linux_open_process(question, sink, &folder);
    if (error != 0)
        return error;
    /* stat first: it is what tells a kernel thread or a zombie from a process, since all three give an empty text. */
    error = linux_put_file(folder, "stat", question, sink);
    if (error == 0)
        error = linux_put_file(folder, file, question, sink);
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
