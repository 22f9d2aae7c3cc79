/* Sources: what a plugin's native/acquire.c gives to the agent (and may give to a fast path of its own).
 *
 * A source asks the kernel about one process and hands the answer to a sink, untouched, as named streams. It parses no more than
 * it needs to go on asking, never falls back to another source, keeps no state between calls and bounds every loop.
 */
#ifndef VMATLAS_SOURCE_H
#define VMATLAS_SOURCE_H

#include <stddef.h>
#include <stdint.h>

#include "text.h"

enum { WANT_NAMES = 1, WANT_BUILD_IDS = 2 };

struct source_question {
    uint32_t pid;     /* never 0: the caller has put its own pid in place of 0 */
    uint32_t tid;     /* 0: the process */
    uint64_t flags;   /* the kernel's own query flags */
    uint64_t address; /* where a walk starts */
    uint64_t end;     /* a walk stops before a region that starts here or above; 0: at the end of memory */
    uint32_t limit;   /* most regions wanted; 0: all */
    uint32_t want;    /* WANT_ */
};

/* Takes what a source found. `put` appends to a part of a stream (the stream is part 0, then part 1) and returns 0, or an
 * errno with which the source must stop at once. */
struct source_sink {
    int (*put)(struct source_sink *sink, const char *stream, unsigned part, const void *bytes, size_t size);
    char failed[96]; /* which call failed, for a person: "ioctl PROCMAP_QUERY /proc/7/maps" */
    int refused;     /* set to 1 when the error returned is the source's own, not the kernel's */
};

/* Says in sink->failed what was tried and with what, and returns `error`. */
static inline int source_failure(struct source_sink *sink, const char *call, const char *object, int error)
{
    sink->failed[0] = '\0';
    add_text(sink->failed, sizeof sink->failed, call);
    add_text(sink->failed, sizeof sink->failed, " ");
    add_text(sink->failed, sizeof sink->failed, object);
    return error;
}

/* The same, where what was asked about is known by its pid alone. */
static inline int source_failure_of(struct source_sink *sink, const char *call, uint32_t pid, int error)
{
    char process[32] = "of process ";
    add_number(process, sizeof process, pid);
    return source_failure(sink, call, process, error);
}

/* Both return 0 or an errno. `query` asks about each address alone; NULL where the kernel cannot. */
struct source {
    const char *name; /* "linux.maps"; NULL ends a table */
    int (*acquire)(const struct source_question *question, struct source_sink *sink);
    int (*query)(const struct source_question *question, const uint64_t *addresses, uint32_t count,
                 struct source_sink *sink);
};

#endif
