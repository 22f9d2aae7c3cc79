/* Linux: what is mapped, and what a name means, without asking a file system that may not answer. The host says which do. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "call_base.h"
#include "frame.h"
#include "system.h"

enum {
    NUMBER_OPENAT2 = CALL_BASE + 437, /* since 5.6 */
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

/* Whether a mount has still the line that it had, in a table read now: 1, 0, or -1 when the table has none of that number. */
static int is_as_it_was(const char *table, const struct answering *mount)
{
    enum { LONGEST = 1 << 15 }; /* two paths of 4,096 bytes, each perhaps written as four, do not fill it */
    static char line[LONGEST], piece[4096];
    size_t used = 0;
    ssize_t size;
    int answer = -1, descriptor = open(table, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0)
        return -1;
    while (answer < 0 && (size = read(descriptor, piece, sizeof piece)) > 0)
        for (ssize_t i = 0; i < size && answer < 0; i++) {
            if (piece[i] != '\n') {
                if (used < sizeof line)
                    line[used] = piece[i];
                used += used < sizeof line;
                continue;
            }
            line[used < sizeof line ? used : sizeof line - 1] = '\0';
            if (strtoull(line, NULL, 10) == mount->number)
                answer = used < sizeof line && crc32_of((const uint8_t *)line, used) == mount->mark;
            used = 0;
        }
    (void)close(descriptor);
    return answer;
}

/* Whether the mount that a handle lies on is one that answers. A number means a mount for as long as somebody holds it, and another one
 * as soon as nobody does: so the tables are read now, while the handle does. `others`: that of the process whose root it is, or NULL. */
static int is_among(uint64_t mount, const struct answering *answering, uint32_t count, const char *others)
{
    for (uint32_t i = 0; i < count; i++)
        if (answering[i].number == mount && mount != UINT64_MAX) {
            int answer = is_as_it_was("/proc/self/mountinfo", &answering[i]);
            if (answer < 0 && others != NULL)
                answer = is_as_it_was(others, &answering[i]);
            return answer > 0;
        }
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

static int walk(int at, char *path, const struct answering *answering, uint32_t count, const char *others, struct looked *found)
{
    char *rest = path, *name;
    uint64_t mount;
    int answers;
    if (look(at, "", EMPTY_PATH, found) != 0)
        return dropped(at);
    mount = found->mount;
    answers = is_among(mount, answering, count, others);
    while ((name = strtok_r(rest, "/", &rest)) != NULL) {
        int lower = step(at, name, answers);
        if (lower < 0)
            return dropped(at);
        if (look(lower, "", EMPTY_PATH, found) != 0) {
            (void)close(lower);
            return dropped(at);
        }
        /* Not before the lower one is held may the upper one be let go: then its number is its own as yet. */
        (void)close(at);
        at = lower;
        if (found->mount != mount) {
            mount = found->mount;
            answers = is_among(mount, answering, count, others);
        }
    }
    (void)close(at);
    return 0;
}

int system_look_up(const char *root, char *path, const struct answering *answering, uint32_t count, struct looked *found)
{
    static const char end[] = "/root", table[] = "/mountinfo";
    static char others[64];
    size_t size = strlen(root), kept = size < sizeof end ? 0 : size - (sizeof end - 1);
    int at;
    /* /proc/PID/root: the same process's table. */
    if (kept > 0 && kept + sizeof table <= sizeof others && strcmp(root + kept, end) == 0) {
        memcpy(others, root, kept);
        memcpy(others + kept, table, sizeof table);
    } else {
        kept = 0;
    }
    if (path[0] == '\0')
        return look(AT_FDCWD, root, 0, found);
    at = open(root, HANDLE);
    if (at >= 0 && strcmp(root, "/") != 0)
        at = climb(at);
    return at < 0 ? -1 : walk(at, path, answering, count, kept > 0 ? others : NULL, found);
}
