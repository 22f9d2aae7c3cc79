/* Linux: what is mapped, and what a name means, without asking a file system that may not answer. The host says which do. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "system.h"

enum {
    NUMBER_OPENAT2 = 437, /* since 5.6; the same on every processor that agents are built for */
    NO_XDEV = 0x01,       /* RESOLVE_*, include/uapi/linux/openat2.h */
    CACHED = 0x20,        /* since 5.12 */
    AS_REMEMBERED = 0x4000 | 0x800, /* AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT */
    EMPTY_PATH = 0x1000,
    BASIC = 0x7ff,
    MOUNT_NUMBER = 0x1000, /* STATX_MNT_ID, since 5.8 */
    TRIES = 50,            /* what the kernel remembers can be changing just now */
    DEEPEST = 256,         /* folders above a root */
    HANDLE = O_PATH | O_CLOEXEC
};

struct how { /* struct open_how */
    uint64_t flags, mode, resolve;
};

/* struct statx, of which headers are of many ages: fields by their offsets. */
static int look(int folder, const char *path, int flags, struct looked *found)
{
    static uint8_t told[256];
    uint32_t mask;
    uint16_t mode;
    if (syscall(SYS_statx, folder, path, flags | AS_REMEMBERED, BASIC | MOUNT_NUMBER, told) != 0)
        return -1;
    memcpy(&mask, told, sizeof mask);
    memcpy(&found->links, told + 16, sizeof found->links);
    memcpy(&mode, told + 28, sizeof mode);
    found->mode = mode;
    memcpy(&found->inode, told + 32, sizeof found->inode);
    memcpy(&found->major, told + 136, sizeof found->major);
    memcpy(&found->minor, told + 140, sizeof found->minor);
    memcpy(&found->mount, told + 144, sizeof found->mount);
    if ((mask & MOUNT_NUMBER) == 0)
        found->mount = UINT64_MAX;
    return 0;
}

static int open_step(int folder, const char *name, uint64_t resolve)
{
    struct how how = {(uint64_t)HANDLE | O_NOFOLLOW, 0, resolve};
    return (int)syscall(NUMBER_OPENAT2, folder, name, &how, sizeof how);
}

/* One step down. Where the mount answers, it is asked, and the step stays on it; elsewhere the kernel's memory is. */
static int step(int folder, const char *name, int answers)
{
    int handle = -1;
    if (answers) {
        handle = open_step(folder, name, NO_XDEV);
        if (handle >= 0 || errno != EXDEV)
            return handle;
    }
    for (int i = 0; i < TRIES; i++) {
        handle = open_step(folder, name, CACHED);
        if (handle >= 0 || errno != EAGAIN)
            break;
    }
    return handle;
}

static int is_among(uint64_t mount, const uint64_t *answering, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (answering[i] == mount && mount != UINT64_MAX)
            return 1;
    return 0;
}

/* Closes `handle` and keeps errno. */
static int dropped(int handle)
{
    int error = errno;
    (void)close(handle);
    errno = error;
    return -1;
}

/* From a folder up to the root of its mount namespace, as far as the kernel remembers the way. Takes the handle and gives
 * another. */
static int climb(int folder)
{
    struct looked here, above;
    if (look(folder, "", EMPTY_PATH, &here) != 0)
        return folder;
    for (int i = 0; i < DEEPEST; i++) {
        int higher = step(folder, "..", 0);
        if (higher < 0)
            break;
        (void)close(folder);
        folder = higher;
        if (look(folder, "", EMPTY_PATH, &above) != 0)
            break;
        if (above.inode == here.inode && above.mount == here.mount && above.major == here.major && above.minor == here.minor)
            break;
        here = above;
    }
    return folder;
}

static int walk(int at, char *path, const uint64_t *answering, uint32_t count, struct looked *found)
{
    char *rest = path, *name;
    if (look(at, "", EMPTY_PATH, found) != 0)
        return dropped(at);
    while ((name = strtok_r(rest, "/", &rest)) != NULL) {
        int lower = step(at, name, is_among(found->mount, answering, count));
        if (lower < 0)
            return dropped(at);
        (void)close(at);
        at = lower;
        if (look(at, "", EMPTY_PATH, found) != 0)
            return dropped(at);
    }
    (void)close(at);
    return 0;
}

int system_look_up(const char *root, char *path, const uint64_t *answering, uint32_t count, struct looked *found)
{
    int at;
    if (path[0] == '\0')
        return look(AT_FDCWD, root, 0, found);
    at = open(root, HANDLE);
    if (at >= 0 && strcmp(root, "/") != 0)
        at = climb(at);
    return at < 0 ? -1 : walk(at, path, answering, count, found);
}
