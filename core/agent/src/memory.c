/* The agent's own memory: what tests make their layouts of. Values and errno are those of the call. */
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Sanitizers look at each access before it happens; here the point is to let it happen. */
#if defined(__GNUC__) || defined(__clang__)
#define UNCHECKED __attribute__((no_sanitize("address", "undefined")))
#else
#define UNCHECKED
#endif

enum { PROTECTION_READ = 1, PROTECTION_WRITE = 2, PROTECTION_EXECUTE = 4 };
enum { OBJECT_NONE = 0, OBJECT_FILE = 1, OBJECT_MEMORY = 2, OBJECT_SHARED_MEMORY = 3, OBJECT_SYSTEM_V = 4 };

static void *pointer_to(uintptr_t address) { return (void *)address; } /* a number from outside becomes a place in memory */

static int native_protection(uint32_t bits)
{
    return ((bits & PROTECTION_READ) ? PROT_READ : 0) | ((bits & PROTECTION_WRITE) ? PROT_WRITE : 0) |
           ((bits & PROTECTION_EXECUTE) ? PROT_EXEC : 0);
}

static void answer_call(struct answer *answer, int64_t value)
{
    answer_result(answer, value, value == -1 ? errno : 0, 0);
}

static void answer_address(struct answer *answer, const void *address)
{
    int failed = address == MAP_FAILED;
    int error = failed ? errno : 0;
    answer_result(answer, failed ? -1 : (int64_t)(uint64_t)(uintptr_t)address, error, 0);
}

/* ---- faults ---- */

static sigjmp_buf fault_return;
static volatile sig_atomic_t guarded;
static void *volatile fault_address;

static void on_fault(int number, siginfo_t *info, void *context)
{
    (void)context;
    if (!guarded) {
        (void)signal(number, SIG_DFL);
        (void)raise(number);
        return;
    }
    fault_address = info->si_addr;
    siglongjmp(fault_return, 1);
}

void catch_faults(void)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO;
    (void)sigaction(SIGSEGV, &action, NULL);
    (void)sigaction(SIGBUS, &action, NULL);
}

/* Reads, or writes `value` to, one byte in each page of the range. Returns the pages done; -1 after a fault. */
UNCHECKED static int64_t touch_pages(uintptr_t address, size_t length, int write, uint8_t value)
{
    static volatile int64_t done;
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    done = 0;
    if (sigsetjmp(fault_return, 1) != 0) {
        guarded = 0;
        return -1;
    }
    guarded = 1;
    for (size_t at = 0; at < length; at += page - (address + at) % page) {
        volatile uint8_t *byte = pointer_to(address + at);
        if (write)
            *byte = value;
        else
            (void)*byte;
        done = done + 1;
    }
    guarded = 0;
    return done;
}

UNCHECKED static int copy_guarded(uintptr_t to, uintptr_t from, size_t size)
{
    volatile uint8_t *target = pointer_to(to);
    const volatile uint8_t *origin = pointer_to(from);
    if (sigsetjmp(fault_return, 1) != 0) {
        guarded = 0;
        return -1;
    }
    guarded = 1;
    for (size_t i = 0; i < size; i++)
        target[i] = origin[i];
    guarded = 0;
    return 0;
}

static int wraps(uintptr_t address, size_t length) { return length > 0 && address > UINTPTR_MAX - (length - 1); }

static void touch(struct reader *reader, struct answer *answer)
{
    uintptr_t address = take_address(reader);
    size_t length = take_size(reader);
    int write = take_u8(reader);
    uint8_t value = take_u8(reader);
    int64_t done;
    if (wraps(address, length))
        reader->bad = 1;
    if (!reader_holds(reader, answer))
        return;
    done = touch_pages(address, length, write, value);
    answer_result(answer, done, done < 0 ? EFAULT : 0, done < 0 ? (uint64_t)(uintptr_t)fault_address : 0);
}

