/* What QNX's C library has and this host's has not, for Python here to ask: devctl() on a procfs that is made of files. It
 * behaves as a 6.4.1 kernel was seen to (captures/edge_cases.json). VMATLAS_PROCFS names a folder with PID.procinfo,
 * PID.mapinfo, PID.pagedata, PID.mapdebug and PID.program; PID.later takes the place of both maps from the second asking on; PID.denied,
 * PID.zombie and PID.reaped refuse. Its folder `proc` is listed as /proc. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { INFO = 0x41100801, MAPINFO = 0x40300802, PAGEDATA = 0x40300814, ENTRY = 48, MOST = 1 << 20, FILES = 1024 };

static int pid_of[FILES], asked[FILES];
static uint8_t content[MOST];

static long load(int pid, const char *what)
{
    char path[4096];
    long size;
    int file;
    snprintf(path, sizeof path, "%s/%d.%s", getenv("VMATLAS_PROCFS"), pid, what);
    file = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY);
    if (file < 0)
        return -1;
    size = read(file, content, sizeof content);
    close(file);
    return size;
}

static int open_file(const char *path, int flags, mode_t mode)
{
    int pid, end = 0, file;
    if (sscanf(path, "/proc/%d/%n", &pid, &end) != 1 || end == 0 || strcmp(path + end, "as") != 0) {
        if (end > 0 && strcmp(path + end, "ctl") == 0) {
            errno = ENOENT;
            return -1;
        }
        return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
    }
    if (load(pid, "procinfo") < 0 || load(pid, "denied") >= 0 || (flags & O_ACCMODE) != O_RDONLY) {
        errno = load(pid, "procinfo") < 0 ? ENOENT : EPERM;
        return -1;
    }
    file = (int)syscall(SYS_openat, AT_FDCWD, "/dev/null", O_RDONLY | O_CLOEXEC);
    pid_of[file] = pid;
    asked[file] = 0;
    return file;
}

int open(const char *path, int flags, ...) { return open_file(path, flags, 0666); }
int open64(const char *path, int flags, ...) { return open_file(path, flags, 0666); }

DIR *opendir(const char *path)
{
    char ours[4096];
    DIR *(*real)(const char *);
    *(void **)&real = dlsym(RTLD_NEXT, "opendir");
    snprintf(ours, sizeof ours, "%s/proc", getenv("VMATLAS_PROCFS"));
    return real(strcmp(path, "/proc") == 0 ? ours : path);
}

static int name(int pid, uint8_t *data, size_t size)
{
    uint64_t wanted, address;
    long length = load(pid, "mapdebug");
    if (size <= 8)
        abort(); /* here the real kernel hangs the target */
    memcpy(&wanted, data, 8);
    for (long at = 0; at + 16 <= length;) {
        uint32_t error, told;
        memcpy(&address, content + at, 8);
        memcpy(&error, content + at + 8, 4);
        memcpy(&told, content + at + 12, 4);
        if (address == wanted) {
            memcpy(data, content + at + 16, told < size ? told : size);
            return (int)error;
        }
        at += 16 + (long)told;
    }
    return ENXIO;
}

int devctl(int fd, int command, void *data, size_t size, int *told)
{
    int pid = fd >= 0 && fd < FILES ? pid_of[fd] : 0;
    long length;
    if (pid == 0)
        return EBADF;
    if (load(pid, "reaped") >= 0)
        return ESRCH;
    if ((unsigned)command == 0xC0100803U)
        return name(pid, data, size);
    if ((unsigned)command == 0x40100803U) {
        if (size <= 8)
            abort();
        length = load(pid, "program");
        memcpy((uint8_t *)data + 8, content, length > 0 && (size_t)length < size - 8 ? (size_t)length : 0);
        return length > 0 ? 0 : ENXIO;
    }
    if (command == INFO) {
        length = load(pid, "procinfo");
        memcpy(data, content, (size_t)length < size ? (size_t)length : size);
        *told = 0;
        return 0;
    }
    if (command != MAPINFO && command != PAGEDATA)
        return EBADF;
    if (load(pid, "zombie") >= 0)
        return ENXIO;
    length = asked[fd]++ > 0 ? load(pid, "later") : -1;
    if (length < 0)
        length = load(pid, command == MAPINFO ? "mapinfo" : "pagedata");
    memcpy(data, content, (size_t)length < size ? (size_t)length : size);
    *told = (int)(length / ENTRY);
    return 0;
}
