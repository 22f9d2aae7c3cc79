/* Operations on the address space of this process: what tests make their layouts of. Values and errno are those of the call;
 * nothing is checked that the kernel checks. */
#ifndef VMATLAS_MEMORY_H
#define VMATLAS_MEMORY_H

#include "reader.h"

void do_map(struct reader *reader, struct answer *answer);
void do_unmap(struct reader *reader, struct answer *answer);
void do_protect(struct reader *reader, struct answer *answer);
void do_protect_every(struct reader *reader, struct answer *answer);
void do_lock(struct reader *reader, struct answer *answer);
void do_unlock(struct reader *reader, struct answer *answer);
void do_lock_all(struct reader *reader, struct answer *answer);
void do_advise(struct reader *reader, struct answer *answer);
void do_move(struct reader *reader, struct answer *answer);
void do_flush(struct reader *reader, struct answer *answer);
void do_name(struct reader *reader, struct answer *answer);

#endif
