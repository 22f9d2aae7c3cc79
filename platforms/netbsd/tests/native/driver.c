/* Plays NetBSD's sysctl to the agent's source. The script's `size` and `growth` are regions; `gone`: there is no process. */
#include <assert.h>
#include <sys/sysctl.h>
#include <uvm/uvm_param.h>

#include "scripted_kernel.h"

extern const struct source vmatlas_netbsd_sources[];

/* As fill_vmentries() of sys/uvm/uvm_map.c answers. */
static int tell_map(void *old, size_t *old_size)
{
    const size_t one = sizeof(struct kinfo_vmentry);
    if (old != NULL && (*old_size > 10U * 1024 * 1024 || *old_size < one)) {
        errno = *old_size < one ? ENOMEM : E2BIG;
        return -1;
    }
    return script_fill(old, old_size, one, ENOSPC);
}

int sysctl(const int *mib, unsigned count, void *old, size_t *old_size, const void *new_value, size_t new_size)
{
    assert(new_value == NULL && new_size == 0 && count > 3 && mib[3] == script_number("pid", 0));
    if (mib[0] == CTL_VM) {
        assert(count == 5 && mib[1] == VM_PROC && mib[2] == VM_PROC_MAP && mib[4] == (int)sizeof(struct kinfo_vmentry));
        return tell_map(old, old_size);
    }
    assert(count == 6 && mib[0] == CTL_KERN && mib[1] == KERN_PROC2 && mib[2] == KERN_PROC_PID && mib[4] == 680 && mib[5] == 1);
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
    return script_ask(vmatlas_netbsd_sources);
}
