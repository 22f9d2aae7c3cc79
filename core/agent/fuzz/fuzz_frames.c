/* The decoder of frames alone eats arbitrary streams in arbitrary pieces. Claims, besides those of the sanitizers: a frame that is
 * given out holds by its own CRCs and is within bounds; room never runs out; everything ends; pieces make no difference. */
#include "frame.h"
#include "input.h"

enum { STREAM_ROOM = 6 * FRAME_LIMIT };

static size_t make_stream(struct input *input, uint8_t *bytes)
{
    size_t used = 0;
    while (input->left > 0 && STREAM_ROOM - used >= FRAME_LIMIT) {
        uint32_t kind = take_byte(input), length = take_byte(input);
        size_t size;
        if (kind < 64) {
            size = length < input->left ? length : input->left;
            take_bytes(input, bytes + used, size);
        } else {
            struct frame frame = {1, (uint8_t)kind, (uint16_t)length, 0, 0, 0, 0, NULL};
            frame.request = take_byte(input);
            frame.length = length < 250 ? length : FRAME_PAYLOAD - (length - 250);
            take_bytes(input, bytes + used + FRAME_HEADER, frame.length);
            size = frame_seal(bytes + used, &frame);
            if (kind == 255) { /* a sound header of any length */
                write_u32(bytes + used + 20, take_word(input) << (take_byte(input) % 17));
                write_u32(bytes + used + 24, crc32_of(bytes + used, 24));
            }
            if (kind == 254)
                bytes[used + take_word(input) % size] ^= (uint8_t)(1U << take_byte(input) % 8);
            if (kind == 253)
                size = take_word(input) % size;
        }
        used += size;
    }
    return used;
}

struct outcome {
    uint32_t good, sum; /* frames, and a checksum over their headers and payloads */
};

/* `pieces` decides how much comes at a time; once nothing is left, what is cut short is given up. */
static struct outcome decode(const uint8_t *stream, size_t size, struct input pieces)
{
    static struct frame_decoder decoder;
    struct outcome outcome = {0, 0};
    size_t at = 0;
    memset(&decoder, 0, sizeof decoder);
    for (;;) {
        struct frame frame;
        enum frame_event event = frame_next(&decoder, &frame);
        if (event == FRAME_GOOD) {
            uint8_t *copy = malloc(frame.length + 1U); /* of the exact size: a read beyond it is seen */
            CLAIM(copy != NULL && frame.length <= FRAME_PAYLOAD);
            memcpy(copy, frame.payload, frame.length);
            CLAIM(crc32_of(copy, frame.length) == read_u32(frame.payload + frame.length));
            outcome.sum = outcome.sum * 31 + crc32_of(copy, frame.length) + frame.request + frame.operation;
            outcome.good++;
            free(copy);
            frame_consume(&decoder);
        } else if (event == FRAME_NONE) {
            size_t room, chunk;
            uint8_t *space;
            if (at == size) {
                if (!frame_is_partial(&decoder))
                    return outcome;
                frame_cut(&decoder);
                continue;
            }
            space = frame_space(&decoder, &room);
            CLAIM(room > 0);
            chunk = pieces.left > 0 ? 1 + take_byte(&pieces) * 7U : room;
            chunk = chunk < room ? chunk : room;
            chunk = chunk < size - at ? chunk : size - at;
            memcpy(space, stream + at, chunk);
            frame_fed(&decoder, chunk);
            at += chunk;
        } else {
            CLAIM(event == FRAME_TOO_LONG || frame.length <= FRAME_PAYLOAD);
        }
        CLAIM(decoder.start <= decoder.end && decoder.end <= sizeof decoder.bytes);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t stream[STREAM_ROOM];
    struct input input = {data, size}, pieces, whole = {data, 0};
    struct outcome in_pieces, at_once;
    size_t used;
    size_t wanted = take_byte(&input);
    pieces = split_input(&input, wanted);
    used = make_stream(&input, stream);
    in_pieces = decode(stream, used, pieces);
    at_once = decode(stream, used, whole);
    CLAIM(in_pieces.good == at_once.good && in_pieces.sum == at_once.sum);
    return 0;
}