static void peek(struct reader *reader, struct answer *answer)
{
    static uint8_t bytes[16384];
    uintptr_t address = take_address(reader);
    size_t left = take_u32(reader);
    if (wraps(address, left))
        reader->bad = 1;
    if (!reader_holds(reader, answer))
        return;
    while (left > 0) {
        size_t chunk = left < sizeof bytes ? left : sizeof bytes;
        int error;
        if (copy_guarded((uintptr_t)bytes, address, chunk) != 0) {
            answer_error(answer, ORIGIN_KERNEL, EFAULT, "reading memory");
            return;
        }
        error = answer_put(answer, "memory", 0, bytes, chunk);
        if (error != 0) {
            answer_error(answer, ORIGIN_AGENT, error, "another request came");
            return;
        }
        address += chunk;
        left -= chunk;
    }
    answer_end(answer, NULL, 0);
}

static void poke(struct reader *reader, struct answer *answer)
{
    uintptr_t address = take_address(reader);
    size_t size = (size_t)(reader->end - reader->at);
    int failed;
    if (wraps(address, size))
        reader->bad = 1;
    if (!reader_holds(reader, answer))
        return;
    failed = copy_guarded(address, (uintptr_t)reader->at, size);
    answer_result(answer, failed ? -1 : (int64_t)size, failed ? EFAULT : 0,
                  failed ? (uint64_t)(uintptr_t)fault_address : 0);
}

/* ---- mapping ---- */

/* A POSIX shared memory object of its own that only the mapping keeps alive; with `name` as the name it had. */
static int open_shared_memory(const char *name)
{
    int fd = shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
    if (fd >= 0)
        (void)shm_unlink(name);
    return fd;
}

