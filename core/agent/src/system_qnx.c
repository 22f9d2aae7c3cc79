/* QNX Neutrino: hello, processes, and what of memory calls it has. */
#include "source_qnx.h"

#include <sys/mman.h>

#include "process_record.h"
#include "system.h"

#ifdef __QNX__ /* by qcc: the build ends here where the SDP's own header differs from what source_qnx.h and the decoder know */
#include <sys/procfs.h>
typedef char procfs_mapinfo_is_as_known
    [sizeof(procfs_mapinfo) == QNX_ENTRY && offsetof(procfs_mapinfo, size) == 8 && offsetof(procfs_mapinfo, flags) == 16 &&
             offsetof(procfs_mapinfo, dev) == 20 && offsetof(procfs_mapinfo, offset) == 24 &&
             offsetof(procfs_mapinfo, ino) == 32
         ? 1
         : -1];
typedef char procfs_info_is_as_known
    [sizeof(procfs_info) == QNX_INFO_SIZE && offsetof(procfs_info, parent) == QNX_INFO_PARENT &&
             offsetof(procfs_info, flags) == QNX_INFO_FLAGS && offsetof(procfs_info, euid) == QNX_INFO_USER &&
             offsetof(procfs_info, start_time) == QNX_INFO_START_TIME
         ? 1
         : -1];
typedef char device_commands_are_as_known
    [(unsigned)DCMD_PROC_MAPINFO == QNX_MAPINFO && (unsigned)DCMD_PROC_PAGEDATA == QNX_PAGEDATA &&
             (unsigned)DCMD_PROC_INFO == QNX_INFO &&
             (unsigned)DCMD_PROC_MAPDEBUG == QNX_MAPDEBUG && (unsigned)DCMD_PROC_MAPDEBUG_BASE == QNX_MAPDEBUG_BASE
         ? 1
         : -1];
typedef char path_of_mapdebug_is_at_8[offsetof(procfs_debuginfo, path) == QNX_NAME_AT ? 1 : -1];
#endif

void system_hello(struct fields *fields)
{
    add_number_field(fields, "ticks_per_second", 1000000000U); /* start times are in nanoseconds */
}

/* ---- processes ---- */

int system_process(struct source_sink *sink, uint32_t pid)
{
    enum { ZOMBIE = 0x8, RING0 = 0x8000 };
    static uint8_t info[QNX_INFO_SIZE], name[QNX_NAME_ROOM];
    struct process_record record;
    uint32_t parent, flags, user;
    uint64_t start_time;
    const char *path = "", *slash;
    int process, told = 0, error = qnx_open_process(pid, &process);
    if (error != 0)
        return error == ENOENT || error == ESRCH || error == EACCES || error == EPERM ? 0 : error;
    error = qnx_ask(process, QNX_INFO, info, sizeof info, &told);
    memcpy(&parent, info + QNX_INFO_PARENT, sizeof parent);
    memcpy(&flags, info + QNX_INFO_FLAGS, sizeof flags);
    memcpy(&user, info + QNX_INFO_USER, sizeof user);
    memcpy(&start_time, info + QNX_INFO_START_TIME, sizeof start_time);
    if (error == 0 && (flags & ZOMBIE) == 0 && qnx_ask_program(process, name, sizeof name) == 0)
        path = (const char *)name + QNX_NAME_AT;
    (void)close(process);
    if (error != 0)
        return error == ESRCH || error == ENXIO ? 0 : qnx_failure(pid, sink, "devctl INFO", error);
    slash = strrchr(path, '/');
    path = slash != NULL ? slash + 1 : path;
    record.number_inside = 0;
    record.is_silent = record.lives_on = 0;
    record.pid = pid;
    record.parent = parent;
    record.user = user;
    record.start_time = start_time;
    record.state = (flags & ZOMBIE) ? 'Z' : 'A'; /* alive: threads have states here, processes have not */
    record.kernel = pid == 1 || (flags & RING0) != 0;
    record.zombie = (flags & ZOMBIE) != 0;
    record.name = path;
    record.name_size = strlen(path);
    return put_process_record(sink, &record);
}

void system_listing(int begins) { (void)begins; }

/* ---- memory ---- */

int system_map_flags(uint32_t flags)
{
    const uint32_t known = MAP_FLAG_SHARED | MAP_FLAG_FIXED | MAP_FLAG_NO_RESERVE | MAP_FLAG_POPULATE | MAP_FLAG_STACK;
    int native = (flags & MAP_FLAG_SHARED) ? MAP_SHARED : MAP_PRIVATE;
    if ((flags & ~known) != 0)
        return -1;
    native |= (flags & MAP_FLAG_FIXED) ? MAP_FIXED : 0;
#ifdef MAP_LAZY
    native |= (flags & MAP_FLAG_NO_RESERVE) ? MAP_LAZY : 0; /* everything else has its memory at once: populated */
#endif
    native |= (flags & MAP_FLAG_STACK) ? MAP_STACK : 0;
    return native;
}

static int lacking(void)
{
    errno = ENOSYS;
    return -1;
}

int system_advise(void *address, size_t length, int advice)
{
    (void)address, (void)length, (void)advice;
    return lacking();
}

int system_open_memory(const char *name)
{
    (void)name;
    return lacking();
}

void *system_attach(void *address, size_t size, int writable)
{
    (void)address, (void)size, (void)writable;
    (void)lacking();
    return MAP_FAILED;
}

/* ---- children, ports ---- */

int system_limit(uint32_t resource, uint64_t soft, uint64_t hard)
{
    (void)resource, (void)soft, (void)hard;
    return lacking();
}

void system_follow_parent(pid_t parent) { (void)parent; /* its pipe ends with the parent, and then the child ends too */ }

int system_find_port(const char *port, char *path, size_t size)
{
    path[0] = '\0';
    add_text(path, size, port);
    return 0;
}
