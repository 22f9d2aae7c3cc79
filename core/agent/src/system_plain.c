/* What a system has that keeps to POSIX: no calls of Linux's, and an agent that is never a machine's init. */
#include <errno.h>
#include <sys/mman.h>

#include "system.h"

static int lacking(void)
{
    errno = ENOSYS;
    return -1;
}

int system_protect(void *address, size_t length, int protection) { return mprotect(address, length, protection); }

int system_lock_on_fault(void *address, size_t length)
{
    (void)address, (void)length;
    return lacking();
}

int system_lock_all(uint32_t flags)
{
    if ((flags & LOCK_ON_FAULT) != 0)
        return lacking();
    return mlockall(((flags & LOCK_CURRENT) ? MCL_CURRENT : 0) | ((flags & LOCK_FUTURE) ? MCL_FUTURE : 0));
}

void *system_move(void *address, size_t size, size_t new_size, int flags, void *to)
{
    (void)address, (void)size, (void)new_size, (void)flags, (void)to;
    (void)lacking();
    return MAP_FAILED;
}

int system_name(void *address, size_t length, const char *name)
{
    (void)address, (void)length, (void)name;
    return lacking();
}

int system_watch(void *address, size_t length, uint32_t modes)
{
    (void)address, (void)length, (void)modes;
    return lacking();
}

int system_look_up(const char *root, char *path, const struct answering *answering, uint32_t count, struct looked *found)
{
    (void)root, (void)path, (void)answering, (void)count, (void)found;
    return lacking();
}

int64_t system_advise_process(uint32_t pid, uint64_t start_time, int advice, uint32_t flags, const uint64_t *pairs,
                              uint32_t count)
{
    (void)pid, (void)start_time, (void)advice, (void)flags, (void)pairs, (void)count;
    return lacking();
}

int system_start(char *port, size_t size, uint32_t *baud, uint32_t *payload)
{
    (void)port, (void)size, (void)baud, (void)payload;
    return 0;
}

int system_close_range(int first, int last)
{
    (void)first, (void)last;
    return lacking();
}

void system_power_off(void) {}
