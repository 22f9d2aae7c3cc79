#include "stat_linux.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"
#include "text.h"

enum { SILENCE_MS = 2000, END_MS = 1000, LOOK_MS = 10 };

/* ---- reading ---- */

/* A file of a process, with a NUL behind it. Its size, or -1 with errno. */
static ssize_t read_file_of(uint32_t pid, const char *name, char *bytes, size_t room)
{
    char path[64] = "/proc/";
    int fd, folder = -1, error;
    ssize_t got = -1;
    add_number(path, sizeof path, pid);
    if (pid == (uint32_t)getpid()) { /* by the path an emulator (qemu-user) would answer, with a start time of its own making */
        folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        fd = folder < 0 ? -1 : openat(folder, name, O_RDONLY | O_CLOEXEC);
    } else {
        add_text(path, sizeof path, "/");
        add_text(path, sizeof path, name);
        fd = open(path, O_RDONLY | O_CLOEXEC);
    }
    error = errno;
    if (folder >= 0)
        (void)close(folder);
    errno = error;
    if (fd < 0)
        return -1;
    do
        got = read(fd, bytes, room - 1);
    while (got < 0 && errno == EINTR);
    error = errno;
    (void)close(fd);
    errno = error;
    bytes[got > 0 ? got : 0] = '\0';
    return got;
}

/* The name may hold spaces, brackets and newlines: it ends at the last bracket of the line. 0 or an errno. */
static int parse_stat(struct stat_line *stat)
{
    char *at = strchr(stat->text, '('), *close_bracket = strrchr(stat->text, ')');
    if (at == NULL || close_bracket == NULL || close_bracket < at || close_bracket[1] != ' ')
        return EPROTO;
    stat->name = at + 1;
    stat->name_size = (size_t)(close_bracket - stat->name);
    at = close_bracket + 2;
    stat->state = *at;
    for (int field = 4; field <= 22; field++) {
        unsigned long long value;
        at = strchr(at, ' ');
        if (at == NULL)
            return EPROTO;
        value = strtoull(++at, NULL, 10);
        if (field == 4)
            stat->parent = (uint32_t)value;
        else if (field == 9)
            stat->flags = value;
        else if (field == 20)
            stat->threads = value;
        else if (field == 22)
            stat->start_time = value;
    }
    return 0;
}

int linux_read_stat(uint32_t pid, struct stat_line *stat)
{
    ssize_t got = read_file_of(pid, "stat", stat->text, sizeof stat->text);
    if (got <= 0)
        return got < 0 ? errno : ESRCH;
    return parse_stat(stat);
}

static unsigned long field_of(const char *status, const char *key)
{
    const char *at = strstr(status, key);
    return at == NULL ? 0 : strtoul(at + strlen(key), NULL, 10);
}

int linux_read_silent(uint32_t pid, struct stat_line *stat, int *kernel)
{
    static char status[8192];
    const char *state;
    ssize_t got = read_file_of(pid, "status", status, sizeof status), size;
    if (got <= 0)
        return got < 0 ? errno : ESRCH;
    size = read_file_of(pid, "comm", stat->text, sizeof stat->text);
    if (size <= 0)
        return size < 0 ? errno : ESRCH;
    state = strstr(status, "\nState:\t");
    stat->name = stat->text;
    stat->name_size = (size_t)size - (stat->text[size - 1] == '\n');
    stat->state = state == NULL ? '\0' : state[8];
    stat->parent = (uint32_t)field_of(status, "\nPPid:");
    stat->flags = 0;
    stat->start_time = 0;
    stat->threads = field_of(status, "\nThreads:");
    *kernel = field_of(status, "\nKthread:") == 1;
    return 0;
}

/* ---- by a child ---- */

struct reply {
    int32_t error;
    char text[1024];
};

static struct {
    pid_t pid; /* 0: there is none */
    int questions, answers;
} child;

static void answer_questions(int questions, int answers)
{
    static struct stat_line stat;
    static struct reply reply;
    uint32_t pid;
    while (read(questions, &pid, sizeof pid) == (ssize_t)sizeof pid) {
        memset(&reply, 0, sizeof reply);
        reply.error = linux_read_stat(pid, &stat);
        memcpy(reply.text, stat.text, sizeof reply.text);
        if (write(answers, &reply, sizeof reply) != (ssize_t)sizeof reply)
            return;
    }
}

static int begin_asking(void)
{
    int questions[2], answers[2];
    pid_t parent = getpid();
    if (pipe(questions) != 0)
        return -1;
    if (pipe(answers) == 0) {
        child.pid = fork();
        if (child.pid == 0) {
            (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
            (void)close(questions[1]);
            if (getppid() == parent)
                answer_questions(questions[0], answers[1]);
            _exit(0);
        }
        if (child.pid > 0) {
            (void)close(questions[0]);
            (void)close(answers[1]);
            child.questions = questions[1];
            child.answers = answers[0];
            return 0;
        }
        child.pid = 0;
        (void)close(answers[0]);
        (void)close(answers[1]);
    }
    (void)close(questions[0]);
    (void)close(questions[1]);
    return -1;
}

void linux_end_asking(void)
{
    if (child.pid == 0)
        return;
    (void)close(child.questions);
    (void)close(child.answers);
    (void)kill(child.pid, SIGKILL);
    for (int waited = 0; waited < END_MS && waitpid(child.pid, NULL, WNOHANG) == 0; waited += LOOK_MS)
        pause_for(LOOK_MS); /* one that waits where even that signal does not end it is left behind */
    child.pid = 0;
}

int linux_is_asking(uint32_t pid) { return child.pid != 0 && pid == (uint32_t)child.pid; }

/* 0, or -1 when it does not come whole in time. */
static int receive_reply(struct reply *reply)
{
    size_t have = 0;
    while (have < sizeof *reply) {
        struct pollfd wait = {.fd = child.answers, .events = POLLIN};
        int ready = poll(&wait, 1, SILENCE_MS);
        ssize_t got = ready > 0 ? read(child.answers, (char *)reply + have, sizeof *reply - have) : -1;
        if ((ready < 0 || (ready > 0 && got < 0)) && errno == EINTR)
            continue;
        if (ready <= 0 || got <= 0)
            return -1;
        have += (size_t)got;
    }
    return 0;
}

int linux_ask_stat(uint32_t pid, struct stat_line *stat)
{
    static struct reply reply;
    if (pid == (uint32_t)getpid() || (child.pid == 0 && begin_asking() != 0))
        return linux_read_stat(pid, stat);
    if (write(child.questions, &pid, sizeof pid) != (ssize_t)sizeof pid || receive_reply(&reply) != 0) {
        linux_end_asking();
        return ETIMEDOUT;
    }
    if (reply.error != 0)
        return reply.error;
    memcpy(stat->text, reply.text, sizeof stat->text);
    stat->text[sizeof stat->text - 1] = '\0';
    return parse_stat(stat);
}
