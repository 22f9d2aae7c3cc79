/* System V shared memory, on the systems that have it. */
#include <errno.h>
#include <sys/mman.h>
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
