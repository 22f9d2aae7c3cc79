#include "relay.h"

#include <errno.h>
#include <poll.h>

#include "children.h"

static void refuse(struct answer *answer, struct channel *channel, const struct frame *request, uint32_t sequence, int error,
                   const char *what)
{
    answer_begin(answer, channel, request);
    answer->sequence = sequence;
    answer_error(answer, ORIGIN_AGENT, error, what);
}

/* Waits for bytes of the child; 1 they came, 0 the host wants something else, -1 the child is gone. */
static int wait_for_child(struct channel *child, struct channel *host, uint32_t request)
{
    for (;;) {
        struct pollfd wait[2] = {{child->in, POLLIN, 0}, {host->in, POLLIN, 0}};
        int got;
        if (channel_look(host, request) != 0)
            return 0;
        if (poll(wait, 2, 1000) < 0 && errno != EINTR)
            return -1;
        got = channel_receive(child, 0);
        if (got != 0)
            return got;
    }
}

void relay(struct channel *channel, const struct frame *request, struct answer *answer)
{
    static struct channel to; /* 32 KiB: not on the stack */
    struct frame asked = *request, frame;
    struct child *child = find_child(request->process);
    uint8_t *bytes = channel->decoder.bytes + channel->decoder.start;
    uint32_t sequence = 0;
    int sent = -1;

    if (child != NULL) {
        struct frame inner = *request;
        inner.process = 0;
        channel_open(&to, child->out, child->in);
        sent = channel_send(&to, bytes, frame_seal(bytes, &inner));
    }
    frame_consume(&channel->decoder);
    if (sent != 0) {
        refuse(answer, channel, &asked, 0, ECHILD, child == NULL ? "no such child of this agent" : "the child is gone");
        return;
    }
    for (;;) {
        enum frame_event event = frame_next(&to.decoder, &frame);
        if (event == FRAME_NONE) {
            int got = wait_for_child(&to, channel, asked.request);
            if (got > 0)
                continue;
            refuse(answer, channel, &asked, sequence, got == 0 ? ECANCELED : ECHILD,
                   got == 0 ? "another request came" : "the child ended before it answered");
            return;
        }
        if (event != FRAME_GOOD)
            continue; /* the rest of an answer that was given up earlier */
        if (frame.request == asked.request) {
            struct frame outer = frame;
            outer.process = asked.process;
            bytes = to.decoder.bytes + to.decoder.start;
            if (channel_send(channel, bytes, frame_seal(bytes, &outer)) != 0)
                return;
            sequence = frame.sequence + 1;
            if (frame.kind != KIND_DATA)
                return;
        }
        frame_consume(&to.decoder);
    }
}
