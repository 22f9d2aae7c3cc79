#include "children.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"
#include "life.h"
#include "system.h"

enum {
    MOST_CHILDREN = 64,
    MOST_DESCRIPTORS = 3 + 4 * MOST_CHILDREN, /* none that the agent opens has a higher number */
    MOST_WAIT_MS = 60000
};

static struct child children[MOST_CHILDREN]; /* pid 0: free */
static void (*serve_as_child)(struct channel *channel);

void children_begin(void (*serve)(struct channel *channel)) { serve_as_child = serve; }

struct child *find_child(uint32_t pid)
{
    for (int i = 0; i < MOST_CHILDREN; i++)
        if (pid != 0 && children[i].pid == (pid_t)pid)
            return &children[i];
    return NULL;
}

static void forget_child(struct child *child)
{
    (void)close(child->in);
    (void)close(child->out);
    memset(child, 0, sizeof *child);
}

void end_children(void)
{
    for (int i = 0; i < MOST_CHILDREN; i++) {
        if (children[i].pid == 0)
            continue;
        (void)kill(children[i].pid, SIGKILL);
        while (waitpid(children[i].pid, NULL, 0) < 0 && errno == EINTR)
            continue;
        forget_child(&children[i]);
    }
}

/* ---- making one ---- */

enum { REQUESTS, ANSWERS, TOLD /* what execve said */, PIPES };
enum { TO_READ, TO_WRITE };

static void close_pipes(int pipes[][2], int count)
{
    int kept = errno;
    for (int i = 0; i < count; i++) {
        (void)close(pipes[i][TO_READ]);
        (void)close(pipes[i][TO_WRITE]);
    }
    errno = kept;
}

static int open_pipes(int pipes[PIPES][2])
{
    for (int i = 0; i < PIPES; i++) {
        if (pipe(pipes[i]) != 0) {
            close_pipes(pipes, i);
            return -1;
        }
    }
    return 0;
}

static void close_from(int first)
{
    if (system_close_range(first, MOST_DESCRIPTORS - 1) == 0) /* hundreds of calls take an emulated kernel milliseconds */
        return;
    for (int fd = first; fd < MOST_DESCRIPTORS; fd++)
        (void)close(fd);
}

/* Puts the two descriptors at 0 and 1, whatever they are now. */
static int become_stdio(int in, int out)
{
    int spare_in = fcntl(in, F_DUPFD, 10), spare_out = fcntl(out, F_DUPFD, 10);
    return spare_in < 0 || spare_out < 0 || dup2(spare_in, 0) < 0 || dup2(spare_out, 1) < 0 ? -1 : 0;
}

/* Returns only when the program cannot be run, of which the pipe `told` was told then. */
static void run_program(const char *path, int told)
{
    extern char **environ;
    char name[] = "vmatlas-agent", mode[] = "--child";
    char *arguments[] = {NULL, NULL, NULL};
    int kept = fcntl(told, F_DUPFD, MOST_DESCRIPTORS);
    uint32_t error;
    arguments[0] = name;
    arguments[1] = mode;
    close_from(3);
    (void)fcntl(kept, F_SETFD, FD_CLOEXEC);
    (void)signal(SIGPIPE, SIG_DFL); /* what the agent ignores, a program would ignore too: exec resets handlers only */
    (void)signal(SIGHUP, SIG_DFL);
#ifdef SIGSYS
    (void)signal(SIGSYS, SIG_DFL);
#endif
    (void)execve(path, arguments, environ);
    error = (uint32_t)errno;
    (void)!write(kept, &error, sizeof error);
}

static void live_as_child(pid_t parent, int pipes[PIPES][2], const char *path)
{
    static struct channel channel;
    system_follow_parent(parent);
    if (become_stdio(pipes[REQUESTS][TO_READ], pipes[ANSWERS][TO_WRITE]) != 0)
        _exit(127);
    if (path[0] != '\0') {
        run_program(path, pipes[TOLD][TO_WRITE]);
        _exit(127);
    }
    close_from(3);
    memset(children, 0, sizeof children);
    answer_forget();
    agent_role = ROLE_CHILD;
    channel_open(&channel, 0, 1);
    serve_as_child(&channel);
    _exit(0);
}

/* The errno that a failed execve left in the pipe, or 0 when the pipe closed without one. */
static int told_error(int told)
{
    uint32_t error;
    ssize_t got;
    do
        got = read(told, &error, sizeof error);
    while (got < 0 && errno == EINTR);
    return got == (ssize_t)sizeof error ? (int)error : 0;
}

