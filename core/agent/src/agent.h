/* The agent's inner contracts. A new system implements the functions named system_... in one file (system_linux.c is the
 * example); everything else is portable C99 and POSIX. No part allocates memory by what it is told from outside. */
#ifndef VMATLAS_AGENT_H
#define VMATLAS_AGENT_H

#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "frame.h"
#include "source.h"

#define AGENT_VERSION "0.1.0"

enum { TEXT_ROOM = 4097 /* a path of 4,096 bytes and its NUL */ };

/* ---- channel.c: a byte stream to the host (or, in a child, to the parent) ---- */

struct channel {
    int in, out;
    int ended;           /* the other side is gone */
    uint32_t complaints; /* answers to bad frames since the last good request */
    struct frame_decoder decoder;
};

uint64_t milliseconds(void);
void pause_for(uint32_t duration_ms);
/* Waits up to limit_ms (-1: for ever) and reads what is there: 1 bytes came, 0 none came, -1 the stream has ended. */
int channel_receive(struct channel *channel, int limit_ms);
/* 0, or -1 when the other side is gone or took nothing for 30 s. */
int channel_send(struct channel *channel, const uint8_t *bytes, size_t size);
/* ECANCELED when another request than `current` has come (it stays in the decoder) or the stream ended; else 0. */
int channel_look(struct channel *channel, uint32_t current);

/* ---- answer.c: the frames that answer one request ---- */

struct slot {
    char stream[32];
    unsigned part;
    size_t used; /* of the payload; 0: the slot is free */
    uint8_t frame[FRAME_LIMIT];
};

struct answer {
    struct source_sink sink; /* stays the first member: put() gets from it to the answer */
    struct channel *channel;
    uint16_t operation;
    uint32_t request, sequence;
    uint64_t sent_at;
    int finished; /* END or ERROR was sent */
    int keep;     /* the operation changes something: remember its result for a repeat */
    struct slot slots[2];
};

enum { ORIGIN_AGENT = 0, ORIGIN_KERNEL = 1 };

void answer_begin(struct answer *answer, struct channel *channel, const struct frame *request);
int answer_put(struct answer *answer, const char *stream, unsigned part, const void *bytes, size_t size);
void answer_end(struct answer *answer, const void *payload, size_t size);
void answer_error(struct answer *answer, int origin, int error, const char *what);
/* The call's value; `error` counts only when it is not 0. */
void answer_result(struct answer *answer, int64_t value, int error, uint64_t detail);
/* Sends the remembered result of this very request again: 1, or 0 when there is none. */
int answer_again(struct channel *channel, const struct frame *request);
void answer_forget(void);
const char *errno_name(int error);

/* ---- reader.c: the fields of a request ---- */

struct reader {
    const uint8_t *at, *end;
    int bad; /* too short, a text too long or with a NUL inside, a number that does not fit this machine */
};

uint8_t take_u8(struct reader *reader);
uint32_t take_u32(struct reader *reader);
uint64_t take_u64(struct reader *reader);
uintptr_t take_address(struct reader *reader);
size_t take_size(struct reader *reader);
void take_text8(struct reader *reader, char *text, size_t room);
void take_text16(struct reader *reader, char *text, size_t room);
/* 1 when all fields could be read; otherwise answers with EINVAL and gives 0. */
int reader_holds(const struct reader *reader, struct answer *answer);

/* ---- operations ---- */

struct operation {
    uint16_t number;
    int changes; /* a repeat must not do it twice */
    const char *name;
    void (*run)(struct reader *reader, struct answer *answer);
};

extern const struct operation agent_operations[];  /* agent.c; each table ends with a NULL name */
extern const struct operation memory_operations[]; /* memory.c */
extern const struct operation child_operations[];  /* child.c */

extern const struct source *const agent_sources[]; /* made by the build: one table a plugin, NULL at the end */

void catch_faults(void); /* memory.c: a touched hole becomes EFAULT, once this was called */

/* ---- agent.c ---- */

extern volatile sig_atomic_t agent_stopping;
void serve(struct channel *channel); /* until the stream ends */

/* ---- child.c ---- */

extern int agent_is_child;
void relay(struct channel *channel, const struct frame *request); /* consumes the request */
void end_children(void);

/* ---- port.c ---- */

int set_raw(int tty, uint32_t baud); /* 0 or -1; what it was is put back by restore_tty */
void restore_tty(void);
/* Serves a line for ever, opening it again after each hang-up; its path is looked up each time, since a port may come late. */
void serve_port(const char *port, uint32_t baud);
extern const char *agent_role;

/* ---- what a system provides ---- */

struct fields {
    uint8_t *bytes;
    size_t used, room;
    uint16_t count;
};
void add_field(struct fields *fields, const char *key, const char *value);
void add_number_field(struct fields *fields, const char *key, uint64_t value);

enum map_flag {
    MAP_FLAG_SHARED = 1,
    MAP_FLAG_FIXED = 2,
    MAP_FLAG_FIXED_NOT_OVER = 4,
    MAP_FLAG_NO_RESERVE = 8,
    MAP_FLAG_POPULATE = 16,
    MAP_FLAG_GROWS_DOWN = 32,
    MAP_FLAG_LOCKED = 64,
    MAP_FLAG_HUGE = 128,
    MAP_FLAG_STACK = 256
};

/* Adds this system's own keys to hello; `ticks_per_second` must be among them. */
void system_hello(struct fields *fields);
/* Puts the records of `processes`, all or only that of pid (0: all); one that is gone has none. 0 or an errno. */
int system_processes(struct source_sink *sink, uint32_t pid);
/* The native mmap flags for these map_flags, or -1 when one of them is not known here. */
int system_map_flags(uint32_t flags);
/* The rest return what the call returns, with errno; ENOSYS where the system has no such call. */
int system_protect(void *address, size_t length, int protection);
int system_advise(void *address, size_t length, int advice);
int system_lock_on_fault(void *address, size_t length);
int system_lock_all(uint32_t flags);
int system_open_memory(const char *name);
void *system_attach(void *address, size_t size, int writable);
void *system_move(void *address, size_t size, size_t new_size, int flags, void *to);
int system_name(void *address, size_t length, const char *name);
/* ESRCH also when the process's start time is not start_time (0: not checked). */
int64_t system_advise_process(uint32_t pid, uint64_t start_time, int advice, uint32_t flags, const uint64_t *pairs,
                              uint32_t count);
int system_become(uint32_t user, uint32_t group);
/* In a new child, and again after its rights changed: let it be killed when its parent dies, where the system can. */
void system_follow_parent(pid_t parent);
/* Where a port given as SCHEME:NAME is now; 0, or -1 when it is not there (yet). Plain paths are copied. */
int system_find_port(const char *port, char *path, size_t size);
/* Called first in main: 1 when this process is the machine's init (then *port and *baud are set and the caller serves; init
 * itself never returns from it, the process that returns is its child), 0 otherwise. */
int system_start(char *port, size_t size, uint32_t *baud);
void system_power_off(void);

#endif
