#include "reader.h"

#include <errno.h>
#include <string.h>

size_t reader_left(const struct reader *reader) { return (size_t)(reader->end - reader->at); }

static const uint8_t *take(struct reader *reader, size_t size)
{
    static const uint8_t zeros[8];
    const uint8_t *at = reader->at;
    if (reader->bad || reader_left(reader) < size) {
        reader->bad = 1;
        return zeros;
    }
    reader->at += size;
    return at;
}

uint8_t take_u8(struct reader *reader) { return take(reader, 1)[0]; }
uint32_t take_u32(struct reader *reader) { return read_u32(take(reader, 4)); }
uint64_t take_u64(struct reader *reader) { return read_u64(take(reader, 8)); }

uintptr_t take_address(struct reader *reader)
{
    uint64_t value = take_u64(reader);
    if (value > UINTPTR_MAX)
        reader->bad = 1;
    return (uintptr_t)value;
}

size_t take_size(struct reader *reader)
{
    uint64_t value = take_u64(reader);
    if (value > SIZE_MAX)
        reader->bad = 1;
    return (size_t)value;
}

static void take_text(struct reader *reader, size_t length, char *text, size_t room)
{
    text[0] = '\0';
    if (length >= room || reader_left(reader) < length || memchr(reader->at, 0, length) != NULL)
        reader->bad = 1;
    if (reader->bad)
        return;
    memcpy(text, reader->at, length);
    text[length] = '\0';
    reader->at += length;
}

void take_text8(struct reader *reader, char *text, size_t room) { take_text(reader, take_u8(reader), text, room); }

void take_text16(struct reader *reader, char *text, size_t room)
{
    take_text(reader, read_u16(take(reader, 2)), text, room);
}

void refuse_wrapping(struct reader *reader, uintptr_t address, size_t length)
{
    if (length > 0 && address > UINTPTR_MAX - (length - 1))
        reader->bad = 1;
}

int reader_holds(const struct reader *reader, struct answer *answer)
{
    if (reader->bad)
        answer_error(answer, ORIGIN_AGENT, EINVAL, "the request is too short, or a number or text in it does not fit here");
    return !reader->bad;
}
