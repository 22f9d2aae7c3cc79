/* What a system provides: a new one implements these functions (system_linux.c is the example), all else is C99 and POSIX.
 * Where the system has no such call they fail with ENOSYS. */
#ifndef VMATLAS_SYSTEM_H
#define VMATLAS_SYSTEM_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "fields.h"
#include "source.h"

/* ---- the machine ---- */

/* Adds this system's own keys to hello; `ticks_per_second` must be among them. */
void system_hello(struct fields *fields);
/* Puts the records of `processes`, all or only that of pid (0: all); one that is gone has none. 0 or an errno. */
int system_processes(struct source_sink *sink, uint32_t pid);
/* Only where system_proc.c is used, which walks the folders /proc/PID: puts the record of one. 0 or an errno. */
int system_process(struct source_sink *sink, uint32_t pid);
/* There as well: the records of all are about to be put (1), or have been (0). */
void system_listing(int begins);
/* Returns what the call returns, with errno; ESRCH also when the process's start time is not start_time (0: not checked).
 * Each pair is an address and a length. */
int64_t system_advise_process(uint32_t pid, uint64_t start_time, int advice, uint32_t flags, const uint64_t *pairs,
                              uint32_t count);
void system_power_off(void);

/* ---- memory: each returns what the call returns, with errno ---- */

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

enum lock_flag { LOCK_CURRENT = 1, LOCK_FUTURE = 2, LOCK_ON_FAULT = 4 };

/* The native mmap flags for these map_flags, or -1 when one of them is not known here. */
int system_map_flags(uint32_t flags);
int system_protect(void *address, size_t length, int protection);
int system_advise(void *address, size_t length, int advice);
int system_lock_on_fault(void *address, size_t length);
int system_lock_all(uint32_t flags); /* lock_flags, at least one */
int system_open_memory(const char *name);
void *system_attach(void *address, size_t size, int writable);
void *system_move(void *address, size_t size, size_t new_size, int flags, void *to);
int system_name(void *address, size_t length, const char *name);
/* Gives a descriptor that makes the process itself answer for faults in the range, until it is closed: userfaultfd. */
int system_watch(void *address, size_t length, uint32_t modes);

/* ---- files ---- */

struct looked {
    uint32_t mode, links, major, minor;
    uint64_t inode, mount; /* UINT64_MAX: its number is not told */
};

/* A mount whose file system answers by itself, as the host has seen it: its line in a mountinfo, without the newline. */
struct answering {
    uint64_t number;
    uint32_t mark; /* the CRC-32 of that line */
};

/* What stands at `path` below `root` (changed while it is read): below "/" of the agent, or of the mount namespace that any
 * other root lies in. An empty path: what `root` itself leads to. No link in `path` is followed. A file system is asked where
 * its mount is among `answering`; elsewhere only what the kernel remembers, or EAGAIN. 0, or -1 with errno. */
int system_look_up(const char *root, char *path, const struct answering *answering, uint32_t count, struct looked *found);

/* ---- life ---- */

/* Called first in main: 1 when this process is the machine's init (then *port and *baud are set, *payload where its command line
 * says so, and the caller serves; init itself never returns from it, the process that returns is its child), 0 otherwise. */
int system_start(char *port, size_t size, uint32_t *baud, uint32_t *payload);
/* Where a port given as SCHEME:NAME is now; 0, or -1 when it is not there (yet). Plain paths are copied. */
int system_find_port(const char *port, char *path, size_t size);
int system_limit(uint32_t resource, uint64_t soft, uint64_t hard); /* UINT64_MAX: none */
/* Closes what is open of the descriptors from `first` to `last`. 0, or -1 with errno where one call cannot do that. */
int system_close_range(int first, int last);
/* In a new child, and again after its rights changed: let it be killed when its parent dies, where the system can. */
void system_follow_parent(pid_t parent);

#endif
