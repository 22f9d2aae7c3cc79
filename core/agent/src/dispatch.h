/* From a request to the operation that it names: the table of all of them, and the rules that hold for each. */
#ifndef VMATLAS_DISPATCH_H
#define VMATLAS_DISPATCH_H

#include "answer.h"

/* Bytes of payload that a host should put into one request: what the machine's line can hold while nobody reads it. */
extern uint32_t largest_request;

/* Works on a request for this very process; the answer, which was begun, is finished when it returns. */
void dispatch(const struct frame *request, const uint8_t *payload, struct answer *answer);

#endif
