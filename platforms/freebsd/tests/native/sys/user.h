/* As much of FreeBSD's <sys/user.h> as the sources use. */
#ifndef FAKE_USER_H
#define FAKE_USER_H
#include <sys/time.h>
struct kinfo_proc {
    int ki_structsize, ki_pid;
};
#endif
