#include "channel.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "life.h"

#ifndef PIPE_BUF
#define PIPE_BUF 512
#endif

enum { SEND_LIMIT_MS = 30000 };

void channel_open(struct channel *channel, int in, int out)
{
    memset(channel, 0, offsetof(struct channel, decoder.bytes));
    channel->in = in;
    channel->out = out;
}

int channel_receive(struct channel *channel, int limit_ms)
{
    struct pollfd wait = {channel->in, POLLIN, 0};
    uint8_t *space;
    size_t room;
    ssize_t got;
    int ready;

    if (channel->ended)
        return -1;
    space = frame_space(&channel->decoder, &room);
    if (room == 0)
        return 0;
    ready = poll(&wait, 1, limit_ms);
    if (ready < 0 && errno != EINTR)
        channel->ended = 1;
    if (ready <= 0)
        return channel->ended ? -1 : 0;
    got = read(channel->in, space, room);
    if (got > 0) {
        frame_fed(&channel->decoder, (size_t)got);
        return 1;
    }
    if (got < 0 && (errno == EINTR || errno == EAGAIN))
        return 0;
    channel->ended = 1; /* end of file, or EIO of a line that hung up */
    return -1;
}

int channel_send(struct channel *channel, const uint8_t *bytes, size_t size)
{
    uint64_t moved_at = milliseconds();
    while (size > 0) {
        struct pollfd wait = {channel->out, POLLOUT, 0};
        /* No more than PIPE_BUF at once: so much fits without blocking whenever poll says that there is room. */
        size_t chunk = size < PIPE_BUF ? size : PIPE_BUF;
        ssize_t sent;
        int ready;
        if (channel->ended || agent_stopping || milliseconds() - moved_at > SEND_LIMIT_MS)
            return -1;
        ready = poll(&wait, 1, 1000);
        if (ready < 0 && errno != EINTR)
            return -1;
        if (ready <= 0)
            continue;
        sent = write(channel->out, bytes, chunk);
        if (sent < 0 && errno != EINTR && errno != EAGAIN) {
            channel->ended = 1;
            return -1;
        }
        if (sent > 0) {
            bytes += sent;
            size -= (size_t)sent;
            moved_at = milliseconds();
        } else if (sent < 0 && errno == EAGAIN) {
            pause_for(5); /* some ttys say POLLOUT and take nothing */
        }
    }
    return 0;
}

int channel_look(struct channel *channel, uint32_t current)
{
    struct frame frame;
    for (;;) {
        switch (frame_next(&channel->decoder, &frame)) {
        case FRAME_NONE:
            if (channel_receive(channel, 0) <= 0)
                return channel->ended || agent_stopping ? ECANCELED : 0;
            break;
        case FRAME_GOOD:
            if (frame.kind == KIND_REQUEST && frame.request != current && frame.operation != OPERATION_RESEND)
                return ECANCELED;
            frame_consume(&channel->decoder);
            break;
        case FRAME_BAD_CHECK:
        case FRAME_TOO_LONG:
            break; /* passed over; the host asks again */
        }
    }
}
