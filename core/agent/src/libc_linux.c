/* What the agent needs of a C library for Linux besides the files of musl that targets.py names: strings, numbers, a
 * little memory, and system calls that need no more than to be made. All of it is for one thread. Built together with
 * those files, freestanding: a loop here is not taken for a call of the function that it is the body of. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <fcntl.h>
#include <grp.h>
#include <unistd.h>

pid_t _Fork(void);
int setrlimit(int what, const void *limits); /* C libraries say it in several ways */

typedef uint64_t __attribute__((may_alias, aligned(1))) word;

void *memcpy(void *restrict to, const void *restrict from, size_t size)
{
    unsigned char *t = to;
    const unsigned char *f = from;

    for (; size >= sizeof(word); size -= sizeof(word), t += sizeof(word), f += sizeof(word))
        *(word *)t = *(const word *)f;
    while (size-- > 0)
        *t++ = *f++;
    return to;
}

void *memmove(void *to, const void *from, size_t size)
{
    unsigned char *t = to;
    const unsigned char *f = from;

    if ((uintptr_t)t - (uintptr_t)f >= size)
        return memcpy(to, from, size);
    while (size-- > 0)
        t[size] = f[size];
    return to;
}

void *memset(void *at, int byte, size_t size)
{
    unsigned char *a = at;
    const word many = 0x0101010101010101u * (unsigned char)byte;

    for (; size >= sizeof(word); size -= sizeof(word), a += sizeof(word))
        *(word *)a = many;
    while (size-- > 0)
        *a++ = (unsigned char)byte;
    return at;
}

int memcmp(const void *one, const void *other, size_t size)
{
    const unsigned char *a = one, *b = other;

    for (; size > 0; size--, a++, b++)
        if (*a != *b)
            return *a - *b;
    return 0;
}

int bcmp(const void *one, const void *other, size_t size)
{
    return memcmp(one, other, size);
}

void *memchr(const void *at, int byte, size_t size)
{
    for (const unsigned char *a = at; size > 0; size--, a++)
        if (*a == (unsigned char)byte)
            return (void *)(uintptr_t)a;
    return NULL;
}

size_t strlen(const char *text)
{
    size_t length = 0;

    while (text[length] != '\0')
        length++;
    return length;
}

char *__strchrnul(const char *text, int wanted)
{
    while (*text != '\0' && *text != (char)wanted)
        text++;
    return (char *)(uintptr_t)text;
}

char *strchr(const char *text, int wanted)
{
    char *found = __strchrnul(text, wanted);

    return *found == (char)wanted ? found : NULL;
}

char *strrchr(const char *text, int wanted)
{
    for (size_t at = strlen(text) + 1; at-- > 0;)
        if (text[at] == (char)wanted)
            return (char *)(uintptr_t)(text + at);
    return NULL;
}

int strncmp(const char *one, const char *other, size_t most)
{
    for (; most > 0; most--, one++, other++)
        if (*one != *other || *one == '\0')
            return (unsigned char)*one - (unsigned char)*other;
    return 0;
}

int strcmp(const char *one, const char *other)
{
    return strncmp(one, other, SIZE_MAX);
}

char *strcpy(char *restrict to, const char *restrict from)
{
    return memcpy(to, from, strlen(from) + 1);
}

size_t strspn(const char *text, const char *of)
{
    size_t length = 0;

    while (text[length] != '\0' && strchr(of, text[length]) != NULL)
        length++;
    return length;
}

size_t strcspn(const char *text, const char *none)
{
    size_t length = 0;

    while (text[length] != '\0' && strchr(none, text[length]) == NULL)
        length++;
    return length;
}

char *strstr(const char *text, const char *wanted)
{
    const size_t length = strlen(wanted);

    for (;; text++) {
        if (strncmp(text, wanted, length) == 0)
            return (char *)(uintptr_t)text;
        if (*text == '\0')
            return NULL;
    }
}

