/* NetBSD: hello, processes, the memory calls that POSIX lacks (system_plain.c says what there is not). */
#include "source_netbsd.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "process_record.h"
#include "system.h"

/* ---- processes ---- */

/* Start times are microseconds since 1970, taken when the process began (p_start, sys/kern/kern_fork.c): a clock that is set
 * later does not move them. */
void system_hello(struct fields *fields) { add_number_field(fields, "ticks_per_second", 1000000); }

static int put_process(const struct kinfo_proc2 *process, struct source_sink *sink)
{
    enum { ACTIVE = 2, DYING = 3, STOPPED = 4, ZOMBIE = 5, DEAD = 6 }; /* SACTIVE..., <sys/proc.h>, which users cannot include */
    struct process_record record;
    uint64_t state = process->p_realstat;
    record.number_inside = 0;
    record.is_silent = record.lives_on = 0;
    record.pid = (uint32_t)process->p_pid;
    record.parent = (uint32_t)process->p_ppid;
    record.user = process->p_uid;
    record.start_time =
        process->p_uvalid != 0 ? (uint64_t)process->p_ustart_sec * 1000000U + process->p_ustart_usec : 0;
    record.zombie = state == DYING || state == ZOMBIE || state == DEAD;
    record.state = record.zombie ? 'Z' : state == STOPPED ? 'T' : state == ACTIVE ? 'S' : 'I';
    record.kernel = (process->p_flag & P_SYSTEM) != 0;
    record.name = process->p_comm;
    record.name_size = strnlen(process->p_comm, sizeof process->p_comm);
    return put_process_record(sink, &record);
}

int system_processes(struct source_sink *sink, uint32_t only)
{
    static struct kinfo_proc2 room[4096]; /* some 3 MB, of which only what is written is ever there */
    size_t size = only != 0 ? sizeof room[0] : sizeof room;
    int error = netbsd_read_processes(only != 0 ? KERN_PROC_PID : KERN_PROC_ALL, (int)only, room, &size);
    add_text(sink->failed, sizeof sink->failed, only != 0 ? "sysctl kern.proc2.pid" : "sysctl kern.proc2.all");
    if (error != 0)
        return error == ESRCH && only != 0 ? 0 : error;
    for (size_t i = 0; error == 0 && i < size / sizeof room[0]; i++)
        error = put_process(&room[i], sink);
    return error;
}

/* ---- memory ---- */

int system_map_flags(uint32_t flags)
{
    const uint32_t lacking = MAP_FLAG_POPULATE | MAP_FLAG_GROWS_DOWN | MAP_FLAG_HUGE;
    int native = (flags & MAP_FLAG_SHARED) ? MAP_SHARED : MAP_PRIVATE;
    if (flags >= 2 * MAP_FLAG_STACK || (flags & lacking) != 0)
        return -1;
    native |= (flags & MAP_FLAG_FIXED) ? MAP_FIXED : 0;
    native |= (flags & MAP_FLAG_FIXED_NOT_OVER) ? MAP_TRYFIXED : 0; /* elsewhere where something is there */
    native |= (flags & MAP_FLAG_NO_RESERVE) ? MAP_NORESERVE : 0;
    native |= (flags & MAP_FLAG_LOCKED) ? MAP_WIRED : 0;
    native |= (flags & MAP_FLAG_STACK) ? MAP_STACK : 0;
    return native;
}

int system_advise(void *address, size_t length, int advice) { return madvise(address, length, advice); }

/* memfd_create came with 11, and the agent is built for 10.1, where it is ENOSYS. */
int system_open_memory(const char *name)
{
    enum { MEMFD_CREATE = 500, CLOSE_ON_EXEC = 1 }; /* sys/kern/syscalls.master, sys/sys/mman.h */
    return syscall(MEMFD_CREATE, name, (unsigned)CLOSE_ON_EXEC);
}

/* ---- children, ports ---- */

/* There is no signal at a parent's death: a child ends when its stream does. */
void system_follow_parent(pid_t parent)
{
    if (getppid() != parent)
        _exit(0);
}

int system_find_port(const char *port, char *path, size_t size)
{
    path[0] = '\0';
    add_text(path, size, port);
    return strchr(port, ':') == NULL ? 0 : -1;
}
