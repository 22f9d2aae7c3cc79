/* The loop of the agent, and the operations that ask the kernel and change nothing. */
#include "agent.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

enum { CUT_MS = 1000, MOST_COMPLAINTS = 8, MOST_SLEEP_MS = 60000, MOST_ADDRESSES = 4000 };

volatile sig_atomic_t agent_stopping;
const char *agent_role = "agent";

static const struct operation *find_operation(uint16_t number)
{
    static const struct operation *const tables[] = {agent_operations, memory_operations, child_operations};
    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++)
        for (const struct operation *operation = tables[i]; operation->name != NULL; operation++)
            if (operation->number == number)
                return operation;
    return NULL;
}

/* ---- the loop ---- */

static struct answer current;
static int greeted; /* a host said hello to this very process */

static void run(struct channel *channel, const struct frame *request, const uint8_t *payload)
{
    const struct operation *operation = find_operation(request->operation);
    struct reader reader;
    reader.at = payload;
    reader.end = payload + request->length;
    reader.bad = 0;
    answer_begin(&current, channel, request);
    if (operation == NULL) {
        answer_error(&current, ORIGIN_AGENT, ENOSYS, "unknown operation");
        return;
    }
    if (operation->changes && !greeted && !agent_is_child) {
        /* The host speaks to an agent that died; what it built on is gone, and a repeat must not be done by another. */
        answer_error(&current, ORIGIN_AGENT, ENOTCONN, "no hello was said to this agent: it was started anew");
        return;
    }
    if (operation->changes) {
        answer_forget();
        current.keep = 1;
    }
    operation->run(&reader, &current);
    if (!current.finished)
        answer_error(&current, ORIGIN_AGENT, ENOSYS, "the operation gave no answer");
}

static void complain(struct channel *channel, const struct frame *frame, int error, const char *what)
{
    if (channel->complaints >= MOST_COMPLAINTS)
        return;
    channel->complaints++;
    answer_begin(&current, channel, frame);
    answer_error(&current, ORIGIN_AGENT, error, what);
}

/* The payload is copied out of the decoder, which goes on being filled while the request is worked on. */
static void obey(struct channel *channel, const struct frame *request)
{
    static uint8_t payload[FRAME_PAYLOAD];
    struct frame copy = *request;
    if (request->kind != KIND_REQUEST) {
        frame_consume(&channel->decoder);
        return;
    }
    if (request->version != PROTOCOL_VERSION || request->request == 0) {
        frame_consume(&channel->decoder);
        if (copy.version != PROTOCOL_VERSION)
            complain(channel, &copy, EPROTONOSUPPORT, "this agent speaks version 1");
        else
            complain(channel, &copy, EBADMSG, "request id 0");
        return;
    }
    channel->complaints = 0;
    if (request->process != 0 && request->process != (uint32_t)getpid()) {
        relay(channel, request);
        return;
    }
    memcpy(payload, request->payload, request->length);
    frame_consume(&channel->decoder);
    if (!answer_again(channel, &copy))
        run(channel, &copy, payload);
}

void serve(struct channel *channel)
{
    struct frame frame;
    while (!agent_stopping) {
        switch (frame_next(&channel->decoder, &frame)) {
        case FRAME_GOOD:
            obey(channel, &frame);
            break;
        case FRAME_BAD_CHECK:
            complain(channel, &frame, EBADMSG, "a frame with a wrong CRC");
            break;
        case FRAME_TOO_LONG:
            complain(channel, &frame, EMSGSIZE, "a frame longer than 32768 bytes");
            break;
        case FRAME_NONE: {
            int partial = frame_is_partial(&channel->decoder);
            int got = channel_receive(channel, partial ? CUT_MS : -1);
            if (got < 0)
                return;
            if (got == 0 && partial && !agent_stopping) {
                frame_cut(&channel->decoder);
                complain(channel, &frame, EBADMSG, "a frame that was cut short");
            }
            break;
        }
        }
    }
}

static void stop(int signal_number)
{
    (void)signal_number;
    agent_stopping = 1;
}

static int usage(void)
{
    static const char text[] = "usage: vmatlas-agent [--port DEVICE [--baud NUMBER]]   (without: serves stdin and stdout)\n";
    (void)!write(2, text, sizeof text - 1);
    return 2;
}