char *strtok_r(char *restrict text, const char *restrict between, char **restrict rest)
{
    char *end;

    text = text != NULL ? text : *rest;
    text += strspn(text, between);
    if (*text == '\0') {
        *rest = text;
        return NULL;
    }
    end = text + strcspn(text, between);
    *rest = *end == '\0' ? end : end + 1;
    *end = '\0';
    return text;
}

/* Decimal alone: nobody here asks for another base. */
static unsigned long long number(const char *text, char **end, unsigned long long most)
{
    const char *at = text;
    unsigned long long value = 0;
    int is_negative;

    while (*at == ' ' || (*at >= '\t' && *at <= '\r'))
        at++;
    is_negative = *at == '-';
    at += *at == '-' || *at == '+';
    if (*at >= '0' && *at <= '9')
        text = at;
    for (; *text >= '0' && *text <= '9'; text++) {
        const unsigned digit = (unsigned)(*text - '0');
        if (value <= (most - digit) / 10) {
            value = value * 10 + digit;
        } else {
            errno = ERANGE;
            value = most;
            is_negative = 0;
        }
    }
    if (end != NULL)
        *end = (char *)(uintptr_t)text;
    return is_negative ? 0 - value : value;
}

unsigned long strtoul(const char *restrict text, char **restrict end, int base)
{
    (void)base;
    return (unsigned long)number(text, end, ~0ul);
}

unsigned long long strtoull(const char *restrict text, char **restrict end, int base)
{
    (void)base;
    return number(text, end, ~0ull);
}

