#define VMATLAS_FUZZ_KERNEL
#include "kernel.h"

#include <stdarg.h>

#include "calls.h"
#include "frame.h"
#include "guard.h"

enum {
    MOST_CALLS = 6000,    /* then every call fails and every stream has ended, so that all loops end */
    CHILD_FD = 2000,       /* its pipes: numbers from here on */
    MOST_REFUSALS = 8,     /* of POLLOUT: the agent may give up a frame halfway after 30 s, which it may not here */
    SENT_ROOM = 1 << 22,
    FIRST_PID = 70000
};

static struct input script, children;
static const uint8_t *stream;
static size_t stream_left, sent;
static uint8_t sent_bytes[SENT_ROOM];
static int sent_whole, host_gone, rude /* the host goes as soon as it has said all, and waits for no answer */, next_fd, forked, refusals;
static uint64_t now_ms;
static long calls;

void kernel_begin(struct input script_bytes, struct input child_bytes, const uint8_t *bytes, size_t size)
{
    script = script_bytes;
    children = child_bytes;
    stream = bytes;
    stream_left = size;
    sent = 0;
    sent_whole = 1;
    host_gone = 0;
    rude = (int)(take_byte(&script) & 1);
    next_fd = CHILD_FD;
    forked = 0;
    refusals = 0;
    now_ms = 1000;
    calls = 0;
}

/* ---- what the script says ---- */

static int exhausted(void)
{
    if (++calls <= MOST_CALLS)
        return 0;
    now_ms += 1000;
    return 1;
}

static uint32_t next_byte(void) { return take_byte(&script); }

static int fails(void)
{
    static const int errors[] = {EINTR, EAGAIN, ENOENT, ESRCH, EPERM, EACCES, EINVAL, ENOMEM, EIO, ENOTTY, ENAMETOOLONG, EFAULT};
    uint32_t byte = next_byte();
    if (exhausted()) {
        errno = EIO;
        return 1;
    }
    if (byte < 200)
        return 0;
    errno = errors[byte % (sizeof errors / sizeof errors[0])];
    return 1;
}

/* ---- time and streams ---- */

int fuzz_clock_gettime(clockid_t clock, struct timespec *now)
{
    (void)clock;
    now->tv_sec = (time_t)(now_ms / 1000);
    now->tv_nsec = (long)(now_ms % 1000) * 1000000;
    return 0;
}

int fuzz_poll(struct pollfd *waits, nfds_t count, int limit_ms)
{
    uint32_t byte = count > 0 ? next_byte() : 0;
    int gone = exhausted();
    if (count > 0 && byte > 230 && (waits[0].events & POLLOUT) != 0 && ++refusals > MOST_REFUSALS)
        byte = 0;
    if (count > 0 && waits[0].fd == HOST_IN && stream_left == 0 && !rude && limit_ms >= 0)
        byte = 255;
    if (count == 0 || (byte > 230 && limit_ms >= 0)) {
        now_ms += (uint64_t)(limit_ms > 0 ? limit_ms : 0);
        return 0;
    }
    if (byte > 220 && !gone) {
        errno = EINTR;
        return -1;
    }
    for (nfds_t i = 0; i < count; i++)
        waits[i].revents = waits[i].events;
    return (int)count;
}

static size_t piece(size_t size)
{
    static const size_t sizes[] = {1, 3, 27, 64, 1000, 4096};
    uint32_t byte = next_byte();
    size_t most = byte < 128 ? size : sizes[byte % 6];
    return most < size ? most : size;
}

/* What /proc/PID/stat says, but for a byte here and there. */
static ssize_t read_stat_line(uint8_t *bytes, size_t size)
{
    static const char line[] = "7 (a name) with) S 1 7 7 0 -1 4194560 2 0 0 0 1 1 0 0 20 0 1 0 4711 1000000 50 18446744073709551615\n";
    size_t given = sizeof line - 1 < size ? sizeof line - 1 : size;
    memcpy(bytes, line, given);
    for (uint32_t changes = next_byte() % 4; changes > 0 && given > 0; changes--) {
        size_t at = next_byte() % given;
        bytes[at] = (uint8_t)next_byte();
    }
    return (ssize_t)given;
}

ssize_t fuzz_read(int fd, void *bytes, size_t size)
{
    size_t given;
    if (fd == HOST_IN) {
        given = piece(size);
        given = given < stream_left ? given : stream_left;
        if (exhausted() || host_gone)
            return 0;
        memcpy(bytes, stream, given);
        stream += given;
        stream_left -= given;
        return (ssize_t)given;
    }
    if (fails())
        return -1;
    if (fd >= CHILD_FD) { /* a child's answers, or what its execve told */
        given = piece(size);
        given = given < children.left ? given : children.left;
        if (size == sizeof(uint32_t) && (forked & 1) == 0)
            given = 0;
        take_bytes(&children, bytes, given);
        return (ssize_t)given;
    }
    given = next_byte();
    if (given % 4 == 1)
        return read_stat_line(bytes, size);
    given = given % 97 * 181;
    given = given < size ? given : size;
    take_bytes(&script, bytes, given);
    return (ssize_t)given;
}

