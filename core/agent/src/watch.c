#include "watch.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "system.h"

enum { MOST_WATCHES = 16 };

static int watches[MOST_WATCHES]; /* descriptors; 0: free */
static pid_t owner;               /* a forked child has none of its parent's */

static int *find_watch(uint32_t descriptor)
{
    if (owner != getpid())
        memset(watches, 0, sizeof watches);
    owner = getpid();
    for (int i = 0; i < MOST_WATCHES; i++)
        if ((uint32_t)watches[i] == descriptor)
            return &watches[i];
    return NULL;
}

void do_watch(struct reader *reader, struct answer *answer)
{
    uintptr_t address = take_address(reader);
    size_t length = take_size(reader);
    uint32_t modes = take_u32(reader);
    int *place = find_watch(0), watch;
    if (!reader_holds(reader, answer))
        return;
    if (place == NULL) {
        answer_error(answer, ORIGIN_AGENT, EAGAIN, "16 watches already");
        return;
    }
    watch = system_watch((void *)address, length, modes);
    if (watch > 0)
        *place = watch;
    answer_call(answer, watch);
}

void do_unwatch(struct reader *reader, struct answer *answer)
{
    uint32_t descriptor = take_u32(reader);
    int *place = descriptor != 0 ? find_watch(descriptor) : NULL;
    if (!reader_holds(reader, answer))
        return;
    if (place == NULL) {
        answer_error(answer, ORIGIN_AGENT, EBADF, "no such watch");
        return;
    }
    *place = 0;
    answer_call(answer, close((int)descriptor));
}
