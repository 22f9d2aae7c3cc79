#include "dispatch.h"

#include <errno.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "access.h"
#include "children.h"
#include "files.h"
#include "life.h"
#include "memory.h"
#include "pieces.h"
#include "processes.h"
#include "session.h"
#include "system.h"
#include "text.h"
#include "watch.h"

uint32_t largest_request = FRAME_PAYLOAD;

/* An operation that changes something is done once: its result is remembered and said again to a repeat. */
enum effect { ASKS, CHANGES };

struct operation {
    uint16_t number;
    enum effect effect;
    const char *name;
    void (*run)(struct reader *reader, struct answer *answer);
};

static void do_hello(struct reader *reader, struct answer *answer);

static const struct operation operations[] = {
    {1, ASKS, "hello", do_hello},
    {2, ASKS, "ping", do_ping},
    {3, ASKS, "sleep", do_sleep},
    {4, ASKS, "processes", do_processes},
    {5, ASKS, "acquire", do_acquire},
    {6, ASKS, "query", do_query},
    {7, CHANGES, "advise_process", do_advise_process},
    {8, CHANGES, "shutdown", do_shutdown},
    {9, ASKS, "pieces", do_pieces},
    {10, ASKS, "resend", do_resend},

    {16, CHANGES, "map", do_map},
    {17, CHANGES, "unmap", do_unmap},
    {18, CHANGES, "protect", do_protect},
    {19, CHANGES, "lock", do_lock},
    {20, CHANGES, "unlock", do_unlock},
    {21, CHANGES, "advise", do_advise},
    {22, CHANGES, "move", do_move},
    {23, CHANGES, "touch", do_touch},
    {24, CHANGES, "name", do_name},
    {25, ASKS, "peek", do_peek},
    {26, CHANGES, "poke", do_poke},
    {27, CHANGES, "lock_all", do_lock_all},
    {28, CHANGES, "protect_every", do_protect_every},
    {29, CHANGES, "flush", do_flush},
    {30, CHANGES, "watch", do_watch},
    {31, CHANGES, "unwatch", do_unwatch},

    {32, CHANGES, "write_file", do_write_file},
    {33, CHANGES, "unlink", do_unlink},
    {34, ASKS, "read_file", do_read_file},
    {35, ASKS, "list_folder", do_list_folder},
    {36, ASKS, "stat_file", do_stat_file},
    {37, ASKS, "read_link", do_read_link},
    {38, ASKS, "look_up", do_look_up},

    {48, CHANGES, "spawn", do_spawn},
    {49, CHANGES, "end", do_end},
    {50, CHANGES, "reap", do_reap},
    {51, CHANGES, "become", do_become},
    {52, CHANGES, "limit", do_limit},
};
enum { OPERATIONS = sizeof operations / sizeof operations[0] };

static int greeted; /* a host said hello to this very process */

static const struct operation *find_operation(uint16_t number)
{
    for (size_t i = 0; i < OPERATIONS; i++)
        if (operations[i].number == number)
            return &operations[i];
    return NULL;
}

void dispatch(const struct frame *request, const uint8_t *payload, struct answer *answer)
{
    const struct operation *operation = find_operation(request->operation);
    struct reader reader;
    reader.at = payload;
    reader.end = payload + request->length;
    reader.bad = 0;
    if (operation == NULL) {
        answer_error(answer, ORIGIN_AGENT, ENOSYS, "unknown operation");
        return;
    }
    if (operation->effect == CHANGES && !greeted && agent_role != ROLE_CHILD) {
        /* The host speaks to an agent that died; what it built on is gone, and a repeat must not be done by another. */
        answer_error(answer, ORIGIN_AGENT, ENOTCONN, "no hello was said to this agent: it was started anew");
        return;
    }
    if (operation->effect == CHANGES) {
        answer_forget();
        answer->keep = 1;
    }
    if (operation->effect == ASKS && operation->run != do_hello && operation->run != do_pieces && operation->run != do_resend)
        answer_in_pieces(answer, pieces_begin(request));
    operation->run(&reader, answer);
    if (!answer->finished)
        answer_error(answer, ORIGIN_AGENT, ENOSYS, "the operation gave no answer");
}

/* ---- hello: what this agent is and can do ---- */

static const char *role_name(void)
{
    return agent_role == ROLE_INIT ? "init" : agent_role == ROLE_CHILD ? "child" : "agent";
}

static const char *byte_order(void)
{
    const uint16_t one = 1;
    uint8_t first;
    memcpy(&first, &one, 1);
    return first == 1 ? "little" : "big";
}

/* Words are separated by spaces; one that does not fit is left out. */
static void add_word(char *words, size_t room, const char *word)
{
    size_t used = strlen(words);
    if (used + 1 + strlen(word) + 1 > room)
        return;
    if (used > 0)
        add_text(words, room, " ");
    add_text(words, room, word);
}

static void add_machine(struct fields *fields)
{
    struct utsname system;
    memset(&system, 0, sizeof system);
    (void)uname(&system);
    add_field(fields, "system", system.sysname);
    add_field(fields, "release", system.release);
    add_field(fields, "version", system.version);
    add_field(fields, "machine", system.machine);
    add_field(fields, "byte_order", byte_order());
    add_number_field(fields, "pointer_bits", 8 * sizeof(void *));
    add_number_field(fields, "page_size", (uint64_t)sysconf(_SC_PAGESIZE));
    system_hello(fields);
}

static void add_abilities(struct fields *fields)
{
    char words[2048] = "";
    for (size_t i = 0; agent_sources[i] != NULL; i++)
        for (const struct source *source = agent_sources[i]; source->name != NULL; source++)
            add_word(words, sizeof words, source->name);
    add_field(fields, "sources", words);
    words[0] = '\0';
    for (size_t i = 0; i < OPERATIONS; i++)
        add_word(words, sizeof words, operations[i].name);
    add_field(fields, "operations", words);
}

static void do_hello(struct reader *reader, struct answer *answer)
{
    static uint8_t bytes[8192];
    struct fields fields;
    (void)reader;
    answer_forget();
    (void)pieces_choose(0);
    greeted = 1;
    fields_begin(&fields, bytes, sizeof bytes);
    add_number_field(&fields, "protocol", PROTOCOL_VERSION);
    add_field(&fields, "agent", AGENT_VERSION);
    add_field(&fields, "role", role_name());
    add_number_field(&fields, "pid", (uint64_t)getpid());
    add_number_field(&fields, "user", (uint64_t)geteuid());
    add_number_field(&fields, "max_payload", largest_request);
    add_machine(&fields);
    add_abilities(&fields);
    answer_end(answer, bytes, fields.used);
}
