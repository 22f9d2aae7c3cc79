#include "processes.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "system.h"

enum { MOST_ADDRESSES = 4000, MOST_RANGES = 1024 };

void do_processes(struct reader *reader, struct answer *answer)
{
    uint32_t pid = reader_left(reader) > 0 ? take_u32(reader) : 0;
    if (reader_holds(reader, answer))
        answer_conclude(answer, system_processes(&answer->sink, pid));
}

static const struct source *find_source(const char *name)
{
    for (size_t i = 0; agent_sources[i] != NULL; i++)
        for (const struct source *source = agent_sources[i]; source->name != NULL; source++)
            if (strcmp(source->name, name) == 0)
                return source;
    return NULL;
}

static const struct source *take_source(struct reader *reader, struct source_question *question)
{
    char name[256];
    take_text8(reader, name, sizeof name);
    memset(question, 0, sizeof *question);
    question->pid = take_u32(reader);
    if (question->pid == 0)
        question->pid = (uint32_t)getpid();
    question->tid = take_u32(reader);
    question->flags = take_u64(reader);
    return find_source(name);
}

void do_acquire(struct reader *reader, struct answer *answer)
{
    struct source_question question;
    const struct source *source = take_source(reader, &question);
    question.address = take_u64(reader);
    question.end = take_u64(reader);
    question.limit = take_u32(reader);
    question.want = take_u32(reader);
    if (!reader_holds(reader, answer))
        return;
    if (source == NULL)
        answer_error(answer, ORIGIN_AGENT, ENOENT, "this agent has no such source");
    else
        answer_conclude(answer, source->acquire(&question, &answer->sink));
}

void do_query(struct reader *reader, struct answer *answer)
{
    static uint64_t addresses[MOST_ADDRESSES];
    struct source_question question;
    const struct source *source = take_source(reader, &question);
    uint32_t count;
    question.want = take_u32(reader);
    count = take_u32(reader);
    if (count > MOST_ADDRESSES) {
        answer_error(answer, ORIGIN_AGENT, E2BIG, "more than 4000 addresses");
        return;
    }
    for (uint32_t i = 0; i < count; i++)
        addresses[i] = take_u64(reader);
    if (!reader_holds(reader, answer))
        return;
    if (source == NULL)
        answer_error(answer, ORIGIN_AGENT, ENOENT, "this agent has no such source");
    else if (source->query == NULL)
        answer_error(answer, ORIGIN_AGENT, ENOTSUP, "this source cannot be asked about single addresses");
    else
        answer_conclude(answer, source->query(&question, addresses, count, &answer->sink));
}

void do_advise_process(struct reader *reader, struct answer *answer)
{
    static uint64_t pairs[2 * MOST_RANGES];
    uint32_t pid = take_u32(reader), advice, flags, count;
    uint64_t start_time = take_u64(reader);
    advice = take_u32(reader);
    flags = take_u32(reader);
    count = take_u32(reader);
    if (count > MOST_RANGES) {
        answer_error(answer, ORIGIN_AGENT, E2BIG, "more than 1024 ranges");
        return;
    }
    for (uint32_t i = 0; i < 2 * count; i++)
        pairs[i] = take_u64(reader);
    if (!reader_holds(reader, answer))
        return;
    if (pid == 0)
        pid = (uint32_t)getpid();
    answer_call(answer, system_advise_process(pid, start_time, (int)advice, flags, pairs, count));
}
