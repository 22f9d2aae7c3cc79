/* The loop: requests come, answers go, until the stream ends. */
#ifndef VMATLAS_SERVE_H
#define VMATLAS_SERVE_H

#include "channel.h"

void serve(struct channel *channel);

#endif
