/* Requests for a child are passed on to it, and its answers back. */
#ifndef VMATLAS_RELAY_H
#define VMATLAS_RELAY_H

#include "answer.h"

/* Consumes the request. `answer` is only used to refuse. */
void relay(struct channel *channel, const struct frame *request, struct answer *answer);

#endif
