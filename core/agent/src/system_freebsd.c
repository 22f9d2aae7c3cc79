/* FreeBSD: the entry, hello, processes, the memory calls that POSIX lacks (system_plain.c says what there is not). */
#include "source_freebsd.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/proc.h>
#include <sys/procctl.h>
#include <sys/stat.h>
#include <sys/time.h>

#include "process_record.h"
#include "system.h"

/* ---- the entry ----
 * The start files that come with the compiler are those of FreeBSD 14, which need __libc_start1@FBSD_1.7; 13.2 lacks it. This
 * entry needs nothing: a dynamic program's libraries and thread-local storage are set up by the time it runs. The first
 * argument is where the stack holds argc, argv, NULL, the environment, NULL. */

int main(int argc, char **argv);
void vmatlas_start(char **stack);

extern char **environ;
extern const char *__progname;

void vmatlas_start(char **stack)
{
    int argc = (int)(intptr_t)stack[0];
    char **argv = stack + 1;
    environ = argv + argc + 1;
    if (argc > 0 && argv[0] != NULL)
        __progname = argv[0];
    exit(main(argc, argv));
}

/* ---- processes ---- */

static uint64_t microseconds(const struct timeval *time)
{
    return (uint64_t)time->tv_sec * 1000000U + (uint64_t)time->tv_usec;
}

/* 0 when it cannot be told. */
static uint64_t boot_time(void)
{
    int mib[2] = {CTL_KERN, KERN_BOOTTIME};
    struct timeval time;
    size_t size = sizeof time;
    return sysctl(mib, 2, &time, &size, NULL, 0) == 0 ? microseconds(&time) : 0;
}

/* Start times are microseconds since boot: the kernel adds the boot's time of day to each, which moves when the clock is set. */
void system_hello(struct fields *fields) { add_number_field(fields, "ticks_per_second", 1000000); }

static int put_process(const struct kinfo_proc *process, uint64_t boot, struct source_sink *sink)
{
    static const char states[] = "?IRSTZWL"; /* SIDL to SLOCK, as ps(1) writes them */
    uint64_t started = microseconds(&process->ki_start);
    int state = process->ki_stat > 0 && process->ki_stat <= SLOCK ? process->ki_stat : 0;
    struct process_record record;
    record.number_inside = 0;
    record.is_silent = record.lives_on = 0;
    record.pid = (uint32_t)process->ki_pid;
    record.parent = (uint32_t)process->ki_ppid;
    record.user = (uint32_t)process->ki_uid;
    record.start_time = started > boot ? started - boot : 0;
    record.state = states[state];
    record.kernel = (process->ki_flag & P_KPROC) != 0;
    record.zombie = state == SZOMB;
    record.name = process->ki_comm;
    record.name_size = strnlen(process->ki_comm, sizeof process->ki_comm);
    return put_process_record(sink, &record);
}

int system_processes(struct source_sink *sink, uint32_t only)
{
    static struct kinfo_proc room[64];
    int mib[4] = {CTL_KERN, KERN_PROC, KERN_PROC_PROC, 0}, error;
    uint64_t boot = boot_time();
    struct freebsd_value value;
    if (only != 0) {
        mib[2] = KERN_PROC_PID;
        mib[3] = (int)only;
    }
    add_text(sink->failed, sizeof sink->failed, only != 0 ? "sysctl kern.proc.pid" : "sysctl kern.proc.proc");
    error = freebsd_read(mib, 4, room, sizeof room, &value);
    if (error != 0)
        return error == ESRCH && only != 0 ? 0 : error;
    for (size_t at = 0; error == 0 && at + sizeof room[0] <= value.size; at += sizeof room[0]) {
        struct kinfo_proc process;
        memcpy(&process, value.bytes + at, sizeof process);
        if (process.ki_structsize != (int)sizeof process)
            error = EPROTO; /* of a kernel with another structure than this agent was built for */
        else if (only == 0 || process.ki_pid == (pid_t)only) /* a thread's id is answered with its process */
            error = put_process(&process, boot, sink);
    }
    freebsd_free(&value);
    return error;
}

/* ---- memory ---- */

int system_map_flags(uint32_t flags)
{
    const uint32_t lacking = MAP_FLAG_POPULATE | MAP_FLAG_GROWS_DOWN | MAP_FLAG_LOCKED | MAP_FLAG_HUGE;
    int native = (flags & MAP_FLAG_SHARED) ? MAP_SHARED : MAP_PRIVATE;
    if (flags >= 2 * MAP_FLAG_STACK || (flags & lacking) != 0)
        return -1;
    native |= (flags & MAP_FLAG_FIXED) ? MAP_FIXED : 0;
    native |= (flags & MAP_FLAG_FIXED_NOT_OVER) ? MAP_FIXED | MAP_EXCL : 0;
    native |= (flags & MAP_FLAG_STACK) ? MAP_STACK : 0;
    return native; /* no reserve needs no flag: FreeBSD has none, and takes swap for memory when it is touched */
}

int system_advise(void *address, size_t length, int advice) { return madvise(address, length, advice); }

int system_open_memory(const char *name) { return memfd_create(name, MFD_CLOEXEC); }

/* ---- children, ports ---- */

void system_follow_parent(pid_t parent)
{
    int number = SIGKILL;
    (void)procctl(P_PID, 0, PROC_PDEATHSIG_CTL, &number);
    if (getppid() != parent)
        _exit(0); /* it died before we asked */
}

/* A virtio port has its name below /dev/vtcon. */
int system_find_port(const char *port, char *path, size_t size)
{
    static const char prefix[] = "virtio:";
    int named = strncmp(port, prefix, sizeof prefix - 1) == 0;
    path[0] = '\0';
    if (named)
        add_text(path, size, "/dev/vtcon/");
    add_text(path, size, named ? port + sizeof prefix - 1 : port);
    return !named || access(path, F_OK) == 0 ? 0 : -1;
}
