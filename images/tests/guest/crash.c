/* A program that dies in the way that the file "cause" in its folder names, and leaves there what is true of it just before: its map in "maps",
 * and in "told" the address that it is about to touch and the thread that does. Built by tests/test_crashes.py for each guest. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

/* musl's clone without its check of flags: (function, top of the stack, flags, argument). */
int __clone(int (*)(void *), void *, int, void *, ...);

enum { STACK = 256 << 10 };

static size_t page;
static char cause[32];
static const volatile int constant = 1;

static void check(int is_well)
{
    if (!is_well)
        _exit(3);
}

static char *map(size_t size, int rights, int flags, int file)
{
    char *at = mmap(NULL, size, rights, flags, file, 0);
    check(at != MAP_FAILED);
    return at;
}

static char *number(char *to, unsigned long value)
{
    char digits[2 * sizeof value];
    size_t count = 0;
    do
        digits[count++] = "0123456789abcdef"[value & 15];
    while ((value >>= 4) != 0);
    while (count > 0)
        *to++ = digits[--count];
    return to;
}

/* What is true now, in hexadecimal; nothing is mapped or unmapped after it. */
static void tell(const volatile void *address)
{
    static char bytes[1 << 16];
    char line[64], *end = number(line, (unsigned long)(uintptr_t)address);
    int from, to;
    ssize_t size;
    *end++ = ' ';
    end = number(end, (unsigned long)syscall(SYS_gettid));
    to = open("told", O_WRONLY | O_CREAT | O_TRUNC, 0644);
    check(write(to, line, (size_t)(end - line)) == end - line && close(to) == 0);
    from = open("/proc/self/maps", O_RDONLY);
    to = open("maps", O_WRONLY | O_CREAT | O_TRUNC, 0644);
    while ((size = read(from, bytes, sizeof bytes)) > 0)
        check(write(to, bytes, (size_t)size) == size);
    check(size == 0 && close(from) == 0 && close(to) == 0);
}

static void put(volatile char *at)
{
    tell(at);
    *at = 1;
}

__attribute__((noinline)) static unsigned long deeper(unsigned long depth)
{
    volatile char room[256];
    room[depth % sizeof room] = 1;
    return deeper(depth + 1) + (unsigned long)room[0];
}

static void jump(void *to)
{
    tell(to);
    ((void (*)(void))(uintptr_t)to)();
}

static void misalign(char *at)
{
#if defined(__aarch64__)
    uint64_t value;
    tell(at + 1);
    __asm__ volatile("ldaxr %0, [%1]" : "=r"(value) : "r"(at + 1) : "memory");
#elif defined(__s390x__)
    tell(at + 1);
    __asm__ volatile("lpq 0, 0(%0)" : : "a"(at + 1) : "r0", "r1", "memory");
#elif defined(__i386__) || defined(__x86_64__)
    tell(at + 1);
    __asm__ volatile("movaps (%0), %%xmm0" : : "r"(at + 1) : "xmm0", "memory");
#endif
}

static int die(void *unused)
{
    size_t used = 4 * page;
    const char *how = strncmp(cause, "thread-", 7) == 0 ? cause + 7 : cause;
    char *data = map(used, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    (void)unused;
    if (strcmp(how, "null") == 0) {
        put((volatile char *)(uintptr_t)24);
    } else if (strcmp(how, "stack") == 0) {
        tell(NULL);
        (void)deeper(0);
    } else if (strcmp(how, "guard") == 0) {
        check(syscall(SYS_mprotect, data + page, page, PROT_NONE) == 0);
        put(data + page + 8);
    } else if (strcmp(how, "unmapped") == 0) {
        check(munmap(data + page, page) == 0);
        put(data + page + 16);
    } else if (strcmp(how, "write-code") == 0) {
        put((volatile char *)(uintptr_t)die);
    } else if (strcmp(how, "write-constant") == 0) {
        put((volatile char *)(uintptr_t)&constant);
    } else if (strcmp(how, "jump") == 0) {
        jump(data + 64);
    } else if (strcmp(how, "misaligned") == 0) {
        misalign(data);
    } else if (strcmp(how, "file-end") == 0) {
        int file = open("file", O_RDWR | O_CREAT | O_TRUNC, 0644);
        check(ftruncate(file, (off_t)used) == 0);
        data = map(used, PROT_READ | PROT_WRITE, MAP_SHARED, file);
        check(ftruncate(file, (off_t)page) == 0);
        put(data + 2 * page + 32);
    } else if (strcmp(how, "abort") == 0) {
        tell(NULL);
        (void)syscall(SYS_tkill, syscall(SYS_gettid), SIGABRT);
    }
    _exit(4);
}

/* One of each kind of memory, so that there is a map to compare. */
static void lay_out(void)
{
    int own = open("/proc/self/exe", O_RDONLY), memory = (int)syscall(SYS_memfd_create, "zoo memory", 0);
    (void)map(page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    (void)map(2 * page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    (void)map(3 * page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1);
    (void)map(2 * page, PROT_READ | PROT_EXEC, MAP_PRIVATE, own);
    (void)map(page, PROT_READ, MAP_SHARED, own);
    check(own >= 0 && memory >= 0 && ftruncate(memory, (off_t)(2 * page)) == 0);
    (void)map(2 * page, PROT_READ | PROT_WRITE, MAP_SHARED, memory);
    (void)map(page, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1);
}

/* As a C library lays it out: a guard, and the stack above. */
static void in_a_thread(void)
{
    int flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;
    char *low = map(page + STACK, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    check(syscall(SYS_mprotect, low + page, (size_t)STACK, PROT_READ | PROT_WRITE) == 0);
    check(__clone(die, low + page + STACK, flags, NULL) > 0);
    for (;;)
        (void)poll(NULL, 0, -1);
}

/* Of a resource so much, or what is allowed. */
static void limit(int resource, rlim_t wanted)
{
    struct rlimit limits;
    check(syscall(SYS_prlimit64, 0, resource, NULL, &limits) == 0);
    limits.rlim_cur = wanted < limits.rlim_max ? wanted : limits.rlim_max;
    check(syscall(SYS_prlimit64, 0, resource, &limits, NULL) == 0);
}

int main(void)
{
    int file = open("cause", O_RDONLY);
    page = (size_t)getauxval(AT_PAGESZ);
    check(file >= 0 && read(file, cause, sizeof cause - 1) > 0 && close(file) == 0);
    limit(RLIMIT_CORE, RLIM_INFINITY);
    limit(RLIMIT_STACK, STACK);
    lay_out();
    if (strncmp(cause, "thread-", 7) == 0)
        in_a_thread();
    return die(NULL);
}
