/* Operations that reach into the memory of this process: touch, peek, poke. A fault is an answer, and harms nothing. */
#ifndef VMATLAS_ACCESS_H
#define VMATLAS_ACCESS_H

#include "reader.h"

void do_touch(struct reader *reader, struct answer *answer);
void do_peek(struct reader *reader, struct answer *answer);
void do_poke(struct reader *reader, struct answer *answer);

#endif