/* Makes the child and fills in its place in the table. 0, or -1 with errno. */
static int make_child(struct child *child, const char *path)
{
    int pipes[PIPES][2], error;
    pid_t parent = getpid(), pid;
    if (open_pipes(pipes) != 0)
        return -1;
    pid = fork();
    if (pid < 0) {
        close_pipes(pipes, PIPES);
        return -1;
    }
    if (pid == 0)
        live_as_child(parent, pipes, path);
    (void)close(pipes[REQUESTS][TO_READ]);
    (void)close(pipes[ANSWERS][TO_WRITE]);
    (void)close(pipes[TOLD][TO_WRITE]);
    error = told_error(pipes[TOLD][TO_READ]);
    (void)close(pipes[TOLD][TO_READ]);
    child->in = pipes[REQUESTS][TO_WRITE];
    child->out = pipes[ANSWERS][TO_READ];
    if (error != 0) {
        (void)waitpid(pid, NULL, 0);
        forget_child(child);
        errno = error;
        return -1;
    }
    (void)fcntl(child->in, F_SETFD, FD_CLOEXEC);
    (void)fcntl(child->out, F_SETFD, FD_CLOEXEC);
    child->pid = pid;
    return 0;
}

static struct child *free_place(void)
{
    for (int i = 0; i < MOST_CHILDREN; i++)
        if (children[i].pid == 0)
            return &children[i];
    return NULL;
}

void do_spawn(struct reader *reader, struct answer *answer)
{
    static char path[TEXT_ROOM];
    struct child *child = free_place();
    take_text16(reader, path, sizeof path);
    if (!reader_holds(reader, answer))
        return;
    if (agent_role == ROLE_CHILD)
        answer_error(answer, ORIGIN_AGENT, ENOTSUP, "a child cannot have children");
    else if (child == NULL)
        answer_error(answer, ORIGIN_AGENT, EAGAIN, "64 children already");
    else
        answer_call(answer, make_child(child, path) == 0 ? child->pid : -1);
}

/* ---- ending one ---- */

void do_end(struct reader *reader, struct answer *answer)
{
    uint32_t pid = take_u32(reader), number = take_u32(reader);
    if (!reader_holds(reader, answer))
        return;
    if (find_child(pid) == NULL)
        answer_error(answer, ORIGIN_AGENT, ECHILD, "no such child of this agent");
    else
        answer_call(answer, kill((pid_t)pid, (int)number));
}

void do_reap(struct reader *reader, struct answer *answer)
{
    uint32_t pid = take_u32(reader), limit = take_u32(reader);
    uint64_t until = milliseconds() + (limit < MOST_WAIT_MS ? limit : MOST_WAIT_MS);
    struct child *child = find_child(pid);
    if (!reader_holds(reader, answer))
        return;
    if (child == NULL) {
        answer_error(answer, ORIGIN_AGENT, ECHILD, "no such child of this agent");
        return;
    }
    for (;;) {
        int status = 0;
        pid_t done = waitpid(child->pid, &status, WNOHANG);
        if (done > 0)
            forget_child(child);
        if (done != 0 || milliseconds() >= until) {
            answer_result(answer, done, done < 0 ? errno : 0, (uint64_t)(unsigned)status);
            return;
        }
        pause_for(5);
        if (answer_interrupted(answer))
            return;
    }
}

/* ---- what a child may do to itself ---- */

/* All systems have setgroups, though POSIX has not. The BSDs take the first of the groups for the effective one. */
static int take_rights_of(uint32_t user, uint32_t group)
{
    const gid_t groups[1] = {(gid_t)group};
    if (setgroups(1, groups) != 0 || setgid((gid_t)group) != 0)
        return -1;
    return setuid((uid_t)user);
}

void do_become(struct reader *reader, struct answer *answer)
{
    uint32_t user = take_u32(reader), group = take_u32(reader);
    pid_t parent = getppid();
    int done;
    if (!reader_holds(reader, answer))
        return;
    if (agent_role != ROLE_CHILD) {
        answer_error(answer, ORIGIN_AGENT, EPERM, "the agent itself stays who it is: spawn a child for it");
        return;
    }
    done = take_rights_of(user, group);
    answer_result(answer, done, done != 0 ? errno : 0, 0);
    system_follow_parent(parent); /* a change of rights clears it */
}

void do_limit(struct reader *reader, struct answer *answer)
{
    uint32_t resource = take_u32(reader);
    uint64_t soft = take_u64(reader), hard = take_u64(reader);
    if (!reader_holds(reader, answer))
        return;
    if (agent_role != ROLE_CHILD)
        answer_error(answer, ORIGIN_AGENT, EPERM, "the agent itself keeps its limits: spawn a child for it");
    else
        answer_call(answer, system_limit(resource, soft, hard));
}
