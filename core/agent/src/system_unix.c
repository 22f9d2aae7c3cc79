/* What Linux and FreeBSD have in common: System V shared memory, limits. */
#include <errno.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/shm.h>

#include "system.h"

void *system_attach(void *address, size_t size, int writable)
{
    void *attached;
    int error, segment = shmget(IPC_PRIVATE, size, IPC_CREAT | 0600);
    if (segment < 0)
        return MAP_FAILED;
    attached = shmat(segment, address, writable ? 0 : SHM_RDONLY);
    error = errno;
    (void)shmctl(segment, IPC_RMID, NULL); /* it goes when it is detached */
    errno = error;
    return attached; /* (void *)-1 on failure, which is MAP_FAILED */
}

int system_limit(uint32_t resource, uint64_t soft, uint64_t hard)
{
    struct rlimit limit;
    limit.rlim_cur = soft == UINT64_MAX ? RLIM_INFINITY : (rlim_t)soft;
    limit.rlim_max = hard == UINT64_MAX ? RLIM_INFINITY : (rlim_t)hard;
    /* glibc has an enum here, whose values are the kernel's numbers. */
    return setrlimit((__typeof__(RLIMIT_CORE))resource, &limit);
}
