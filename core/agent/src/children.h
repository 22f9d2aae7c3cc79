/* Children: made, ended, reaped. None outlives the agent: its pipe ends with us, and where the system can it is killed when we
 * die. */
#ifndef VMATLAS_CHILDREN_H
#define VMATLAS_CHILDREN_H

#include <stdint.h>
#include <sys/types.h>

#include "reader.h"

struct child {
    pid_t pid;
    int in;  /* requests go here */
    int out; /* answers come from here */
};

/* Called once, by main: what a forked child does until its stream ends. The loop is a floor above this one. */
void children_begin(void (*serve)(struct channel *channel));
struct child *find_child(uint32_t pid); /* NULL when there is none */
void end_children(void);

void do_spawn(struct reader *reader, struct answer *answer);
void do_end(struct reader *reader, struct answer *answer);
void do_reap(struct reader *reader, struct answer *answer);
void do_become(struct reader *reader, struct answer *answer);
void do_limit(struct reader *reader, struct answer *answer);

#endif
