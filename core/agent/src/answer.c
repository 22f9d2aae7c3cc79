#include "answer.h"

#include <errno.h>
#include <string.h>

#include "clock.h"
#include "errno_name.h"
#include "pieces.h"

enum { SIGN_OF_LIFE_MS = 500, RESULT_ROOM = 96 };

static uint8_t kept[FRAME_HEADER + RESULT_ROOM + FRAME_TRAILER];
static size_t kept_size;
static uint32_t kept_request;
static uint16_t kept_operation;

/* Seals the frame around a payload that stands in place, and sends it. */
static int send_frame(struct answer *answer, uint8_t *bytes, uint8_t kind, size_t length)
{
    struct frame frame = {PROTOCOL_VERSION, kind, 0, 0, 0, 0, 0, NULL};
    size_t size;
    frame.operation = answer->operation;
    frame.request = answer->request;
    frame.sequence = answer->sequence++;
    frame.length = (uint32_t)length;
    size = frame_seal(bytes, &frame);
    answer->sent_at = milliseconds();
    if (kind == KIND_END && answer->keep && size <= sizeof kept) {
        memcpy(kept, bytes, size);
        kept_size = size;
        kept_request = answer->request;
        kept_operation = answer->operation;
    }
    if (answer->remember)
        pieces_keep(frame.sequence, bytes, size);
    return channel_send(answer->channel, bytes, size);
}

int answer_again(struct channel *channel, const struct frame *request)
{
    if (kept_size == 0 || kept_request != request->request || kept_operation != request->operation)
        return 0;
    (void)channel_send(channel, kept, kept_size);
    return 1;
}

void answer_forget(void) { kept_size = 0; }

static int flush_slot(struct answer *answer, struct slot *slot)
{
    size_t used = slot->used;
    slot->used = 0;
    if (used == 0)
        return 0;
    return send_frame(answer, slot->frame, KIND_DATA, used) == 0 ? 0 : ECANCELED;
}

static int flush_all(struct answer *answer)
{
    int error = flush_slot(answer, &answer->slots[0]);
    return error != 0 ? error : flush_slot(answer, &answer->slots[1]);
}

/* The slot that collects this part of this stream; one that is full or was another's is sent first. */
static struct slot *slot_for(struct answer *answer, const char *stream, unsigned part, int *error)
{
    struct slot *slots = answer->slots, *slot;
    size_t length = strlen(stream);
    for (int i = 0; i < 2; i++)
        if (slots[i].used > 0 && slots[i].part == part && strcmp(slots[i].stream, stream) == 0)
            return &slots[i];
    slot = slots[0].used == 0 || (slots[1].used > 0 && slots[0].used >= slots[1].used) ? &slots[0] : &slots[1];
    *error = flush_slot(answer, slot);
    slot->part = part;
    memcpy(slot->stream, stream, length + 1);
    slot->frame[FRAME_HEADER] = (uint8_t)part;
    slot->frame[FRAME_HEADER + 1] = (uint8_t)length;
    memcpy(slot->frame + FRAME_HEADER + 2, stream, length);
    slot->used = 2 + length;
    return slot;
}

int answer_put(struct answer *answer, const char *stream, unsigned part, const void *bytes, size_t size)
{
    const uint8_t *from = bytes;
    int error = 0;
    if (strlen(stream) >= sizeof answer->slots[0].stream || part > 255)
        return EINVAL;
    while (size > 0 && error == 0) {
        struct slot *slot = slot_for(answer, stream, part, &error);
        size_t room = answer->room - slot->used, chunk = size < room ? size : room;
        memcpy(slot->frame + FRAME_HEADER + slot->used, from, chunk);
        slot->used += chunk;
        from += chunk;
        size -= chunk;
        if (slot->used == answer->room && error == 0) {
            error = flush_slot(answer, slot);
            if (error == 0)
                error = channel_look(answer->channel, answer->request);
        }
    }
    if (error == 0 && milliseconds() - answer->sent_at > SIGN_OF_LIFE_MS) {
        error = flush_all(answer);
        if (error == 0)
            error = channel_look(answer->channel, answer->request);
    }
    return error;
}

