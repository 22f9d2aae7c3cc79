/* Feeds frame.c with mutated streams under the sanitizers. A generator of fixed seed, so a failure can be had again.
 * Claims: a frame that is given out holds by its own CRCs and is within bounds; room never runs out; everything ends. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "frame.h"

static uint64_t state;

static uint32_t draw(uint32_t below)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)((state >> 16) % below);
}

static size_t make_stream(uint8_t *bytes, size_t room)
{
    size_t used = 0;
    uint32_t pieces = 1 + draw(5);
    while (pieces-- > 0 && room - used > FRAME_LIMIT) {
        if (draw(3) == 0) {
            for (uint32_t left = draw(200); left > 0; left--)
                bytes[used++] = (uint8_t)draw(256);
        } else {
            struct frame frame = {1, (uint8_t)draw(6), (uint16_t)draw(60), draw(9), 0, 0, 0, NULL};
            size_t size;
            frame.length = draw(4) != 0 ? draw(100) : draw(FRAME_PAYLOAD + 1);
            for (uint32_t i = 0; i < frame.length; i++)
                bytes[used + FRAME_HEADER + i] = (uint8_t)draw(256);
            size = frame_seal(bytes + used, &frame);
            if (draw(8) == 0) { /* a sound header with a length of any size */
                write_u32(bytes + used + 20, draw(2) != 0 ? 0xffffffffU : draw(0xffffffffU));
                write_u32(bytes + used + 24, crc32_of(bytes + used, 24));
            }
            used += draw(6) == 0 ? draw((uint32_t)size) : (uint32_t)size;
        }
    }
    for (uint32_t flips = draw(4); flips > 0 && used > 0; flips--)
        bytes[draw((uint32_t)used)] ^= (uint8_t)(1U << draw(8));
    return used;
}

int main(int argc, char **argv)
{
    static uint8_t stream[8 * FRAME_LIMIT];
    unsigned long rounds = argc > 1 ? strtoul(argv[1], NULL, 10) : 1000, good = 0, bad = 0, cut = 0;
    state = argc > 2 ? strtoull(argv[2], NULL, 10) : 88172645463325252ULL;
    for (unsigned long round = 0; round < rounds; round++) {
        static struct frame_decoder decoder;
        size_t size = make_stream(stream, sizeof stream), at = 0;
        memset(&decoder, 0, sizeof decoder);
        for (;;) {
            struct frame frame;
            enum frame_event event = frame_next(&decoder, &frame);
            if (event == FRAME_GOOD) {
                uint8_t *copy = malloc(frame.length + 1U); /* of the exact size: a read beyond it is seen */
                if (frame.length > FRAME_PAYLOAD || copy == NULL)
                    abort();
                memcpy(copy, frame.payload, frame.length);
                if (crc32_of(copy, frame.length) != read_u32(frame.payload + frame.length))
                    abort();
                free(copy);
                frame_consume(&decoder);
                good++;
            } else if (event == FRAME_NONE) {
                size_t room, chunk;
                uint8_t *space;
                if (at == size) {
                    if (!frame_is_partial(&decoder))
                        break;
                    frame_cut(&decoder);
                    cut++;
                    continue;
                }
                space = frame_space(&decoder, &room);
                if (room == 0)
                    abort();
                chunk = 1 + draw(draw(2) != 0 ? 64 : 40000);
                chunk = chunk < room ? chunk : room;
                chunk = chunk < size - at ? chunk : size - at;
                memcpy(space, stream + at, chunk);
                frame_fed(&decoder, chunk);
                at += chunk;
            } else {
                if (frame.length > FRAME_PAYLOAD && event != FRAME_TOO_LONG)
                    abort();
                bad++;
            }
            if (decoder.start > decoder.end || decoder.end > sizeof decoder.bytes)
                abort();
        }
    }
    printf("good %lu bad %lu cut %lu\n", good, bad, cut);
    return good > 0 && bad > 0 && cut > 0 ? 0 : 1;
}
