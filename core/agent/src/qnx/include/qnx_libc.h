/* QNX Neutrino's C library for x86 (32-bit), as far as the agent uses it: so that it can be built without QNX's own headers.
 * Declarations are ours; numbers and layouts are those of its ABI, with 64-bit file offsets. The other headers of this
 * folder only include this one. Where an SDP is installed, its own headers are used instead. */
#ifndef VMATLAS_QNX_LIBC_H
#define VMATLAS_QNX_LIBC_H

#include <limits.h>
#include <stddef.h>
#include <stdint.h>

typedef int ssize_t, pid_t, uid_t, gid_t;
typedef int64_t off_t;
typedef uint32_t mode_t;

/* ---- errno ---- */

int *__get_errno_ptr(void);
#define errno (*__get_errno_ptr())

#define EPERM 1
#define ENOENT 2
#define ESRCH 3
#define EINTR 4
#define EIO 5
#define ENXIO 6
#define E2BIG 7
#define ENOEXEC 8
#define EBADF 9
#define ECHILD 10
#define EAGAIN 11
#define ENOMEM 12
#define EACCES 13
#define EFAULT 14
#define ENOTBLK 15
#define EBUSY 16
#define EEXIST 17
#define EXDEV 18
#define ENODEV 19
#define ENOTDIR 20
#define EISDIR 21
#define EINVAL 22
#define ENFILE 23
#define EMFILE 24
#define ENOTTY 25
#define ETXTBSY 26
#define EFBIG 27
#define ENOSPC 28
#define ESPIPE 29
#define EROFS 30
#define EMLINK 31
#define EPIPE 32
#define EDOM 33
#define ERANGE 34
#define ENOLCK 46
#define ECANCELED 47
#define ENOTSUP 48
#define EPROTO 71
#define EBADMSG 77
#define ENAMETOOLONG 78
#define EOVERFLOW 79
#define ENOSYS 89
#define ELOOP 90
#define ENOTEMPTY 93
#define ENOTSOCK 238
#define EMSGSIZE 240
#define EPROTONOSUPPORT 243
#define ENOBUFS 255
#define ENOTCONN 257
#define ETIMEDOUT 260

/* ---- strings, processes ---- */

void *memcpy(void *to, const void *from, size_t size);
void *memmove(void *to, const void *from, size_t size);
void *memset(void *to, int value, size_t size);
int memcmp(const void *one, const void *other, size_t size);
void *memchr(const void *bytes, int value, size_t size);
size_t strlen(const char *text);
int strcmp(const char *one, const char *other);
char *strcpy(char *to, const char *from);
char *strrchr(const char *text, int character);
unsigned long strtoul(const char *text, char **end, int base);
void exit(int status) __attribute__((noreturn));
void _exit(int status) __attribute__((noreturn));

pid_t fork(void);
pid_t getpid(void);
pid_t getppid(void);
uid_t geteuid(void);
int setuid(uid_t user);
int setgid(gid_t group);
int setgroups(int count, const gid_t *groups);
int execve(const char *path, char *const *arguments, char *const *environment);
long sysconf(int name);
#define _SC_PAGESIZE 11

#define WNOHANG 0x40
pid_t waitpid(pid_t pid, int *status, int options);

/* ---- files ---- */

#define O_RDONLY 00
#define O_WRONLY 01
#define O_RDWR 02
#define O_APPEND 010
#define O_NONBLOCK 0200
#define O_CREAT 0400
#define O_TRUNC 01000
#define O_EXCL 02000
#define O_NOCTTY 04000
#define O_CLOEXEC 020000
#define F_DUPFD 0
#define F_GETFD 1
#define F_SETFD 2
#define F_GETFL 3
#define F_SETFL 4
#define FD_CLOEXEC 1

int open(const char *path, int flags, ...) __asm__("open64");
int close(int fd);
ssize_t read(int fd, void *bytes, size_t size);
ssize_t write(int fd, const void *bytes, size_t size);
int ftruncate(int fd, off_t size) __asm__("ftruncate64");
int fcntl(int fd, int command, ...);
int dup2(int fd, int wanted);
int pipe(int *ends);
int isatty(int fd);
int unlink(const char *path);
ssize_t readlink(const char *path, char *target, size_t size);
/* The errno value itself is returned, and -1 never. */
int devctl(int fd, int command, void *data, size_t size, int *told);

struct stat {
    uint64_t st_ino;
    off_t st_size;
    uint32_t st_dev, st_rdev;
    uid_t st_uid;
    gid_t st_gid;
    uint32_t st_mtime, st_atime, st_ctime;
    mode_t st_mode;
    uint32_t st_nlink, st_blocksize;
    int32_t st_nblocks;
    uint32_t st_blksize;
    uint64_t st_blocks;
};
typedef char stat_is_72_bytes[sizeof(struct stat) == 72 ? 1 : -1];
int lstat(const char *path, struct stat *found) __asm__("lstat64");

