/* Operations on files there: what tests map, and what explains a region (names, inodes, links). */
#ifndef VMATLAS_FILES_H
#define VMATLAS_FILES_H

#include "reader.h"

void do_write_file(struct reader *reader, struct answer *answer);
void do_unlink(struct reader *reader, struct answer *answer);
void do_read_file(struct reader *reader, struct answer *answer);
void do_list_folder(struct reader *reader, struct answer *answer);
void do_stat_file(struct reader *reader, struct answer *answer);
void do_look_up(struct reader *reader, struct answer *answer);
void do_read_link(struct reader *reader, struct answer *answer);

#endif
