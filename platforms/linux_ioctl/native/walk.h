/* A walk over the map of a process, one answer of PROCMAP_QUERY after another: for the agent and for this machine alike. */
#ifndef VMATLAS_LINUX_IOCTL_WALK_H
#define VMATLAS_LINUX_IOCTL_WALK_H

#include "procmap.h"

struct walk {
    int maps;         /* a descriptor of /proc/PID/maps */
    uint64_t flags;   /* the kernel's: COVERING_OR_NEXT to walk, and what must hold of a region */
    uint64_t address; /* where the next question is asked */
    uint64_t end;     /* a region that starts here or above is not for this walk; 0: to the end of memory */
    char *name;       /* NAME_ROOM bytes for the name of the answer; NULL: it is not asked for */
    char *build_id;   /* BUILD_ID_ROOM bytes for the build id of the answer's file; NULL: it is not asked for */
    struct procmap_query answer; /* the latest; its two addresses are 0 */
    int is_unnamed;              /* the answer lacks its name, which is longer than the kernel tells */
};

/* Asks once, at `address`. 0, or the errno: ENOENT when nothing fits. */
int walk_ask(struct walk *walk);

/* Asks once, and moves `address` behind the answer. 0; ENOENT when the walk is over; EPROTO when an answer does not end above the
 * address that was asked about: a kernel that answers so is not followed; or another errno of the kernel's. */
int walk_next(struct walk *walk);

#endif
