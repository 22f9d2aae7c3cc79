/* Children: made, asked through a pair of pipes, ended, reaped. None outlives the agent: its pipe ends with us, and where
 * the system can it is killed when we die. */
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MOST_CHILDREN = 64, MOST_WAIT_MS = 60000 };

struct child {
    pid_t pid; /* 0: free */
    int in;    /* requests go here */
    int out;   /* answers come from here */
};

int agent_is_child;

static struct child children[MOST_CHILDREN];

static struct child *find_child(uint32_t pid)
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

/* ---- passing a request on ---- */

static void refuse(struct channel *channel, const struct frame *request, uint32_t sequence, int error, const char *what)
{
    static struct answer answer;
    answer_begin(&answer, channel, request);
    answer.sequence = sequence;
    answer_error(&answer, ORIGIN_AGENT, error, what);
}

/* Waits for bytes of the child; 1 they came, 0 the host wants something else, -1 the child is gone. */
static int wait_for_child(struct channel *child, struct channel *host, uint32_t request)
{
    for (;;) {
        struct pollfd wait[2] = {{child->in, POLLIN, 0}, {host->in, POLLIN, 0}};
        int got;
        if (channel_look(host, request) != 0)
            return 0;
        if (poll(wait, 2, 1000) < 0 && errno != EINTR)
            return -1;
        got = channel_receive(child, 0);
        if (got != 0)
            return got;
    }
}

void relay(struct channel *channel, const struct frame *request)
{
    static struct channel to; /* 32 KiB: not on the stack */
    struct frame asked = *request, frame;
    struct child *child = find_child(request->process);
    uint8_t *bytes = channel->decoder.bytes + channel->decoder.start;
    uint32_t sequence = 0;
    int sent = -1;

    if (child != NULL) {
        struct frame inner = *request;
        inner.process = 0;
        memset(&to, 0, offsetof(struct channel, decoder.bytes));
        to.in = child->out;
        to.out = child->in;
        sent = channel_send(&to, bytes, frame_seal(bytes, &inner));
    }
    frame_consume(&channel->decoder);
    if (sent != 0) {
        refuse(channel, &asked, 0, ECHILD, child == NULL ? "no such child of this agent" : "the child is gone");
        return;
    }
    for (;;) {
        enum frame_event event = frame_next(&to.decoder, &frame);
        if (event == FRAME_NONE) {
            int got = wait_for_child(&to, channel, asked.request);
            if (got > 0)
                continue;
            refuse(channel, &asked, sequence, got == 0 ? ECANCELED : ECHILD,
                   got == 0 ? "another request came" : "the child ended before it answered");
            return;
        }
        if (event != FRAME_GOOD)
            continue; /* the rest of an answer that was given up earlier */
        if (frame.request == asked.request) {
            struct frame outer = frame;
            outer.process = asked.process;
            bytes = to.decoder.bytes + to.decoder.start;
            if (channel_send(channel, bytes, frame_seal(bytes, &outer)) != 0)
                return;
            sequence = frame.sequence + 1;
            if (frame.kind != KIND_DATA)
                return;
        }
        frame_consume(&to.decoder);
    }
}

/* ---- making one ---- */

static void close_from(int first)
{
    for (int fd = first; fd < 3 + 4 * MOST_CHILDREN; fd++)
        (void)close(fd);
}

/* Puts the two descriptors at 0 and 1, whatever they are now. */
static int become_stdio(int in, int out)
{
    int spare_in = fcntl(in, F_DUPFD, 10), spare_out = fcntl(out, F_DUPFD, 10);
    return spare_in < 0 || spare_out < 0 || dup2(spare_in, 0) < 0 || dup2(spare_out, 1) < 0 ? -1 : 0;
}