/* Memory is asked for by opendir alone: a mapping each, whose size stands before it. */
void *calloc(size_t count, size_t size)
{
    size_t *made;

    if (size != 0 && count > (SIZE_MAX - 64) / size) {
        errno = ENOMEM;
        return NULL;
    }
    made = mmap(NULL, count * size + 64, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (made == MAP_FAILED)
        return NULL;
    *made = count * size + 64;
    return (char *)made + 64;
}

void free(void *at)
{
    const int before = errno;

    if (at != NULL) {
        size_t *made = (size_t *)((char *)at - 64);
        (void)munmap(made, *made);
    }
    errno = before;
}

/* The calls whose numbers differ: 16-bit ids of old on processors of 32 bits, and what newer processors never had. */
#ifdef SYS_setuid32
#define IDS(name) SYS_##name##32
#else
#define IDS(name) SYS_##name
#endif

uid_t geteuid(void)
{
    return (uid_t)syscall(IDS(geteuid));
}

int setuid(uid_t user)
{
    return (int)syscall(IDS(setuid), user);
}

int setgid(gid_t group)
{
    return (int)syscall(IDS(setgid), group);
}

int setgroups(size_t count, const gid_t *groups)
{
    return (int)syscall(IDS(setgroups), count, groups);
}

int pipe(int ends[2])
{
    return (int)syscall(SYS_pipe2, ends, 0);
}

int dup(int from)
{
    return (int)syscall(SYS_dup, from);
}

int dup2(int from, int to)
{
    if (from == to)
        return fcntl(from, F_GETFD) < 0 ? -1 : to;
    return (int)syscall(SYS_dup3, from, to, 0);
}

int close(int descriptor)
{
    return (int)syscall(SYS_close, descriptor);
}

int unlink(const char *path)
{
    return (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
}

int execve(const char *path, char *const arguments[], char *const environment[])
{
    return (int)syscall(SYS_execve, path, arguments, environment);
}

pid_t fork(void)
{
    return _Fork(); /* there are no threads and no handlers to see to */
}

int setrlimit(int what, const void *limits)
{
    return (int)syscall(SYS_prlimit64, 0, what, limits, NULL);
}

pid_t getpid(void)
{
    return (pid_t)syscall(SYS_getpid);
}

pid_t getppid(void)
{
    return (pid_t)syscall(SYS_getppid);
}

int mlock(const void *at, size_t size)
{
    return (int)syscall(SYS_mlock, at, size);
}

int munlock(const void *at, size_t size)
{
    return (int)syscall(SYS_munlock, at, size);
}

int munlockall(void)
{
    return (int)syscall(SYS_munlockall);
}

int reboot(int how)
{
    return (int)syscall(SYS_reboot, 0xfee1dead, 672274793, how, NULL);
}

void sync(void)
{
    (void)syscall(SYS_sync);
}

int uname(struct utsname *told)
{
    return (int)syscall(SYS_uname, told);
}

_Noreturn void _exit(int status)
{
    _Exit(status);
}

long sysconf(int what)
{
    if (what == _SC_PAGESIZE)
        return (long)getauxval(AT_PAGESZ);
    if (what == _SC_CLK_TCK)
        return (long)getauxval(AT_CLKTCK);
    errno = EINVAL;
    return -1;
}

#if UINTPTR_MAX == UINT32_MAX || defined(WITH_DIVISION)
/* Division of what is wider than the processor divides, for which compilers call these. */
uint64_t vmatlas_divide(uint64_t number, uint64_t by, uint64_t *rest);
uint64_t __udivdi3(uint64_t number, uint64_t by);
uint64_t __umoddi3(uint64_t number, uint64_t by);
int64_t __divdi3(int64_t number, int64_t by);

uint64_t vmatlas_divide(uint64_t number, uint64_t by, uint64_t *rest)
{
    uint64_t quotient = 0, left = 0;

    for (int bit = 63; bit >= 0; bit--) {
        const int carries = (int)(left >> 63);
        left = left << 1 | (number >> bit & 1);
        if (carries || left >= by) {
            left -= by;
            quotient |= (uint64_t)1 << bit;
        }
    }
    *rest = left;
    return quotient;
}

uint64_t __udivdi3(uint64_t number, uint64_t by)
{
    uint64_t rest;

    return vmatlas_divide(number, by, &rest);
}

uint64_t __umoddi3(uint64_t number, uint64_t by)
{
    uint64_t rest;

    (void)vmatlas_divide(number, by, &rest);
    return rest;
}

int64_t __divdi3(int64_t number, int64_t by)
{
    const uint64_t n = number < 0 ? 0 - (uint64_t)number : (uint64_t)number;
    const uint64_t b = by < 0 ? 0 - (uint64_t)by : (uint64_t)by;
    const uint64_t quotient = __udivdi3(n, b);

    return (int64_t)((number < 0) != (by < 0) ? 0 - quotient : quotient);
}
#endif

#if defined(__arm__)
/* The same by the names, and in the registers, of ARM's run-time ABI (IHI 0043). */
unsigned __aeabi_uidiv(unsigned number, unsigned by);
uint64_t __aeabi_uidivmod(unsigned number, unsigned by);
void __aeabi_uldivmod(void);

unsigned __aeabi_uidiv(unsigned number, unsigned by)
{
    unsigned quotient = 0, left = 0;

    for (int bit = 31; bit >= 0; bit--) {
        const int carries = (int)(left >> 31);
        left = left << 1 | (number >> bit & 1);
        if (carries || left >= by) {
            left -= by;
            quotient |= 1u << bit;
        }
    }
    return quotient;
}

uint64_t __aeabi_uidivmod(unsigned number, unsigned by)
{
    const unsigned quotient = __aeabi_uidiv(number, by);

    return (uint64_t)(number - quotient * by) << 32 | quotient;
}

/* The quotient in r0 and r1, the rest in r2 and r3. */
__attribute__((naked)) void __aeabi_uldivmod(void)
{
    __asm__(
        "push {r4, lr}\n"
        "sub sp, sp, #16\n"
        "add r4, sp, #8\n"
        "str r4, [sp]\n"
        "bl vmatlas_divide\n"
        "ldr r2, [sp, #8]\n"
        "ldr r3, [sp, #12]\n"
        "add sp, sp, #16\n"
        "pop {r4, pc}\n"
    );
}
#endif
