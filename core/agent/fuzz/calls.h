/* Put in front of each of the agent's files by the compiler: what they ask of the system is asked of kernel.c instead. */
#ifndef VMATLAS_FUZZ_CALLS_H
#define VMATLAS_FUZZ_CALLS_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

ssize_t fuzz_read(int fd, void *bytes, size_t size);
ssize_t fuzz_pread(int fd, void *bytes, size_t size);
ssize_t fuzz_write(int fd, const void *bytes, size_t size);
int fuzz_poll(struct pollfd *waits, nfds_t count, int limit_ms);
int fuzz_clock_gettime(clockid_t clock, struct timespec *now);
int fuzz_open(void);      /* a descriptor, or -1 with errno */
long fuzz_done(void);     /* 0, or -1 with errno */
void *fuzz_address(void); /* one that is nobody's, or MAP_FAILED with errno */
int fuzz_pipe(int *ends);
pid_t fuzz_fork(void);
pid_t fuzz_waitpid(pid_t pid, int *status);
ssize_t fuzz_readlink(const char *path, char *link, size_t size);
int fuzz_stat(struct stat *found);
DIR *fuzz_opendir(void);
struct dirent *fuzz_readdir(void);
long fuzz_system_call(long number, ...);

#ifndef VMATLAS_FUZZ_KERNEL
#define read(fd, bytes, size) fuzz_read((fd), (bytes), (size))
#define pread(fd, bytes, size, offset) ((void)(offset), fuzz_pread((fd), (bytes), (size)))
#define write(fd, bytes, size) fuzz_write((fd), (bytes), (size))
#define poll(waits, count, limit) fuzz_poll((waits), (count), (limit))
#define clock_gettime(clock, now) fuzz_clock_gettime((clock), (now))
#define open(...) fuzz_open()
#define openat(...) fuzz_open()
#define shm_open(...) fuzz_open()
#define shmget(...) fuzz_open()
#define close(fd) ((void)(fd), (int)fuzz_done())
#define lseek(...) fuzz_done()
#define unlink(path) ((int)fuzz_done())
#define shm_unlink(name) ((int)fuzz_done())
#define ftruncate(fd, size) ((int)fuzz_done())
#define munmap(address, size) ((void)(address), (int)fuzz_done())
#define msync(address, size, flags) ((void)(address), (int)fuzz_done())
#define mlock(address, size) ((void)(address), (int)fuzz_done())
#define munlock(address, size) ((void)(address), (int)fuzz_done())
#define munlockall() ((int)fuzz_done())
#define shmctl(...) ((int)fuzz_done())
#define kill(pid, number) ((int)fuzz_done())
#define fcntl(...) ((int)fuzz_done())
#define prctl(...) ((int)fuzz_done())
#define setgroups(...) ((int)fuzz_done())
#define setgid(group) ((int)fuzz_done())
#define setuid(user) ((int)fuzz_done())
#define setrlimit(resource, limit) ((void)(limit), (int)fuzz_done())
#define mmap(...) fuzz_address()
#define shmat(...) fuzz_address()
#define pipe(ends) fuzz_pipe(ends)
#define fork() fuzz_fork()
#define waitpid(pid, status, options) fuzz_waitpid((pid), (status))
#define readlink(path, link, size) fuzz_readlink((path), (link), (size))
#define readlinkat(folder, path, link, size) fuzz_readlink((path), (link), (size))
#define fstat(fd, found) fuzz_stat(found)
#define lstat(path, found) fuzz_stat(found)
#define stat(path, found) fuzz_stat(found)
#define opendir(path) fuzz_opendir()
#define readdir(folder) fuzz_readdir()
#define closedir(folder) ((int)fuzz_done())
#define syscall(...) fuzz_system_call(__VA_ARGS__)
#endif

#endif