struct dirent {
    uint64_t d_ino;
    off_t d_offset;
    int16_t d_reclen, d_namelen;
    char d_name[1024];
};
typedef char dirent_name_is_at_20[offsetof(struct dirent, d_name) == 20 ? 1 : -1];
typedef struct directory DIR;
DIR *opendir(const char *path);
struct dirent *readdir(DIR *folder) __asm__("readdir64");
int closedir(DIR *folder);

struct pollfd {
    int fd;
    short events, revents;
};
#define POLLIN 0x0005
#define POLLOUT 0x0002
int poll(struct pollfd *waits, unsigned count, int milliseconds);

/* ---- terminals ---- */

typedef unsigned char cc_t;
typedef long speed_t;
typedef unsigned long tcflag_t;
struct termios {
    tcflag_t c_iflag, c_oflag, c_cflag, c_lflag;
    cc_t c_cc[40];
    uint32_t reserved[3];
    speed_t c_ispeed, c_ospeed;
};
#define IGNBRK 0x0001
#define BRKINT 0x0002
#define PARMRK 0x0008
#define INPCK 0x0010
#define ISTRIP 0x0020
#define INLCR 0x0040
#define IGNCR 0x0080
#define ICRNL 0x0100
#define IXON 0x0400
#define IXOFF 0x1000
#define OPOST 0x0001
#define CSIZE 0x0030
#define CS8 0x0030
#define CREAD 0x0080
#define PARENB 0x0100
#define HUPCL 0x0400
#define CLOCAL 0x0800
#define ISIG 0x0001
#define ICANON 0x0002
#define ECHO 0x0008
#define ECHONL 0x0040
#define IEXTEN 0x8000
#define VMIN 16
#define VTIME 17
#define B9600 9600
#define B19200 19200
#define B38400 38400
#define B57600 57600
#define B115200 115200
#define TCSANOW 1
#define TCSADRAIN 2
int tcgetattr(int fd, struct termios *settings);
int tcsetattr(int fd, int when, const struct termios *settings);
int cfsetispeed(struct termios *settings, speed_t speed);
int cfsetospeed(struct termios *settings, speed_t speed);

/* ---- time, the machine ---- */

struct timespec {
    uint32_t tv_sec;
    long tv_nsec;
};
#define CLOCK_MONOTONIC 2
int clock_gettime(int clock, struct timespec *now);

struct utsname {
    char sysname[257], nodename[257], release[257], version[257], machine[257];
};
int uname(struct utsname *names);

/* ---- signals ---- */

typedef int sig_atomic_t;
typedef struct {
    long bits[2];
} sigset_t;
typedef struct {
    int si_signo, si_code, si_errno;
    int si_fltno;
    void *si_fltip;
    void *si_addr;
    int reserved[8];
} siginfo_t;
struct sigaction {
    union {
        void (*sa_handler)(int);
        void (*sa_sigaction)(int, siginfo_t *, void *);
    };
    int sa_flags;
    sigset_t sa_mask;
};
#define SIG_DFL ((void (*)(int))0)
#define SIG_IGN ((void (*)(int))1)
#define SA_SIGINFO 2
#define SIGHUP 1
#define SIGINT 2
#define SIGKILL 9
#define SIGBUS 10
#define SIGSEGV 11
#define SIGPIPE 13
#define SIGTERM 15
int sigaction(int number, const struct sigaction *wanted, struct sigaction *was);
void (*signal(int number, void (*handler)(int)))(int);
int raise(int number);
int kill(pid_t pid, int number);

/* 13 words of registers, a flag and the mask; some room more, since only the library looks inside. */
typedef struct {
    uint32_t words[24];
} sigjmp_buf[1];
void __sigjmp_prolog(sigjmp_buf place, int with_mask);
int _setjmp(sigjmp_buf place) __attribute__((returns_twice));
void siglongjmp(sigjmp_buf place, int value) __attribute__((noreturn));
#define sigsetjmp(place, with_mask) (__sigjmp_prolog((place), (with_mask)), _setjmp(place))

/* ---- memory ---- */

#define PROT_NONE 0
#define PROT_READ 0x100
#define PROT_WRITE 0x200
#define PROT_EXEC 0x400
#define MAP_SHARED 0x1
#define MAP_PRIVATE 0x2
#define MAP_FIXED 0x10
#define MAP_LAZY 0x80
#define MAP_STACK 0x1000
#define MAP_ANON 0x80000
#define MAP_FAILED ((void *)-1)
#define MCL_CURRENT 1
#define MCL_FUTURE 2
void *mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset) __asm__("mmap64");
int munmap(void *address, size_t length);
int mprotect(void *address, size_t length, int protection);
int mlock(const void *address, size_t length);
#define MS_ASYNC 1
#define MS_SYNC 2
#define MS_INVALIDATE 4
int msync(void *address, size_t length, int flags);
int munlock(const void *address, size_t length);
int mlockall(int flags);
int munlockall(void);
int shm_open(const char *name, int flags, mode_t mode);
int shm_unlink(const char *name);

#endif