/* The entries of pagemap: mostly alike for a while. */
ssize_t fuzz_pread(int fd, void *bytes, size_t size)
{
    static const uint64_t entries[] = {0, 0x81800000000000ff, 0x4000000000000005, 0x44000000000009f0, 0xa100000000000007};
    size_t given = piece(size) / 8 * 8;
    uint64_t entry = 0;
    (void)fd;
    if (fails())
        return -1;
    for (size_t at = 0; at < given; at += 8) {
        if (at % 64 == 0)
            entry = entries[next_byte() % 5];
        memcpy((uint8_t *)bytes + at, &entry, sizeof entry);
    }
    return exhausted() || next_byte() == 255 ? 0 : (ssize_t)given;
}

ssize_t fuzz_write(int fd, const void *bytes, size_t size)
{
    size_t taken = piece(size);
    if (fd >= CHILD_FD || fd < HOST_IN) {
        uint8_t sum = 0;
        for (size_t i = 0; i < size; i++) /* each byte is looked at, for the sanitizer */
            sum = (uint8_t)(sum + ((const uint8_t *)bytes)[i]);
        (void)sum;
        return fails() ? -1 : (ssize_t)taken;
    }
    if (fails()) {
        if (errno != EINTR && errno != EAGAIN)
            host_gone = 1;
        return -1;
    }
    if (sent + taken > sizeof sent_bytes)
        sent_whole = 0;
    if (sent_whole) {
        memcpy(sent_bytes + sent, bytes, taken);
        sent += taken;
    }
    return (ssize_t)taken;
}

/* ---- what is sent ---- */

void kernel_check_answers(void)
{
    uint32_t due = 0, last_id = 0;
    int relayed = 0;
    for (size_t at = 0; at < sent;) {
        const uint8_t *frame = sent_bytes + at;
        uint32_t length, id, sequence;
        if (sent - at < FRAME_HEADER) {
            CLAIM(rude || host_gone || calls > MOST_CALLS || !sent_whole);
            return;
        }
        CLAIM(memcmp(frame, "\x9dVM\xa5", 4) == 0 && read_u32(frame + 24) == crc32_of(frame, 24));
        length = read_u32(frame + 20);
        CLAIM(length <= FRAME_PAYLOAD);
        if (sent - at < FRAME_HEADER + (size_t)length + FRAME_TRAILER) {
            CLAIM(rude || host_gone || calls > MOST_CALLS || !sent_whole);
            return;
        }
        CLAIM(read_u32(frame + FRAME_HEADER + length) == crc32_of(frame + FRAME_HEADER, length));
        id = read_u32(frame + 8);
        sequence = read_u32(frame + 12);
        if (read_u32(frame + 16) == 0) {
            CLAIM(frame[4] == PROTOCOL_VERSION && (frame[5] == KIND_DATA || frame[5] == KIND_END || frame[5] == KIND_ERROR));
            CLAIM(sequence == due || (relayed && frame[5] == KIND_ERROR && id == last_id));
            due = frame[5] == KIND_DATA ? sequence + 1 : 0;
            relayed = 0;
        } else {
            due = 0;
            relayed = 1; /* what a child says is the host's to judge */
        }
        last_id = id;
        at += FRAME_HEADER + (size_t)length + FRAME_TRAILER;
    }
    CLAIM(due == 0 || rude || host_gone || calls > MOST_CALLS || !sent_whole); /* the last answer has its end */
}

/* ---- calls ---- */

int fuzz_open(void) { return fails() ? -1 : (int)(10 + next_byte()); }

long fuzz_done(void) { return fails() ? -1 : 0; }

void *fuzz_address(void) { return fails() ? MAP_FAILED : (void *)(uintptr_t)(0x1000U * (1 + next_byte())); }

int fuzz_pipe(int *ends)
{
    if (fails())
        return -1;
    ends[0] = next_fd++;
    ends[1] = next_fd++;
    return 0;
}

pid_t fuzz_fork(void) { return fails() ? -1 : FIRST_PID + forked++; }

pid_t fuzz_waitpid(pid_t pid, int *status)
{
    uint32_t byte = next_byte();
    if (status != NULL)
        *status = (int)(byte << 8);
    if (exhausted() || byte < 100)
        return pid;
    if (byte < 240)
        return 0;
    errno = byte < 248 ? EINTR : ECHILD;
    return -1;
}

ssize_t fuzz_readlink(const char *path, char *link, size_t size)
{
    size_t given = next_byte() * 17U;
    if (fails())
        return -1;
    if (strcmp(path, "/proc/self") == 0 && given < 240 * 17U) /* mostly this /proc knows the agent */
        return (ssize_t)snprintf(link, size, "%ld", (long)getpid());
    given = given < size ? given : size;
    take_bytes(&script, (uint8_t *)link, given);
    return (ssize_t)given;
}

int fuzz_stat(struct stat *found)
{
    if (fails())
        return -1;
    memset(found, 0, sizeof *found);
    found->st_uid = next_byte();
    found->st_ino = next_byte();
    return 0;
}

