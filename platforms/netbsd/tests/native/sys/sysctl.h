/* As much of NetBSD's <sys/sysctl.h> as the source uses, so that it runs on this machine against a scripted kernel. */
#ifndef FAKE_SYSCTL_H
#define FAKE_SYSCTL_H
#include <stddef.h>
#include <stdint.h>
enum { CTL_KERN = 1, CTL_VM = 2, KERN_PROC2 = 47, KERN_PROC_ALL = 0, KERN_PROC_PID = 1 };
struct kinfo_vmentry {
    uint8_t bytes[1128];
};
struct kinfo_proc2 {
    uint8_t bytes[680];
};
int sysctl(const int *mib, unsigned count, void *old, size_t *old_size, const void *new_value, size_t new_size);
#endif
