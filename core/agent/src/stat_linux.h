/* /proc/PID/stat, proc_pid_stat(5), of a process that may not answer. */
#ifndef VMATLAS_STAT_LINUX_H
#define VMATLAS_STAT_LINUX_H

#include <stddef.h>
#include <stdint.h>

struct stat_line {
    uint32_t parent;
    uint64_t flags, start_time, threads;
    char state;
    const char *name;
    size_t name_size;
    char text[1024];
};

/* 0 or an errno. Waits for as long as the kernel does: while a process executes a program, others do not look at it (measured on
 * 6.18, exec_update_lock), and it may stay in there for ever. Only SIGKILL ends such a wait. */
int linux_read_stat(uint32_t pid, struct stat_line *stat);

/* The same, read by a child of the agent, which can be left behind: ETIMEDOUT when it is silent for two seconds. Where no child can
 * be had the agent reads, and waits. */
int linux_ask_stat(uint32_t pid, struct stat_line *stat);
int linux_is_asking(uint32_t pid); /* whether it is that child */
void linux_end_asking(void);       /* it is asked no more */

/* What `comm` and `status` tell, which do not wait: neither flags nor start time. `kernel`: whether it is the kernel's own, as far as
 * that is told (since 6.7). 0 or an errno. */
int linux_read_silent(uint32_t pid, struct stat_line *stat, int *kernel);

#endif
