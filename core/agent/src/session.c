#include "session.h"

#include <errno.h>

#include "clock.h"
#include "life.h"
#include "pieces.h"
#include "system.h"

enum { MOST_SLEEP_MS = 60000, NAP_MS = 50, LAST_BYTES_MS = 200, MOST_RANGES = 256 };

void do_ping(struct reader *reader, struct answer *answer) { answer_end(answer, reader->at, reader_left(reader)); }

void do_sleep(struct reader *reader, struct answer *answer)
{
    uint32_t duration = take_u32(reader);
    uint64_t until = milliseconds() + duration;
    if (!reader_holds(reader, answer))
        return;
    if (duration > MOST_SLEEP_MS) {
        answer_error(answer, ORIGIN_AGENT, EINVAL, "a sleep of more than 60000 ms");
        return;
    }
    for (uint64_t now = milliseconds(); now < until; now = milliseconds()) {
        pause_for(until - now < NAP_MS ? (uint32_t)(until - now) : NAP_MS);
        if (answer_interrupted(answer))
            return;
    }
    answer_result(answer, 0, 0, 0);
}

void do_pieces(struct reader *reader, struct answer *answer)
{
    uint32_t size = take_u32(reader);
    if (reader_holds(reader, answer))
        answer_result(answer, (int64_t)pieces_choose(size), 0, 0);
}

void do_resend(struct reader *reader, struct answer *answer)
{
    uint32_t request = take_u32(reader);
    size_t size;
    if (!reader_holds(reader, answer))
        return;
    if (pieces_find(request, 0, &size) == NULL) {
        answer_error(answer, ORIGIN_AGENT, ENOENT, "that answer is not remembered");
        return;
    }
    for (int i = 0; i < MOST_RANGES && reader_left(reader) >= 8; i++) {
        uint32_t sequence = take_u32(reader), count = take_u32(reader);
        const uint8_t *frame;
        for (; count > 0 && (frame = pieces_find(request, sequence, &size)) != NULL; count--, sequence++) {
            int error = answer_frame(answer, "frames", frame, size);
            if (error != 0) {
                answer_conclude(answer, error);
                return;
            }
        }
    }
    answer_end(answer, NULL, 0);
}

void do_shutdown(struct reader *reader, struct answer *answer)
{
    (void)reader;
    answer_result(answer, 0, 0, 0);
    agent_stopping = 1;
    if (agent_role == ROLE_INIT) {
        pause_for(LAST_BYTES_MS); /* they leave the line */
        system_power_off();
    }
}
