/* As much of FreeBSD's <sys/sysctl.h> as the sources use, so that they run on this machine against a scripted kernel. */
#ifndef FAKE_SYSCTL_H
#define FAKE_SYSCTL_H
#include <stddef.h>
enum { CTL_KERN = 1, KERN_PROC = 14, KERN_BOOTTIME = 21, KERN_PROC_PID = 1, KERN_PROC_PROC = 8, KERN_PROC_VMMAP = 32 };
int sysctl(const int *mib, unsigned count, void *old, size_t *old_size, const void *new_value, size_t new_size);
#endif
