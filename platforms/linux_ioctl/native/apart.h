/* A process of its own for questions that the kernel may never answer: for a build id it reads a file, whose file system may wait for
 * somebody for ever. A thread that waits so keeps its whole process from ending; a child is left behind.
 */
#ifndef VMATLAS_LINUX_IOCTL_APART_H
#define VMATLAS_LINUX_IOCTL_APART_H

#include <sys/types.h>

#include "procmap.h"

/* What the child says to a question, in one message: only as much as the sizes of `record` tell of the two texts, without a gap. */
struct answer_apart {
    int32_t error; /* the errno of PROCMAP_QUERY; 0 */
    uint32_t nothing;
    struct procmap_query record;
    char texts[NAME_ROOM + BUILD_ID_ROOM];
};

/* Starts a child that asks about the map `maps`. It takes a procmap_query in each message (whether name and build id are wanted is told
 * by their sizes), and ends when the other end is closed. The child's id, and in `*end` this end, a socket; or -errno.
 * No signal is sent when it ends (wait for it with __WALL); no handler of pthread_atfork(3) is run. */
pid_t apart_begin(int maps, int *end);

#endif