int main(int argc, char **argv)
{
    static struct channel channel;
    static char port[TEXT_ROOM];
    struct sigaction action;
    uint32_t baud = 115200;

    memset(&action, 0, sizeof action);
    action.sa_handler = stop;
    if (system_start(port, sizeof port, &baud)) {
        agent_role = "init";
    } else {
        for (int i = 1; i < argc; i++) {
            if (strcmp(argv[i], "--child") == 0) {
                agent_is_child = 1;
                agent_role = "child";
            } else if (strcmp(argv[i], "--port") == 0 && i + 1 < argc && strlen(argv[i + 1]) < sizeof port) {
                strcpy(port, argv[++i]);
            } else if (strcmp(argv[i], "--baud") == 0 && i + 1 < argc) {
                baud = (uint32_t)strtoul(argv[++i], NULL, 10);
            } else {
                return usage();
            }
        }
    }
    (void)sigaction(SIGTERM, &action, NULL);
    (void)sigaction(SIGINT, &action, NULL);
    action.sa_handler = SIG_IGN;
    (void)sigaction(SIGPIPE, &action, NULL);
    if (port[0] != '\0') {
        action.sa_handler = SIG_IGN;
        (void)sigaction(SIGHUP, &action, NULL);
        catch_faults();
        serve_port(port, baud);
    } else {
        action.sa_handler = stop;
        (void)sigaction(SIGHUP, &action, NULL);
        catch_faults();
        channel.in = 0;
        channel.out = 1;
        if (isatty(0) && set_raw(0, 0) != 0)
            return 1;
        serve(&channel);
        restore_tty();
    }
    end_children();
    return 0;
}

/* ---- hello, ping, sleep ---- */

void add_field(struct fields *fields, const char *key, const char *value)
{
    size_t key_size = strlen(key), value_size = strlen(value);
    uint8_t *at = fields->bytes + fields->used;
    if (key_size > 255 || fields->room - fields->used < 3 + key_size + value_size)
        return;
    at[0] = (uint8_t)key_size;
    memcpy(at + 1, key, key_size);
    write_u16(at + 1 + key_size, (uint16_t)value_size);
    memcpy(at + 3 + key_size, value, value_size);
    fields->used += 3 + key_size + value_size;
    fields->count++;
}

void add_number_field(struct fields *fields, const char *key, uint64_t value)
{
    char digits[24];
    size_t at = sizeof digits - 1;
    digits[at] = '\0';
    do {
        digits[--at] = (char)('0' + (int)(value % 10U));
        value /= 10U;
    } while (value > 0);
    add_field(fields, key, digits + at);
}

static void add_word(char *words, size_t room, const char *word)
{
    size_t used = strlen(words), size = strlen(word);
    if (used + 1 + size + 1 > room)
        return;
    if (used > 0)
        words[used++] = ' ';
    memcpy(words + used, word, size + 1);
}

static void hello(struct reader *reader, struct answer *answer)
{
    static uint8_t bytes[8192];
    static char words[2048];
    static const struct operation *const tables[] = {agent_operations, memory_operations, child_operations};
    const uint16_t one = 1;
    uint8_t first;
    struct fields fields;
    struct utsname system;

    (void)reader;
    answer_forget();
    greeted = 1;
    fields.bytes = bytes;
    fields.used = 2;
    fields.room = sizeof bytes;
    fields.count = 0;
    memcpy(&first, &one, 1);
    memset(&system, 0, sizeof system);
    (void)uname(&system);
    add_number_field(&fields, "protocol", PROTOCOL_VERSION);
    add_field(&fields, "agent", AGENT_VERSION);
    add_field(&fields, "role", agent_role);
    add_field(&fields, "system", system.sysname);
    add_field(&fields, "release", system.release);
    add_field(&fields, "version", system.version);
    add_field(&fields, "machine", system.machine);
    add_field(&fields, "byte_order", first == 1 ? "little" : "big");
    add_number_field(&fields, "pointer_bits", 8 * sizeof(void *));
    add_number_field(&fields, "page_size", (uint64_t)sysconf(_SC_PAGESIZE));
    add_number_field(&fields, "pid", (uint64_t)getpid());
    add_number_field(&fields, "user", (uint64_t)geteuid());
    add_number_field(&fields, "max_payload", FRAME_PAYLOAD);
    words[0] = '\0';
    for (size_t i = 0; agent_sources[i] != NULL; i++)
        for (const struct source *source = agent_sources[i]; source->name != NULL; source++)
            add_word(words, sizeof words, source->name);
    add_field(&fields, "sources", words);
    words[0] = '\0';
    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++)
        for (const struct operation *operation = tables[i]; operation->name != NULL; operation++)
            add_word(words, sizeof words, operation->name);
    add_field(&fields, "operations", words);
    system_hello(&fields);
    write_u16(bytes, fields.count);
    answer_end(answer, bytes, fields.used);
}

