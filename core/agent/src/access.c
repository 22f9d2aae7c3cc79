#include "access.h"

#include <errno.h>

#include "guard.h"

/* How much was reached, or -1 after a fault. */
static void answer_access(struct answer *answer, int64_t done)
{
    answer_result(answer, done, done < 0 ? EFAULT : 0, done < 0 ? last_fault() : 0);
}

void do_touch(struct reader *reader, struct answer *answer)
{
    uintptr_t address = take_address(reader);
    size_t length = take_size(reader);
    int write = take_u8(reader);
    uint8_t value = take_u8(reader);
    refuse_wrapping(reader, address, length);
    if (reader_holds(reader, answer))
        answer_access(answer, touch_pages(address, length, write, value));
}

void do_peek(struct reader *reader, struct answer *answer)
{
    static uint8_t bytes[16384];
    uintptr_t address = take_address(reader);
    size_t left = take_u32(reader);
    int error = 0;
    refuse_wrapping(reader, address, left);
    if (!reader_holds(reader, answer))
        return;
    while (left > 0 && error == 0) {
        size_t chunk = left < sizeof bytes ? left : sizeof bytes;
        if (copy_guarded((uintptr_t)bytes, address, chunk) != 0) {
            answer_error(answer, ORIGIN_KERNEL, EFAULT, "reading memory");
            return;
        }
        error = answer_put(answer, "memory", 0, bytes, chunk);
        address += chunk;
        left -= chunk;
    }
    answer_conclude(answer, error);
}

void do_poke(struct reader *reader, struct answer *answer)
{
    uintptr_t address = take_address(reader);
    size_t size = reader_left(reader);
    refuse_wrapping(reader, address, size);
    if (reader_holds(reader, answer))
        answer_access(answer, copy_guarded(address, (uintptr_t)reader->at, size) == 0 ? (int64_t)size : -1);
}
