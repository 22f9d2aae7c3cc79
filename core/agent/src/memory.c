#include "memory.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "system.h"

enum { PROTECTION_READ = 1, PROTECTION_WRITE = 2, PROTECTION_EXECUTE = 4 };
enum { OBJECT_NONE = 0, OBJECT_FILE = 1, OBJECT_MEMORY = 2, OBJECT_SHARED_MEMORY = 3, OBJECT_SYSTEM_V = 4 };

static void *pointer_to(uintptr_t address) { return (void *)address; } /* a number from outside becomes a place in memory */

static int native_protection(uint32_t bits)
{
    return ((bits & PROTECTION_READ) ? PROT_READ : 0) | ((bits & PROTECTION_WRITE) ? PROT_WRITE : 0) |
           ((bits & PROTECTION_EXECUTE) ? PROT_EXEC : 0);
}

static void answer_address(struct answer *answer, const void *address)
{
    int failed = address == MAP_FAILED;
    int error = failed ? errno : 0;
    answer_result(answer, failed ? -1 : (int64_t)(uint64_t)(uintptr_t)address, error, 0);
}

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

void do_map(struct reader *reader, struct answer *answer)
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
    native |= (int)system_flags;
#ifdef MAP_GUARD
    if ((native & MAP_GUARD) != 0)
        native &= ~(MAP_PRIVATE | MAP_ANON); /* beside them it is EINVAL (mmap(2) of FreeBSD) */
#endif
    mapped = mmap(pointer_to(address), length, native_protection(protection), native, fd, (off_t)offset);
    if (fd >= 0) {
        int error = errno;
        (void)close(fd);
        errno = error;
    }
    answer_address(answer, mapped);
}

void do_unmap(struct reader *reader, struct answer *answer)
{
    uintptr_t address = take_address(reader);
    size_t length = take_size(reader);
    if (reader_holds(reader, answer))
        answer_call(answer, munmap(pointer_to(address), length));
}

void do_protect(struct reader *reader, struct answer *answer)
{
    uintptr_t address = take_address(reader);
    size_t length = take_size(reader);
    uint32_t protection = take_u32(reader);
    if (reader_holds(reader, answer))
        answer_call(answer, system_protect(pointer_to(address), length, native_protection(protection)));
}

/* Many regions by one request: protects `size` bytes at every `step` of the range. There may be more than anyone waits for. */
void do_protect_every(struct reader *reader, struct answer *answer)
{
    uintptr_t address = take_address(reader);
    size_t length = take_size(reader), step = take_size(reader), size = take_size(reader);
    uint32_t protection = take_u32(reader);
    enum { BETWEEN_LOOKS = 4096 };
    int64_t done = 0;
    refuse_wrapping(reader, address, length);
    if (step == 0 || size > step)
        reader->bad = 1;
    if (!reader_holds(reader, answer))
        return;
    for (size_t at = 0; length - at >= size; at += step) {
        if (done % BETWEEN_LOOKS == BETWEEN_LOOKS - 1 && answer_interrupted(answer))
            return;
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

void do_lock(struct reader *reader, struct answer *answer)
{
    uintptr_t address = take_address(reader);
    size_t length = take_size(reader);
    uint32_t flags = take_u32(reader);
    if (!reader_holds(reader, answer))
        return;
    answer_call(answer, (flags & 1U) ? system_lock_on_fault(pointer_to(address), length)
                                     : mlock(pointer_to(address), length));
}

void do_unlock(struct reader *reader, struct answer *answer)
{
    uintptr_t address = take_address(reader);
    size_t length = take_size(reader);
    if (reader_holds(reader, answer))
        answer_call(answer, munlock(pointer_to(address), length));
}

void do_lock_all(struct reader *reader, struct answer *answer)
{
    uint32_t flags = take_u32(reader);
    if (reader_holds(reader, answer))
        answer_call(answer, flags == 0 ? munlockall() : system_lock_all(flags));
}

void do_advise(struct reader *reader, struct answer *answer)
{
    uintptr_t address = take_address(reader);
    size_t length = take_size(reader);
    uint32_t advice = take_u32(reader);
    if (reader_holds(reader, answer))
        answer_call(answer, system_advise(pointer_to(address), length, (int)advice));
}

void do_move(struct reader *reader, struct answer *answer)
{
    uintptr_t address = take_address(reader), to;
    size_t size = take_size(reader), new_size = take_size(reader);
    uint32_t flags = take_u32(reader);
    to = take_address(reader);
    if (reader_holds(reader, answer))
        answer_address(answer, system_move(pointer_to(address), size, new_size, (int)flags, pointer_to(to)));
}

void do_flush(struct reader *reader, struct answer *answer)
{
    enum { ASYNCHRONOUS = 1, INVALIDATE = 2, SYNCHRONOUS = 4 };
    uintptr_t address = take_address(reader);
    size_t length = take_size(reader);
    uint32_t flags = take_u32(reader);
    int native = ((flags & ASYNCHRONOUS) ? MS_ASYNC : 0) | ((flags & INVALIDATE) ? MS_INVALIDATE : 0) |
                 ((flags & SYNCHRONOUS) ? MS_SYNC : 0);
    if (reader_holds(reader, answer))
        answer_call(answer, msync(pointer_to(address), length, native));
}

void do_name(struct reader *reader, struct answer *answer)
{
    char name[256];
    uintptr_t address = take_address(reader);
    size_t length = take_size(reader);
    take_text8(reader, name, sizeof name);
    if (reader_holds(reader, answer))
        answer_call(answer, system_name(pointer_to(address), length, name));
}