static void ping(struct reader *reader, struct answer *answer)
{
    answer_end(answer, reader->at, (size_t)(reader->end - reader->at));
}

static void sleep_a_while(struct reader *reader, struct answer *answer)
{
    uint32_t duration = take_u32(reader);
    uint64_t until = milliseconds() + duration;
    if (!reader_holds(reader, answer))
        return;
    if (duration > MOST_SLEEP_MS) {
        answer_error(answer, ORIGIN_AGENT, EINVAL, "a sleep of more than 60000 ms");
        return;
    }
    for (;;) {
        uint64_t now = milliseconds();
        if (now >= until)
            break;
        pause_for(until - now < 50 ? (uint32_t)(until - now) : 50);
        if (channel_look(answer->channel, answer->request) != 0) {
            answer_error(answer, ORIGIN_AGENT, ECANCELED, "sleep");
            return;
        }
    }
    answer_result(answer, 0, 0, 0);
}

/* ---- processes, acquire, query, files ---- */

/* Ends a streamed answer by what its source returned. */
static void conclude(struct answer *answer, int error)
{
    if (error == 0)
        answer_end(answer, NULL, 0);
    else if (error == ECANCELED)
        answer_error(answer, ORIGIN_AGENT, error, "another request came");
    else
        answer_error(answer, answer->sink.refused ? ORIGIN_AGENT : ORIGIN_KERNEL, error, answer->sink.failed);
}

static void processes(struct reader *reader, struct answer *answer)
{
    uint32_t pid = reader->at < reader->end ? take_u32(reader) : 0;
    if (reader_holds(reader, answer))
        conclude(answer, system_processes(&answer->sink, pid));
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

static void acquire(struct reader *reader, struct answer *answer)
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
        conclude(answer, source->acquire(&question, &answer->sink));
}

static void query(struct reader *reader, struct answer *answer)
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
        conclude(answer, source->query(&question, addresses, count, &answer->sink));
}

static void advise_process(struct reader *reader, struct answer *answer)
{
    enum { MOST_RANGES = 1024 };
    static uint64_t pairs[2 * MOST_RANGES];
    uint32_t pid = take_u32(reader), advice, flags, count;
    uint64_t start_time = take_u64(reader);
    int64_t done;
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
    done = system_advise_process(pid == 0 ? (uint32_t)getpid() : pid, start_time, (int)advice, flags, pairs, count);
    answer_result(answer, done, done < 0 ? errno : 0, 0);
}

static void shut_down(struct reader *reader, struct answer *answer)
{
    (void)reader;
    answer_result(answer, 0, 0, 0);
    agent_stopping = 1;
    if (strcmp(agent_role, "init") == 0) {
        pause_for(200); /* the last bytes leave the line */
        system_power_off();
    }
}

static void read_file(struct reader *reader, struct answer *answer)
{
    static char path[TEXT_ROOM], bytes[16384];
    uint64_t limit, left;
    int file, error = 0;
    take_text16(reader, path, sizeof path);
    limit = take_u64(reader);
    if (!reader_holds(reader, answer))
        return;
    left = limit != 0 ? limit : UINT64_MAX;
    file = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC); /* a pipe or a tty must not hold us up */
    if (file < 0) {
        answer_error(answer, ORIGIN_KERNEL, errno, "open");
        return;
    }
    while (left > 0 && error == 0) {
        ssize_t got = read(file, bytes, left < sizeof bytes ? (size_t)left : sizeof bytes);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            error = errno;
            strcpy(answer->sink.failed, "read");
        }
        if (got <= 0)
            break;
        left -= (uint64_t)got;
        error = answer_put(answer, "file", 0, bytes, (size_t)got);
    }
    (void)close(file);
    conclude(answer, error);
}

