/* Linux: hello, processes, the memory calls that POSIX lacks. */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "call_base.h"
#include "process_record.h"
#include "source_linux.h"
#include "stat_linux.h"
#include "system.h"

/* Numbers that older headers lack. */
enum { NUMBER_PIDFD_OPEN = CALL_BASE + 434, NUMBER_CLOSE_RANGE = CALL_BASE + 436, NUMBER_PROCESS_MADVISE = CALL_BASE + 440 };

void system_hello(struct fields *fields)
{
    char emulator[256];
    add_number_field(fields, "ticks_per_second", (uint64_t)sysconf(_SC_CLK_TCK));
    if (linux_find_emulator(emulator, sizeof emulator))
        add_field(fields, "emulator", emulator);
}

/* ---- processes ---- */

static int is_listing; /* of all processes: one that does not answer is passed over */

void system_listing(int begins)
{
    is_listing = begins;
    if (!begins)
        linux_end_asking();
}

static int read_stat(uint32_t pid, struct stat_line *stat)
{
    return is_listing ? linux_ask_stat(pid, stat) : linux_read_stat(pid, stat);
}

/* Whether there is such a process, whatever /proc shows: a signal that is none is sent to it. */
static int exists(uint32_t pid) { return (int32_t)pid > 0 && (kill((pid_t)pid, 0) == 0 || errno == EPERM); }

/* What the mount option hidepid gives to whom it hides the process: EPERM (noaccess), or ENOENT as if there were none (invisible,
 * ptraceable). Looked at twice, since a process may have begun between the two questions. */
static int is_hidden(uint32_t pid, struct stat_line *line, int error)
{
    if (error == ENOENT && exists(pid))
        error = read_stat(pid, line);
    return error == EPERM || error == EACCES || (error == ENOENT && exists(pid));
}

/* How many numbers a line of its `status` has, and the last of them; 0 where that is not told. */
static int numbers_of(uint32_t pid, const char *key, uint32_t *last)
{
    char path[64] = "/proc/";
    int status, numbers;
    add_number(path, sizeof path, pid);
    add_text(path, sizeof path, "/status");
    status = open(path, O_RDONLY | O_CLOEXEC);
    if (status < 0)
        return 0;
    numbers = linux_read_numbers(status, key, last);
    (void)close(status);
    return numbers;
}

/* The last number of NSpid: in the namespace that the process itself is in. 0 where that is this /proc's own, or not told. */
static uint32_t number_inside(uint32_t pid)
{
    uint32_t last = 0;
    return numbers_of(pid, "NSpid:", &last) > 1 ? last : 0;
}

/* The process of which a number is a thread's: /proc lists none of these, and opens the folder of each as if it were a process's. 0
 * where it is a process's own, or not told. */
static uint32_t process_of_thread(uint32_t number)
{
    uint32_t process = 0;
    return !is_listing && numbers_of(number, "Tgid:", &process) == 1 && process != number ? process : 0;
}

int system_process(struct source_sink *sink, uint32_t pid)
{
    enum { KERNEL_THREAD = 0x00200000 /* PF_KTHREAD */ };
    static struct stat_line line;
    struct process_record process;
    char path[64] = "/proc/";
    struct stat owner;
    uint32_t whole;
    int error = linux_check_numbers(sink), kernel;
    if (error != 0 || linux_is_asking(pid))
        return error;
    error = read_stat(pid, &line);
    kernel = (line.flags & KERNEL_THREAD) != 0;
    process.is_silent = error == ETIMEDOUT;
    if (process.is_silent)
        error = linux_read_silent(pid, &line, &kernel);
    if (error != 0 && is_hidden(pid, &line, error))
        return put_hidden_process(sink, pid);
    if (error == 0 && !process.is_silent && strtoul(line.text, NULL, 10) != pid)
        return put_hidden_process(sink, pid); /* another's folder is mounted over its own */
    whole = error == 0 ? process_of_thread(pid) : 0;
    if (whole != 0)
        return put_thread(sink, pid, whole);
    add_number(path, sizeof path, pid);
    if (error == EPROTO)
        return error;
    if (error != 0 || stat(path, &owner) != 0) /* it has gone since the folder was read */
        return is_listing ? put_gone_process(sink, pid) : 0;
    process.pid = pid;
    process.parent = line.parent;
    process.user = (uint32_t)owner.st_uid;
    process.start_time = line.start_time;
    process.state = line.state;
    process.kernel = kernel;
    process.zombie = line.state == 'Z';
    process.lives_on = process.zombie && line.threads > 1;
    process.number_inside = process.kernel ? 0 : number_inside(pid);
    process.name = line.name;
    process.name_size = line.name_size;
    return put_process_record(sink, &process);
}

/* ---- memory. Through syscall() where the C library would round, check or translate ---- */

