/* One record of the stream `processes`: what a system tells of a process, in the agent's own layout. */
#ifndef VMATLAS_PROCESS_RECORD_H
#define VMATLAS_PROCESS_RECORD_H

#include <stddef.h>
#include <stdint.h>

#include "source.h"

struct process_record {
    uint32_t pid, parent, user;
    uint64_t start_time; /* in the unit of hello's ticks_per_second */
    int is_silent;       /* it does not answer: its start time is not told */
    char state;          /* the system's own letter */
    int kernel, zombie, lives_on; /* its first thread has ended, and others live on */
    uint32_t number_inside; /* in its own pid namespace; 0 where that is pid, or not told */
    const char *name; /* no NUL needed; cut at 255 bytes */
    size_t name_size;
};

/* All return what sink->put does. */
int put_process_record(struct source_sink *sink, const struct process_record *process);
int put_hidden_process(struct source_sink *sink, uint32_t pid); /* it is there, and may not be looked at */
int put_gone_process(struct source_sink *sink, uint32_t pid);   /* it was listed, and had ended when it was looked at */
int put_thread(struct source_sink *sink, uint32_t number, uint32_t process); /* no process: the number is that of a thread of one */

#endif
