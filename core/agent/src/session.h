/* Operations about the conversation itself: ping, sleep, shutdown. */
#ifndef VMATLAS_SESSION_H
#define VMATLAS_SESSION_H

#include "reader.h"

void do_ping(struct reader *reader, struct answer *answer);
void do_sleep(struct reader *reader, struct answer *answer);
void do_pieces(struct reader *reader, struct answer *answer);
void do_resend(struct reader *reader, struct answer *answer);
void do_shutdown(struct reader *reader, struct answer *answer);

#endif