int system_map_flags(uint32_t flags)
{
    int native = (flags & MAP_FLAG_SHARED) ? MAP_SHARED : MAP_PRIVATE;
    if (flags >= 2 * MAP_FLAG_STACK)
        return -1;
    native |= (flags & MAP_FLAG_FIXED) ? MAP_FIXED : 0;
    native |= (flags & MAP_FLAG_FIXED_NOT_OVER) ? 0x100000 : 0; /* MAP_FIXED_NOREPLACE, since 4.17 */
    native |= (flags & MAP_FLAG_NO_RESERVE) ? MAP_NORESERVE : 0;
    native |= (flags & MAP_FLAG_POPULATE) ? MAP_POPULATE : 0;
    native |= (flags & MAP_FLAG_GROWS_DOWN) ? MAP_GROWSDOWN : 0;
    native |= (flags & MAP_FLAG_LOCKED) ? MAP_LOCKED : 0;
    native |= (flags & MAP_FLAG_HUGE) ? MAP_HUGETLB : 0;
    native |= (flags & MAP_FLAG_STACK) ? MAP_STACK : 0;
    return native;
}

int system_protect(void *address, size_t length, int protection)
{
    return (int)syscall(SYS_mprotect, address, length, (long)protection); /* musl's mprotect rounds to pages */
}

int system_advise(void *address, size_t length, int advice) { return (int)syscall(SYS_madvise, address, length, (long)advice); }

int system_lock_on_fault(void *address, size_t length)
{
    return (int)syscall(SYS_mlock2, address, length, 1L /* MLOCK_ONFAULT */);
}

int system_lock_all(uint32_t flags)
{
    long native = (flags & LOCK_CURRENT) ? MCL_CURRENT : 0;
    native |= (flags & LOCK_FUTURE) ? MCL_FUTURE : 0;
    native |= (flags & LOCK_ON_FAULT) ? MCL_ONFAULT : 0;
    return (int)syscall(SYS_mlockall, native);
}

int system_open_memory(const char *name) { return (int)syscall(SYS_memfd_create, name, 1L /* MFD_CLOEXEC */); }

void *system_move(void *address, size_t size, size_t new_size, int flags, void *to)
{
    return (void *)syscall(SYS_mremap, address, size, new_size, (long)flags, to);
}

int system_name(void *address, size_t length, const char *name)
{
    /* PR_SET_VMA, PR_SET_VMA_ANON_NAME: since 5.17, where CONFIG_ANON_VMA_NAME */
    return prctl(0x53564d41, 0UL, (unsigned long)address, (unsigned long)length,
                 (unsigned long)(name[0] != '\0' ? name : NULL));
}

static int open_userfaultfd(void)
{
    enum { USER_MODE_ONLY = 1 /* since 5.11: all that is needed here, and what needs no rights */ };
    long flags = O_CLOEXEC | O_NONBLOCK, watch = syscall(SYS_userfaultfd, flags | USER_MODE_ONLY);
    return (int)(watch < 0 && errno == EINVAL ? syscall(SYS_userfaultfd, flags) : watch);
}

int system_watch(void *address, size_t length, uint32_t modes)
{
    struct uffdio_api api;
    struct uffdio_register range;
    int error, watch = open_userfaultfd();
    if (watch < 0)
        return -1;
    memset(&api, 0, sizeof api);
    api.api = UFFD_API;
    api.features = UFFD_FEATURE_SIGBUS; /* nobody reads the events: a fault ends in EFAULT, and never waits */
    memset(&range, 0, sizeof range);
    range.range.start = (uintptr_t)address;
    range.range.len = length;
    range.mode = modes;
    /* The C libraries do not agree on the type of the request; the system call does. */
    if (syscall(SYS_ioctl, (long)watch, (unsigned long)UFFDIO_API, &api) == 0 &&
        syscall(SYS_ioctl, (long)watch, (unsigned long)UFFDIO_REGISTER, &range) == 0)
        return watch;
    error = errno;
    (void)close(watch);
    errno = error;
    return -1;
}

int64_t system_advise_process(uint32_t pid, uint64_t start_time, int advice, uint32_t flags, const uint64_t *pairs,
                              uint32_t count)
{
    static struct iovec ranges[1024];
    static struct stat_line line;
    int error = linux_numbers_differ(), process;
    int64_t done = -1;
    errno = error;
    if (error != 0) /* the start time would be another process's */
        return -1;
    process = (int)syscall(NUMBER_PIDFD_OPEN, (long)(int32_t)pid, 0L);
    if (process < 0)
        return -1;
    for (uint32_t i = 0; i < count && i < 1024; i++) {
        ranges[i].iov_base = (void *)(uintptr_t)pairs[2 * i];
        ranges[i].iov_len = (size_t)pairs[2 * i + 1];
        if ((uintptr_t)ranges[i].iov_base != pairs[2 * i] || ranges[i].iov_len != pairs[2 * i + 1]) {
            (void)close(process);
            errno = EOVERFLOW;
            return -1;
        }
    }
    errno = start_time != 0 ? linux_read_stat(pid, &line) : 0;
    if (start_time != 0 && (errno != 0 || line.start_time != start_time))
        errno = ESRCH;
    else
        done = syscall(NUMBER_PROCESS_MADVISE, (long)process, ranges, (long)count, (long)advice, (long)flags);
    error = errno;
    (void)close(process);
    errno = error;
    return done;
}

/* ---- children ---- */

int system_close_range(int first, int last) { return (int)syscall(NUMBER_CLOSE_RANGE, (long)first, (long)last, 0L); }

void system_follow_parent(pid_t parent)
{
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(0); /* it died before we asked */
}