static void live_as_child(pid_t parent, int in, int out, int told, const char *path)
{
    static struct channel channel;
    uint32_t error;
    system_follow_parent(parent);
    if (become_stdio(in, out) != 0)
        _exit(127);
    if (path[0] != '\0') {
        extern char **environ;
        char name[] = "vmatlas-agent", mode[] = "--child";
        char *arguments[3];
        int kept = fcntl(told, F_DUPFD, 3 + 4 * MOST_CHILDREN);
        arguments[0] = name;
        arguments[1] = mode;
        arguments[2] = NULL;
        close_from(3);
        (void)fcntl(kept, F_SETFD, FD_CLOEXEC);
        (void)execve(path, arguments, environ);
        error = (uint32_t)errno;
        (void)!write(kept, &error, sizeof error);
        _exit(127);
    }
    close_from(3);
    memset(children, 0, sizeof children);
    answer_forget();
    agent_is_child = 1;
    agent_role = "child";
    memset(&channel, 0, offsetof(struct channel, decoder.bytes));
    channel.in = 0;
    channel.out = 1;
    serve(&channel);
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

static int open_pipes(int pipes[3][2])
{
    for (int i = 0; i < 3; i++) {
        if (pipe(pipes[i]) == 0)
            continue;
        while (i-- > 0) {
            int kept = errno;
            (void)close(pipes[i][0]);
            (void)close(pipes[i][1]);
            errno = kept;
        }
        return -1;
    }
    return 0;
}

static void spawn(struct reader *reader, struct answer *answer)
{
    static char path[TEXT_ROOM];
    struct child *child = NULL;
    int pipes[3][2], error = 0; /* requests, answers, what execve said */
    pid_t parent = getpid(), pid;
    take_text16(reader, path, sizeof path);
    if (!reader_holds(reader, answer))
        return;
    for (int i = 0; i < MOST_CHILDREN && child == NULL; i++)
        if (children[i].pid == 0)
            child = &children[i];
    if (agent_is_child || child == NULL) {
        answer_error(answer, ORIGIN_AGENT, child == NULL ? EAGAIN : ENOTSUP,
                     child == NULL ? "64 children already" : "a child cannot have children");
        return;
    }
    if (open_pipes(pipes) != 0) {
        answer_result(answer, -1, errno, 0);
        return;
    }
    pid = fork();
    if (pid == 0)
        live_as_child(parent, pipes[0][0], pipes[1][1], pipes[2][1], path);
    if (pid < 0)
        error = errno;
    (void)close(pipes[0][0]);
    (void)close(pipes[1][1]);
    (void)close(pipes[2][1]);
    if (pid > 0)
        error = told_error(pipes[2][0]);
    (void)close(pipes[2][0]);
    if (error != 0) {
        if (pid > 0)
            (void)waitpid(pid, NULL, 0);
        (void)close(pipes[0][1]);
        (void)close(pipes[1][0]);
        answer_result(answer, -1, error, 0);
        return;
    }
    (void)fcntl(pipes[0][1], F_SETFD, FD_CLOEXEC);
    (void)fcntl(pipes[1][0], F_SETFD, FD_CLOEXEC);
    child->pid = pid;
    child->in = pipes[0][1];
    child->out = pipes[1][0];
    answer_result(answer, pid, 0, 0);
}

/* ---- ending one ---- */

static void end(struct reader *reader, struct answer *answer)
{
    uint32_t pid = take_u32(reader), number = take_u32(reader);
    int done;
    if (!reader_holds(reader, answer))
        return;
    if (find_child(pid) == NULL) {
        answer_error(answer, ORIGIN_AGENT, ECHILD, "no such child of this agent");
        return;
    }
    done = kill((pid_t)pid, (int)number);
    answer_result(answer, done, done != 0 ? errno : 0, 0);
}

static void reap(struct reader *reader, struct answer *answer)
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
        if (channel_look(answer->channel, answer->request) != 0) {
            answer_error(answer, ORIGIN_AGENT, ECANCELED, "another request came");
            return;
        }
    }
}

static void become(struct reader *reader, struct answer *answer)
{
    uint32_t user = take_u32(reader), group = take_u32(reader);
    pid_t parent = getppid();
    int done;
    if (!reader_holds(reader, answer))
        return;
    if (!agent_is_child) {
        answer_error(answer, ORIGIN_AGENT, EPERM, "the agent itself stays who it is: spawn a child for it");
        return;
    }
    done = system_become(user, group);
    answer_result(answer, done, done != 0 ? errno : 0, 0);
    system_follow_parent(parent); /* a change of rights clears it */
}

const struct operation child_operations[] = {
    {48, 1, "spawn", spawn},
    {49, 1, "end", end},
    {50, 1, "reap", reap},
    {51, 1, "become", become},
    {0, 0, NULL, NULL},
};