static int open_object(uint8_t object, const char *name, int to_write, uint64_t size)
{
    int fd;
    switch (object) {
    case OBJECT_FILE:
        do
            fd = open(name, (to_write ? O_RDWR : O_RDONLY) | O_CLOEXEC);
        while (fd < 0 && errno == EINTR);
        return fd;
    case OBJECT_MEMORY:
        fd = system_open_memory(name);
        break;
    case OBJECT_SHARED_MEMORY:
        fd = open_shared_memory(name);
        break;
    default:
        errno = EINVAL;
        return -1;
    }
    if (fd >= 0 && ftruncate(fd, (off_t)size) != 0) {
        int error = errno;
        (void)close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

static void map(struct reader *reader, struct answer *answer)
{
    static char name[TEXT_ROOM];
    uintptr_t address = take_address(reader);
    size_t length = take_size(reader);
    uint32_t protection = take_u32(reader), flags = take_u32(reader), system_flags = take_u32(reader);
    uint8_t object = take_u8(reader);
    uint64_t offset = take_u64(reader);
    int native = system_map_flags(flags), to_write, fd = -1;
    void *mapped;

    take_text16(reader, name, sizeof name);
    if (offset > INT64_MAX || length > INT64_MAX - offset || (uint64_t)(off_t)offset != offset)
        reader->bad = 1;
    if (!reader_holds(reader, answer))
        return;
    if (native < 0) {
        answer_error(answer, ORIGIN_AGENT, ENOTSUP, "a flag of mmap that this system lacks");
        return;
    }
    to_write = (flags & MAP_FLAG_SHARED) != 0 && (protection & PROTECTION_WRITE) != 0;
    if (object == OBJECT_SYSTEM_V) {
        answer_address(answer, system_attach(pointer_to(address), length, (protection & PROTECTION_WRITE) != 0));
        return;
    }
    if (object == OBJECT_NONE) {
        native |= MAP_ANON;
    } else {
        fd = open_object(object, name, to_write, offset + length);
        if (fd < 0) {
            answer_result(answer, -1, errno, 0);
            return;
        }
    }
    mapped = mmap(pointer_to(address), length, native_protection(protection), native | (int)system_flags, fd, (off_t)offset);
    if (fd >= 0) {
        int error = errno;
        (void)close(fd);
        errno = error;
    }
    answer_address(answer, mapped);
}

static void unmap(struct reader *reader, struct answer *answer)
{
    uintptr_t address = take_address(reader);
    size_t length = take_size(reader);
    if (reader_holds(reader, answer))
        answer_call(answer, munmap(pointer_to(address), length));
}

static void protect(struct reader *reader, struct answer *answer)
{
    uintptr_t address = take_address(reader);
    size_t length = take_size(reader);
    uint32_t protection = take_u32(reader);
    if (reader_holds(reader, answer))
        answer_call(answer, system_protect(pointer_to(address), length, native_protection(protection)));
}

/* Many regions by one request: protects `size` bytes at every `step` of the range. */
static void protect_every(struct reader *reader, struct answer *answer)
{
    uintptr_t address = take_address(reader);
    size_t length = take_size(reader), step = take_size(reader), size = take_size(reader);
    uint32_t protection = take_u32(reader);
    int64_t done = 0;
    if (wraps(address, length) || step == 0 || size > step)
        reader->bad = 1;
    if (!reader_holds(reader, answer))
        return;
    for (size_t at = 0; length - at >= size; at += step) {
        if (system_protect(pointer_to(address + at), size, native_protection(protection)) != 0) {
            answer_result(answer, -1, errno, address + at);
            return;
        }
        done++;
        if (length - at <= step)
            break;
    }
    answer_result(answer, done, 0, 0);
}

static void lock(struct reader *reader, struct answer *answer)
{
    uintptr_t address = take_address(reader);
    size_t length = take_size(reader);
    uint32_t flags = take_u32(reader);
    if (!reader_holds(reader, answer))
        return;
    answer_call(answer, (flags & 1U) ? system_lock_on_fault(pointer_to(address), length)
                                     : mlock(pointer_to(address), length));
}

static void unlock(struct reader *reader, struct answer *answer)
{
    uintptr_t address = take_address(reader);
    size_t length = take_size(reader);
    if (reader_holds(reader, answer))
        answer_call(answer, munlock(pointer_to(address), length));
}

static void lock_all(struct reader *reader, struct answer *answer)
{
    uint32_t flags = take_u32(reader);
    if (reader_holds(reader, answer))
        answer_call(answer, flags == 0 ? munlockall() : system_lock_all(flags));
}

static void advise(struct reader *reader, struct answer *answer)
{
    uintptr_t address = take_address(reader);
    size_t length = take_size(reader);
    uint32_t advice = take_u32(reader);
    if (reader_holds(reader, answer))
        answer_call(answer, system_advise(pointer_to(address), length, (int)advice));
}

static void move(struct reader *reader, struct answer *answer)
{
    uintptr_t address = take_address(reader), to;
    size_t size = take_size(reader), new_size = take_size(reader);
    uint32_t flags = take_u32(reader);
    to = take_address(reader);
    if (reader_holds(reader, answer))
        answer_address(answer, system_move(pointer_to(address), size, new_size, (int)flags, pointer_to(to)));
}

static void name_range(struct reader *reader, struct answer *answer)
{
    char name[256];
    uintptr_t address = take_address(reader);
    size_t length = take_size(reader);
    take_text8(reader, name, sizeof name);
    if (reader_holds(reader, answer))
        answer_call(answer, system_name(pointer_to(address), length, name));
}

const struct operation memory_operations[] = {
    {16, 1, "map", map},
    {17, 1, "unmap", unmap},
    {18, 1, "protect", protect},
    {28, 1, "protect_every", protect_every},
    {19, 1, "lock", lock},
    {20, 1, "unlock", unlock},
    {21, 1, "advise", advise},
    {22, 1, "move", move},
    {23, 1, "touch", touch},
    {24, 1, "name", name_range},
    {25, 0, "peek", peek},
    {26, 1, "poke", poke},
    {27, 1, "lock_all", lock_all},
    {0, 0, NULL, NULL},
};