static void write_file(struct reader *reader, struct answer *answer)
{
    static char path[TEXT_ROOM];
    uint32_t mode, flags;
    int64_t written = 0;
    int file, error = 0;
    take_text16(reader, path, sizeof path);
    mode = take_u32(reader);
    flags = take_u32(reader);
    if (!reader_holds(reader, answer))
        return;
    file = open(path, O_WRONLY | O_CLOEXEC | O_NONBLOCK | ((flags & 1U) ? O_APPEND : O_TRUNC) | ((flags & 2U) ? 0 : O_CREAT),
                (mode_t)(mode & 07777U));
    if (file < 0) {
        answer_result(answer, -1, errno, 0);
        return;
    }
    while (reader->at < reader->end && error == 0) {
        ssize_t some = write(file, reader->at, (size_t)(reader->end - reader->at));
        if (some > 0) {
            reader->at += some;
            written += some;
        } else if (some == 0 || errno != EINTR) {
            error = some == 0 ? EIO : errno;
        }
    }
    if (close(file) != 0 && error == 0)
        error = errno;
    answer_result(answer, error != 0 ? -1 : written, error, 0);
}

static void unlink_file(struct reader *reader, struct answer *answer)
{
    static char path[TEXT_ROOM];
    int done;
    take_text16(reader, path, sizeof path);
    if (!reader_holds(reader, answer))
        return;
    done = unlink(path);
    answer_result(answer, done, done != 0 ? errno : 0, 0);
}

static void list_folder(struct reader *reader, struct answer *answer)
{
    static char path[TEXT_ROOM];
    struct dirent *entry;
    int error = 0;
    DIR *folder;
    take_text16(reader, path, sizeof path);
    if (!reader_holds(reader, answer))
        return;
    folder = opendir(path);
    if (folder == NULL) {
        answer_error(answer, ORIGIN_KERNEL, errno, "opendir");
        return;
    }
    while (error == 0 && (entry = readdir(folder)) != NULL)
        error = answer_put(answer, "names", 0, entry->d_name, strlen(entry->d_name) + 1);
    (void)closedir(folder);
    conclude(answer, error);
}

static void stat_file(struct reader *reader, struct answer *answer)
{
    static char path[TEXT_ROOM];
    struct stat found;
    int done;
    take_text16(reader, path, sizeof path);
    if (!reader_holds(reader, answer))
        return;
    memset(&found, 0, sizeof found);
    done = lstat(path, &found);
    answer_result(answer, done, done != 0 ? errno : 0, (uint64_t)found.st_ino);
}

static void read_link(struct reader *reader, struct answer *answer)
{
    static char path[TEXT_ROOM], link[TEXT_ROOM];
    ssize_t size;
    take_text16(reader, path, sizeof path);
    if (!reader_holds(reader, answer))
        return;
    size = readlink(path, link, sizeof link);
    if (size < 0) {
        answer_error(answer, ORIGIN_KERNEL, errno, "readlink");
        return;
    }
    conclude(answer, answer_put(answer, "link", 0, link, (size_t)size));
}

const struct operation agent_operations[] = {
    {1, 0, "hello", hello},
    {2, 0, "ping", ping},
    {3, 0, "sleep", sleep_a_while},
    {4, 0, "processes", processes},
    {5, 0, "acquire", acquire},
    {6, 0, "query", query},
    {7, 1, "advise_process", advise_process},
    {8, 1, "shutdown", shut_down},
    {32, 1, "write_file", write_file},
    {33, 1, "unlink", unlink_file},
    {34, 0, "read_file", read_file},
    {35, 0, "list_folder", list_folder},
    {36, 0, "stat_file", stat_file},
    {37, 0, "read_link", read_link},
    {0, 0, NULL, NULL},
};
