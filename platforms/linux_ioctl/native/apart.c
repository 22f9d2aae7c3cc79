#include "apart.h"
#include "call_base.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SYS_close_range
#define SYS_close_range (CALL_BASE + 436) /* since Linux 5.9 */
#endif

enum { MAPS = 0, END = 1, MOST_DESCRIPTORS = 1 << 16 };

static char texts[2][NAME_ROOM];

/* In the child: other threads of the parent may have held any lock, so nothing here takes one. */
static void serve(int maps, int end)
{
    struct answer_apart answer;
    /* Out of the way, with no number but those that stay: there may be no other to be had. */
    if (end == MAPS)
        end = dup2(end, maps == END ? END + 1 : END);
    if (end < 0 || dup2(maps, MAPS) < 0 || dup2(end, END) < 0)
        _exit(1);
    /* Whatever pipes the parent has: who reads them must see their end. */
    if (syscall(SYS_close_range, END + 1, ~0U, 0) != 0)
        for (int each = END + 1; each < MOST_DESCRIPTORS; each++)
            close(each);
    while (read(END, &answer.record, sizeof answer.record) == (ssize_t)sizeof answer.record) {
        struct procmap_query *record = &answer.record;
        size_t size = 0;
        record->vma_name_addr = record->vma_name_size ? (uint64_t)(uintptr_t)texts[0] : 0;
        record->build_id_addr = record->build_id_size ? (uint64_t)(uintptr_t)texts[1] : 0;
        answer.error = procmap_ask(MAPS, record);
        answer.nothing = 0;
        record->vma_name_addr = record->build_id_addr = 0;
        if (answer.error == 0 && record->vma_name_size <= NAME_ROOM && record->build_id_size <= BUILD_ID_ROOM) {
            memcpy(answer.texts, texts[0], record->vma_name_size);
            memcpy(answer.texts + record->vma_name_size, texts[1], record->build_id_size);
            size = (size_t)record->vma_name_size + record->build_id_size;
        }
        size += offsetof(struct answer_apart, texts);
        if (send(END, &answer, size, MSG_NOSIGNAL) != (ssize_t)size)
            break;
    }
    _exit(0);
}

pid_t apart_begin(int maps, int *end)
{
    sigset_t all, before;
    int ends[2], error;
    long child;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
        return -errno;
    /* No handler of the parent's may run there. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    child = syscall(SYS_clone, 0L, 0L, 0L, 0L, 0L); /* no flags: the order of the arguments, which differs, does not matter */
    error = errno;
    if (child == 0)
        serve(maps, ends[1]);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    close(ends[1]);
    if (child < 0) {
        close(ends[0]);
        return -error;
    }
    *end = ends[0];
    return (pid_t)child;
}
