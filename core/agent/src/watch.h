/* Operations that make this process answer for the faults in a range itself, as userfaultfd does: what moves and advises
 * otherwise, and what a kernel refuses to move with others. */
#ifndef VMATLAS_WATCH_H
#define VMATLAS_WATCH_H

#include "reader.h"

void do_watch(struct reader *reader, struct answer *answer);
void do_unwatch(struct reader *reader, struct answer *answer);

#endif