int answer_frame(struct answer *answer, const char *stream, const void *bytes, size_t size)
{
    int error = flush_all(answer);
    if (error == 0)
        error = channel_look(answer->channel, answer->request);
    return error != 0 ? error : answer_put(answer, stream, 0, bytes, size);
}

void answer_in_pieces(struct answer *answer, uint32_t size)
{
    if (size == 0)
        return;
    answer->room = size;
    answer->remember = 1;
}

static int put(struct source_sink *sink, const char *stream, unsigned part, const void *bytes, size_t size)
{
    return answer_put((struct answer *)(void *)sink, stream, part, bytes, size);
}

void answer_begin(struct answer *answer, struct channel *channel, const struct frame *request)
{
    answer->sink.put = put;
    answer->sink.failed[0] = '\0';
    answer->sink.refused = 0;
    answer->channel = channel;
    answer->operation = request->operation;
    answer->request = request->request;
    answer->sequence = 0;
    answer->sent_at = milliseconds();
    answer->finished = 0;
    answer->keep = 0;
    answer->remember = 0;
    answer->room = FRAME_PAYLOAD;
    answer->slots[0].used = 0;
    answer->slots[1].used = 0;
}

/* Sends the last frame of an answer, after what is still in the slots. */
static void finish(struct answer *answer, uint8_t kind, const void *payload, size_t size)
{
    struct slot *slot = &answer->slots[0];
    (void)flush_all(answer);
    if (size > FRAME_PAYLOAD)
        size = FRAME_PAYLOAD;
    if (size > 0)
        memcpy(slot->frame + FRAME_HEADER, payload, size);
    (void)send_frame(answer, slot->frame, kind, size);
    answer->finished = 1;
}

void answer_end(struct answer *answer, const void *payload, size_t size) { finish(answer, KIND_END, payload, size); }

void answer_error(struct answer *answer, int origin, int error, const char *what)
{
    uint8_t payload[256];
    const char *name = errno_name(error);
    size_t name_size = strlen(name), what_size = strlen(what), at = 0;
    if (what_size > 192)
        what_size = 192;
    payload[at] = (uint8_t)origin;
    write_u32(payload + at + 1, (uint32_t)error);
    payload[at + 5] = (uint8_t)name_size;
    memcpy(payload + at + 6, name, name_size);
    at += 6 + name_size;
    write_u16(payload + at, (uint16_t)what_size);
    memcpy(payload + at + 2, what, what_size);
    finish(answer, KIND_ERROR, payload, at + 2 + what_size);
}

void answer_result(struct answer *answer, int64_t value, int error, uint64_t detail)
{
    answer_result_with(answer, value, error, detail, NULL, 0);
}

void answer_result_with(struct answer *answer, int64_t value, int error, uint64_t detail, const uint8_t *more, size_t more_size)
{
    uint8_t payload[RESULT_ROOM];
    const char *name = error != 0 ? errno_name(error) : "";
    size_t size = strlen(name);
    if (13 + size + 8 + more_size > sizeof payload)
        more_size = 0;
    write_u64(payload, (uint64_t)value);
    write_u32(payload + 8, (uint32_t)error);
    payload[12] = (uint8_t)size;
    memcpy(payload + 13, name, size);
    write_u64(payload + 13 + size, detail);
    if (more_size > 0)
        memcpy(payload + 13 + size + 8, more, more_size);
    answer_end(answer, payload, 13 + size + 8 + more_size);
}

void answer_call(struct answer *answer, int64_t value) { answer_result(answer, value, value == -1 ? errno : 0, 0); }

void answer_conclude(struct answer *answer, int error)
{
    if (error == 0)
        answer_end(answer, NULL, 0);
    else if (error == ECANCELED)
        answer_error(answer, ORIGIN_AGENT, error, "another request came");
    else
        answer_error(answer, answer->sink.refused ? ORIGIN_AGENT : ORIGIN_KERNEL, error, answer->sink.failed);
}

int answer_interrupted(struct answer *answer)
{
    int error = channel_look(answer->channel, answer->request);
    if (error != 0)
        answer_conclude(answer, error);
    return error != 0;
}
