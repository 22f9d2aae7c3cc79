/* A byte stream to the host (or, in a child, to the parent), with the decoder that finds the frames in it. Nothing here waits
 * for ever, but for the first byte of a request. */
#ifndef VMATLAS_CHANNEL_H
#define VMATLAS_CHANNEL_H

#include <stddef.h>
#include <stdint.h>

#include "frame.h"

struct channel {
    int in, out;
    int ended;           /* the other side is gone */
    uint32_t complaints; /* answers to bad frames since the last good request */
    struct frame_decoder decoder;
};

void channel_open(struct channel *channel, int in, int out);
/* Waits up to limit_ms (-1: for ever) and reads what is there: 1 bytes came, 0 none came, -1 the stream has ended. */
int channel_receive(struct channel *channel, int limit_ms);
/* 0, or -1 when the other side is gone or took nothing for 30 s. */
int channel_send(struct channel *channel, const uint8_t *bytes, size_t size);
/* ECANCELED when another request than `current` has come (it stays in the decoder) or the stream ended; else 0. */
int channel_look(struct channel *channel, uint32_t current);

#endif
