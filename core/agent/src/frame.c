#include "frame.h"

#include <string.h>

static const uint8_t SYNC[4] = {0x9d, 0x56, 0x4d, 0xa5};

uint32_t crc32_of(const uint8_t *bytes, size_t size)
{
    static uint32_t table[256];
    uint32_t crc = 0xffffffffU;
    if (table[1] == 0) {
        for (uint32_t i = 0; i < 256; i++) {
            uint32_t value = i;
            for (int bit = 0; bit < 8; bit++)
                value = (value >> 1) ^ ((value & 1U) ? 0xedb88320U : 0U);
            table[i] = value;
        }
    }
    for (size_t i = 0; i < size; i++)
        crc = (crc >> 8) ^ table[(crc ^ bytes[i]) & 0xffU];
    return crc ^ 0xffffffffU;
}

uint16_t read_u16(const uint8_t *bytes) { return (uint16_t)(bytes[0] | (unsigned)bytes[1] << 8); }

uint32_t read_u32(const uint8_t *bytes) { return read_u16(bytes) | (uint32_t)read_u16(bytes + 2) << 16; }

uint64_t read_u64(const uint8_t *bytes) { return read_u32(bytes) | (uint64_t)read_u32(bytes + 4) << 32; }

void write_u16(uint8_t *bytes, uint16_t value)
{
    bytes[0] = (uint8_t)(value & 0xffU);
    bytes[1] = (uint8_t)(value >> 8);
}

void write_u32(uint8_t *bytes, uint32_t value)
{
    write_u16(bytes, (uint16_t)(value & 0xffffU));
    write_u16(bytes + 2, (uint16_t)(value >> 16));
}

void write_u64(uint8_t *bytes, uint64_t value)
{
    write_u32(bytes, (uint32_t)(value & 0xffffffffU));
    write_u32(bytes + 4, (uint32_t)(value >> 32));
}

uint8_t *frame_space(struct frame_decoder *decoder, size_t *room)
{
    if (decoder->start > 0) {
        memmove(decoder->bytes, decoder->bytes + decoder->start, decoder->end - decoder->start);
        decoder->end -= decoder->start;
        decoder->start = 0;
    }
    *room = sizeof decoder->bytes - decoder->end;
    return decoder->bytes + decoder->end;
}

void frame_fed(struct frame_decoder *decoder, size_t size) { decoder->end += size; }

/* Moves start to the next place where a sync stands, or could stand once more bytes have come. */
static void seek_sync(struct frame_decoder *decoder)
{
    while (decoder->start < decoder->end) {
        size_t have = decoder->end - decoder->start;
        if (memcmp(decoder->bytes + decoder->start, SYNC, have < sizeof SYNC ? have : sizeof SYNC) == 0)
            return;
        decoder->start++;
    }
}

enum frame_event frame_next(struct frame_decoder *decoder, struct frame *frame)
{
    const uint8_t *bytes;
    size_t have;

    memset(frame, 0, sizeof *frame);
    seek_sync(decoder);
    bytes = decoder->bytes + decoder->start;
    have = decoder->end - decoder->start;
    if (have < FRAME_HEADER)
        return FRAME_NONE;
    if (read_u32(bytes + 24) != crc32_of(bytes, 24)) {
        decoder->start++;
        return FRAME_BAD_CHECK;
    }
    frame->version = bytes[4];
    frame->kind = bytes[5];
    frame->operation = read_u16(bytes + 6);
    frame->request = read_u32(bytes + 8);
    frame->sequence = read_u32(bytes + 12);
    frame->process = read_u32(bytes + 16);
    frame->length = read_u32(bytes + 20);
    if (frame->length > FRAME_PAYLOAD) {
        decoder->start++;
        return FRAME_TOO_LONG;
    }
    if (have < FRAME_HEADER + (size_t)frame->length + FRAME_TRAILER)
        return FRAME_NONE;
    frame->payload = bytes + FRAME_HEADER;
    if (read_u32(frame->payload + frame->length) != crc32_of(frame->payload, frame->length)) {
        decoder->start++;
        return FRAME_BAD_CHECK;
    }
    return FRAME_GOOD;
}

void frame_consume(struct frame_decoder *decoder)
{
    decoder->start += FRAME_HEADER + read_u32(decoder->bytes + decoder->start + 20) + FRAME_TRAILER;
}

int frame_is_partial(const struct frame_decoder *decoder) { return decoder->end > decoder->start; }

void frame_cut(struct frame_decoder *decoder)
{
    if (decoder->start < decoder->end)
        decoder->start++;
}

size_t frame_seal(uint8_t *bytes, const struct frame *frame)
{
    memcpy(bytes, SYNC, sizeof SYNC);
    bytes[4] = frame->version;
    bytes[5] = frame->kind;
    write_u16(bytes + 6, frame->operation);
    write_u32(bytes + 8, frame->request);
    write_u32(bytes + 12, frame->sequence);
    write_u32(bytes + 16, frame->process);
    write_u32(bytes + 20, frame->length);
    write_u32(bytes + 24, crc32_of(bytes, 24));
    write_u32(bytes + FRAME_HEADER + frame->length, crc32_of(bytes + FRAME_HEADER, frame->length));
    return FRAME_HEADER + (size_t)frame->length + FRAME_TRAILER;
}
