/* The fields of a request, read from front to back without trust. */
#ifndef VMATLAS_READER_H
#define VMATLAS_READER_H

#include <stddef.h>
#include <stdint.h>

#include "answer.h"

enum { TEXT_ROOM = 4097 /* a path of 4,096 bytes and its NUL */ };

struct reader {
    const uint8_t *at, *end;
    int bad; /* too short, a text too long or with a NUL inside, a number that does not fit this machine */
};

uint8_t take_u8(struct reader *reader);
uint32_t take_u32(struct reader *reader);
uint64_t take_u64(struct reader *reader);
uintptr_t take_address(struct reader *reader);
size_t take_size(struct reader *reader);
void take_text8(struct reader *reader, char *text, size_t room);
void take_text16(struct reader *reader, char *text, size_t room);
size_t reader_left(const struct reader *reader);
/* Makes the request bad when the range goes beyond the last address: for operations that walk it themselves. */
void refuse_wrapping(struct reader *reader, uintptr_t address, size_t length);
/* 1 when all fields could be read; otherwise answers with EINVAL and gives 0. */
int reader_holds(const struct reader *reader, struct answer *answer);

#endif