DIR *fuzz_opendir(void)
{
    static char folder;
    return fails() ? NULL : (DIR *)(void *)&folder;
}

struct dirent *fuzz_readdir(void)
{
    static struct dirent entry;
    uint32_t size = next_byte();
    if (exhausted() || size == 0)
        return NULL;
    memset(&entry, 0, sizeof entry);
    if ((size & 1) != 0) /* a number: a process */
        (void)snprintf(entry.d_name, sizeof entry.d_name, "%u", (unsigned)take_word(&script));
    else
        take_bytes(&script, (uint8_t *)entry.d_name, size);
    return &entry;
}

/* PROCMAP_QUERY: mostly a region that covers the address or comes next, with texts; sometimes anything. */
static void answer_query(uint8_t *record)
{
    enum { ADDRESS = 16, START = 24, END = 32, NAME_SIZE = 80, BUILD_ID_SIZE = 84, NAME = 88, BUILD_ID = 96 };
    uint64_t start, end, name, build_id;
    uint32_t room, size, byte = next_byte();
    if (byte > 240) {
        take_bytes(&script, record, NAME); /* the kernel may say anything, but not where its texts stand */
        return;
    }
    memcpy(&start, record + ADDRESS, sizeof start);
    start += byte % 3 * 0x1000U;
    end = start + 0x1000U * (1 + next_byte());
    memcpy(record + START, &start, sizeof start);
    memcpy(record + END, &end, sizeof end);
    memcpy(&name, record + NAME, sizeof name);
    memcpy(&room, record + NAME_SIZE, sizeof room);
    size = next_byte() * 17U;
    size = size < room ? size : room;
    if (name != 0)
        memset((void *)(uintptr_t)name, 'n', size);
    memcpy(record + NAME_SIZE, &size, sizeof size);
    memcpy(&build_id, record + BUILD_ID, sizeof build_id);
    memcpy(&room, record + BUILD_ID_SIZE, sizeof room);
    size = next_byte() % 65;
    size = size < room ? size : room;
    if (build_id != 0)
        memset((void *)(uintptr_t)build_id, 'b', size);
    memcpy(record + BUILD_ID_SIZE, &size, sizeof size);
}

/* PAGEMAP_SCAN: mostly answers in order within the range, sometimes anything. Gives how many, as the kernel says it. */
static long answer_scan(uint8_t *record)
{
    enum { START = 16, WALK_END = 32, VEC = 40, VEC_LEN = 48 };
    uint64_t at, vec, room, count, byte = next_byte();
    memcpy(&at, record + START, sizeof at);
    memcpy(&vec, record + VEC, sizeof vec);
    memcpy(&room, record + VEC_LEN, sizeof room);
    if (vec == 0) {
        errno = byte % 2 == 0 ? EFAULT : EINVAL;
        return -1;
    }
    count = byte < 100 ? room : byte % (room + 1);
    for (uint64_t i = 0; i < count; i++) {
        uint64_t answer[3] = {at, at + 0x1000, byte};
        at += byte % 2 == 0 ? 0x1000 : 0x2000;
        memcpy((uint8_t *)(uintptr_t)vec + i * sizeof answer, answer, sizeof answer);
    }
    if (byte > 240)
        take_bytes(&script, record + WALK_END, sizeof at);
    else
        memcpy(record + WALK_END, &at, sizeof at);
    return byte == 240 ? (long)room + 1 : (long)count;
}

long fuzz_system_call(long number, ...)
{
    va_list arguments;
    if (fails())
        return -1;
    if (number == SYS_mremap)
        return 0x1000L * (long)(1 + next_byte());
    if (number == SYS_ioctl) {
        unsigned long request;
        void *record;
        va_start(arguments, number);
        (void)va_arg(arguments, long);
        request = va_arg(arguments, unsigned long);
        record = va_arg(arguments, void *);
        va_end(arguments);
        if (_IOC_TYPE(request) == 'f' && _IOC_NR(request) == 16)
            return answer_scan(record);
        if (_IOC_TYPE(request) == 'f')
            answer_query(record);
        return 0;
    }
    return (long)next_byte();
}

/* ---- guard.c's, on memory that is nobody's. The agent's own end of a copy is one of its static buffers. ---- */

extern char __data_start, _end;

static int is_own(uintptr_t address) { return address >= (uintptr_t)&__data_start && address < (uintptr_t)&_end; }

void catch_faults(void) {}

int64_t touch_pages(uintptr_t address, size_t length, int write, uint8_t value)
{
    (void)address, (void)write, (void)value;
    return fails() ? -1 : (int64_t)(length / 4096);
}

int copy_guarded(uintptr_t to, uintptr_t from, size_t size)
{
    CLAIM(is_own(to) || is_own(from));
    if (fails())
        return -1;
    if (is_own(to)) {
        memset((void *)to, 0x5a, size);
    } else {
        uint8_t sum = 0;
        for (size_t i = 0; i < size; i++)
            sum = (uint8_t)(sum + ((const volatile uint8_t *)from)[i]);
        (void)sum;
    }
    return 0;
}

uintptr_t last_fault(void) { return next_byte(); }
