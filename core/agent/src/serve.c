#include "serve.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "answer.h"
#include "dispatch.h"
#include "life.h"
#include "pieces.h"
#include "relay.h"

enum { CUT_MS = 1000, MOST_COMPLAINTS = 8 };

static struct answer answer; /* 64 KiB: not on the stack */

/* Says that something cannot be obeyed; silent after some in a row, so that a line that echoes cannot make us talk to ourselves. */
static void complain(struct channel *channel, const struct frame *frame, int error, const char *what)
{
    if (channel->complaints >= MOST_COMPLAINTS)
        return;
    channel->complaints++;
    answer_begin(&answer, channel, frame);
    answer_error(&answer, ORIGIN_AGENT, error, what);
}

/* The answer that is remembered, once more. */
static void send_pieces(struct channel *channel, const struct frame *request)
{
    const uint8_t *bytes;
    size_t size;
    uint32_t sequence = 0;
    while ((bytes = pieces_find(request->request, sequence, &size)) != NULL && channel_send(channel, bytes, size) == 0)
        sequence++;
    if (bytes == NULL && sequence == 0) {
        answer_begin(&answer, channel, request);
        answer_error(&answer, ORIGIN_AGENT, ENOBUFS, "an answer too long to be remembered: ask under another id");
    }
}

/* The payload is copied out of the decoder, which goes on being filled while the request is worked on. */
static void work_on(struct channel *channel, const struct frame *request)
{
    static uint8_t payload[FRAME_PAYLOAD];
    struct frame copy = *request;
    memcpy(payload, request->payload, request->length);
    frame_consume(&channel->decoder);
    if (answer_again(channel, &copy))
        return;
    if (pieces_are_of(&copy)) {
        send_pieces(channel, &copy);
        return;
    }
    answer_begin(&answer, channel, &copy);
    dispatch(&copy, payload, &answer);
}

static void obey(struct channel *channel, const struct frame *frame)
{
    struct frame copy = *frame;
    if (frame->kind != KIND_REQUEST) {
        frame_consume(&channel->decoder);
    } else if (frame->version != PROTOCOL_VERSION) {
        frame_consume(&channel->decoder);
        complain(channel, &copy, EPROTONOSUPPORT, "this agent speaks version 1");
    } else if (frame->request == 0) {
        frame_consume(&channel->decoder);
        complain(channel, &copy, EBADMSG, "request id 0");
    } else {
        channel->complaints = 0;
        if (frame->process != 0 && frame->process != (uint32_t)getpid())
            relay(channel, frame, &answer);
        else
            work_on(channel, frame);
    }
}

void serve(struct channel *channel)
{
    struct frame frame;
    while (!agent_stopping) {
        switch (frame_next(&channel->decoder, &frame)) {
        case FRAME_GOOD:
            obey(channel, &frame);
            break;
        case FRAME_BAD_CHECK:
            complain(channel, &frame, EBADMSG, "a frame with a wrong CRC");
            break;
        case FRAME_TOO_LONG:
            complain(channel, &frame, EMSGSIZE, "a frame longer than 32768 bytes");
            break;
        case FRAME_NONE: {
            int partial = frame_is_partial(&channel->decoder);
            int got = channel_receive(channel, partial ? CUT_MS : -1);
            if (got < 0)
                return;
            if (got == 0 && partial && !agent_stopping) {
                frame_cut(&channel->decoder);
                complain(channel, &frame, EBADMSG, "a frame that was cut short");
            }
            break;
        }
        }
    }
}
