/* The frames that answer one request: streams cut into DATA frames, then one END or ERROR. */
#ifndef VMATLAS_ANSWER_H
#define VMATLAS_ANSWER_H

#include <stddef.h>
#include <stdint.h>

#include "channel.h"
#include "source.h"

/* Collects bytes of one part of one stream until they fill a frame. */
struct slot {
    char stream[32];
    unsigned part;
    size_t used; /* of the payload; 0: the slot is free */
    uint8_t frame[FRAME_LIMIT];
};

struct answer {
    struct source_sink sink; /* stays the first member: put() gets from it to the answer */
    struct channel *channel;
    uint16_t operation;
    uint32_t request, sequence;
    uint64_t sent_at;
    int finished; /* END or ERROR was sent */
    int keep;     /* the operation changes something: remember its result for a repeat */
    int remember; /* each frame is kept, to be sent again: pieces.h */
    size_t room;  /* of the payload of a DATA frame */
    struct slot slots[2];
};

enum { ORIGIN_AGENT = 0, ORIGIN_KERNEL = 1 };

void answer_begin(struct answer *answer, struct channel *channel, const struct frame *request);
/* 0, or the errno with which the one who puts must stop: ECANCELED when the host wants something else. */
int answer_put(struct answer *answer, const char *stream, unsigned part, const void *bytes, size_t size);

/* The same, for bytes that shall stand in a frame of their own (at most FRAME_PAYLOAD - 64). */
int answer_frame(struct answer *answer, const char *stream, const void *bytes, size_t size);

/* Its DATA frames hold at most so many bytes, and all its frames are remembered; 0: as it was. */
void answer_in_pieces(struct answer *answer, uint32_t size);

/* Each of these ends the answer. */
void answer_end(struct answer *answer, const void *payload, size_t size);
void answer_error(struct answer *answer, int origin, int error, const char *what);
/* The call's value; `error` counts only when it is not 0. */
void answer_result(struct answer *answer, int64_t value, int error, uint64_t detail);
/* The same with further fields behind it; of an operation that asks. */
void answer_result_with(struct answer *answer, int64_t value, int error, uint64_t detail, const uint8_t *more, size_t more_size);
/* The value of a call that says -1 and sets errno when it fails. */
void answer_call(struct answer *answer, int64_t value);
/* The streams are through, or broke off with this errno. */
void answer_conclude(struct answer *answer, int error);
/* 1 when the host wants something else, which was then answered with ECANCELED; 0 otherwise. For operations that wait. */
int answer_interrupted(struct answer *answer);

/* Sends the remembered result of this very request again: 1, or 0 when there is none. */
int answer_again(struct channel *channel, const struct frame *request);
void answer_forget(void);

#endif
