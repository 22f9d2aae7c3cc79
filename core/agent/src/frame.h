/* Frames: how requests and answers travel (PROTOCOL.md). No I/O, no allocation: this part is fuzzed alone. */
#ifndef VMATLAS_FRAME_H
#define VMATLAS_FRAME_H

#include <stddef.h>
#include <stdint.h>

enum {
    PROTOCOL_VERSION = 1,
    FRAME_HEADER = 28,
    FRAME_TRAILER = 4,
    FRAME_PAYLOAD = 32768, /* the bound of a payload */
    FRAME_LIMIT = FRAME_HEADER + FRAME_PAYLOAD + FRAME_TRAILER
};

/* The one operation that the conversation itself must know: it does not end the answer in progress. */
enum { OPERATION_RESEND = 10 };

enum frame_kind { KIND_REQUEST = 1, KIND_DATA = 2, KIND_END = 3, KIND_ERROR = 4 };

struct frame {
    uint8_t version;
    uint8_t kind;
    uint16_t operation;
    uint32_t request;
    uint32_t sequence;
    uint32_t process;
    uint32_t length;
    const uint8_t *payload; /* inside the decoder: valid until frame_consume or frame_fed */
};

enum frame_event {
    FRAME_NONE,      /* more bytes are needed */
    FRAME_GOOD,      /* a frame; frame_consume when done with it */
    FRAME_BAD_CHECK, /* a sync was followed by bytes that fail a CRC; already passed over */
    FRAME_TOO_LONG   /* a sound header announced more than FRAME_PAYLOAD bytes; already passed over */
};

struct frame_decoder {
    size_t start, end; /* what is not yet consumed: bytes[start..end) */
    uint8_t bytes[FRAME_LIMIT];
};

uint32_t crc32_of(const uint8_t *bytes, size_t size);

/* Where the next bytes of the stream go, and how many fit: never 0 after frame_next returned FRAME_NONE. */
uint8_t *frame_space(struct frame_decoder *decoder, size_t *room);
void frame_fed(struct frame_decoder *decoder, size_t size);

/* Looks for the next frame. After FRAME_BAD_CHECK and FRAME_TOO_LONG `frame` holds the header if that was sound, else request 0. */
enum frame_event frame_next(struct frame_decoder *decoder, struct frame *frame);
void frame_consume(struct frame_decoder *decoder);

/* True when a frame has begun and its rest is awaited; frame_cut gives it up, so that frame_next searches inside it. */
int frame_is_partial(const struct frame_decoder *decoder);
void frame_cut(struct frame_decoder *decoder);

/* Writes header and trailer around the payload that stands at bytes + FRAME_HEADER; returns the size of the whole. */
size_t frame_seal(uint8_t *bytes, const struct frame *frame);

uint16_t read_u16(const uint8_t *bytes);
uint32_t read_u32(const uint8_t *bytes);
uint64_t read_u64(const uint8_t *bytes);
void write_u16(uint8_t *bytes, uint16_t value);
void write_u32(uint8_t *bytes, uint32_t value);
void write_u64(uint8_t *bytes, uint64_t value);

#endif
