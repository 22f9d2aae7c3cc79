/* Operations about any process of the machine: listed, its map read from a source, advised. */
#ifndef VMATLAS_PROCESSES_H
#define VMATLAS_PROCESSES_H

#include "reader.h"

extern const struct source *const agent_sources[]; /* made by the build: one table a plugin, NULL at the end */

void do_processes(struct reader *reader, struct answer *answer);
void do_acquire(struct reader *reader, struct answer *answer);
void do_query(struct reader *reader, struct answer *answer);
void do_advise_process(struct reader *reader, struct answer *answer);

#endif
