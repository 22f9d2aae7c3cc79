/* Plays FreeBSD's sysctl to the agent's source. The script's `size` and `growth` are bytes of the map; `gone`: there is no process. */
#include <assert.h>
#include <sys/sysctl.h>
#include <sys/user.h>

#include "scripted_kernel.h"

extern const struct source vmatlas_freebsd_vmmap_sources[];

int sysctl(const int *mib, unsigned count, void *old, size_t *old_size, const void *new_value, size_t new_size)
{
    assert(new_value == NULL && new_size == 0 && mib[0] == CTL_KERN);
    if (count == 2 && mib[1] == KERN_BOOTTIME) {
        memset(old, 7, *old_size);
        return 0;
    }
    assert(count == 4 && mib[1] == KERN_PROC && mib[3] == script_number("pid", 0));
    if (mib[2] == KERN_PROC_VMMAP)
        return script_fill(old, old_size, 1, ENOMEM);
    assert(mib[2] == KERN_PROC_PID);
    if (script_number("gone", 0)) {
        errno = ESRCH;
        return -1;
    }
    memset(old, 9, *old_size);
    return 0;
}

int main(int argc, char **argv)
{
    script_begin(argc, argv);
    return script_ask(vmatlas_freebsd_vmmap_sources);
}
