#include "pieces.h"

#include <string.h>

enum { MEMORY = 1 << 20, LEAST = 128, MOST = 4096 };

static uint8_t memory[MEMORY]; /* one place after another, each for a frame of `piece` bytes of payload */
static uint32_t piece;         /* 0: frames are large, and nothing is remembered */
static uint32_t of_request;    /* whose answer it is; 0: none's */
static uint16_t of_operation;
static uint32_t frames; /* of that answer, from the first on */
static int lacks;       /* it has more, or larger ones, than there is room for */

static size_t place_size(void) { return FRAME_HEADER + (size_t)piece + FRAME_TRAILER; }

uint32_t pieces_choose(uint32_t size)
{
    of_request = 0;
    piece = size == 0 ? 0 : size < LEAST ? LEAST : size > MOST ? MOST : size;
    return piece;
}

uint32_t pieces_begin(const struct frame *request)
{
    if (piece == 0)
        return 0;
    of_request = request->request;
    of_operation = request->operation;
    frames = 0;
    lacks = 0;
    return piece;
}

void pieces_keep(uint32_t sequence, const uint8_t *frame, size_t size)
{
    if (lacks || sequence != frames || size > place_size() || (frames + 1) * place_size() > MEMORY) {
        lacks = 1;
        return;
    }
    memcpy(memory + frames * place_size(), frame, size);
    frames++;
}

int pieces_are_of(const struct frame *request)
{
    return of_request != 0 && request->request == of_request && request->operation == of_operation;
}

const uint8_t *pieces_find(uint32_t request, uint32_t sequence, size_t *size)
{
    const uint8_t *frame = memory + sequence * place_size();
    if (of_request == 0 || request != of_request || lacks || sequence >= frames)
        return NULL;
    *size = FRAME_HEADER + (size_t)read_u32(frame + 20) + FRAME_TRAILER;
    return frame;
}
