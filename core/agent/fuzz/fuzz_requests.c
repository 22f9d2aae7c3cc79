/* The whole agent eats arbitrary bytes: frames, requests, what the kernel and its children say. Claims, besides those of the
 * sanitizers: it comes to an end, and the host gets nothing but whole answers. */
#include "calls.h"

#include "children.h"
#include "frame.h"
#include "kernel.h"
#include "life.h"
#include "serve.h"
#include "system.h"

/* Their state is put back between two inputs. */
#include "dispatch.c"
#include "watch.c"

enum { STREAM_ROOM = 8 * FRAME_LIMIT };

int system_start(char *port, size_t size, uint32_t *baud, uint32_t *payload)
{
    (void)port, (void)size, (void)baud, (void)payload;
    return 0;
}

int system_find_port(const char *port, char *path, size_t size)
{
    (void)port, (void)path, (void)size;
    return -1;
}

void system_power_off(void) {}

static uint32_t some_process(struct input *input)
{
    switch (take_byte(input) % 8) {
    case 0:
        return 70000; /* a child, if one was made */
    case 1:
        return 70001;
    case 2:
        return (uint32_t)getpid();
    case 3:
        return take_word(input);
    default:
        return 0;
    }
}

/* Fields such as requests have; what does not fit is left out. Returns their size. */
static size_t put_fields(struct input *input, uint8_t *bytes)
{
    static const char *const sources[] = {"linux.maps", "linux.smaps", "linux.smaps_rollup", "linux.procmap_query",
                                          "linux.pagemap_scan", "linux.pagemap"};
    enum { SOURCES = sizeof sources / sizeof sources[0] };
    size_t used = 0;
    for (uint32_t count = take_byte(input) % 16; count > 0 && used < FRAME_PAYLOAD - 8192; count--) {
        uint32_t code = take_byte(input), size;
        switch (code % 8) {
        case 0:
            bytes[used++] = (uint8_t)take_byte(input);
            break;
        case 1:
            write_u32(bytes + used, take_byte(input));
            used += 4;
            break;
        case 2:
            write_u32(bytes + used, take_word(input) << (code / 8 % 17));
            used += 4;
            break;
        case 3:
            write_u64(bytes + used, (uint64_t)take_byte(input) << 12);
            used += 8;
            break;
        case 4:
            write_u64(bytes + used, (uint64_t)take_word(input) << (code / 8 * 2 % 49));
            used += 8;
            break;
        case 5: /* text16 */
            size = take_byte(input) * 17U; /* up to 4,335: the agent takes 4,096 */
            write_u16(bytes + used, (uint16_t)size);
            memset(bytes + used + 2, 'a', size);
            used += 2 + size;
            break;
        case 6: /* text8 */
            size = take_byte(input);
            bytes[used] = (uint8_t)size;
            memset(bytes + used + 1, 'a', size);
            used += 1 + size;
            break;
        default:
            size = (uint32_t)strlen(sources[code / 8 % SOURCES]);
            bytes[used] = (uint8_t)size;
            memcpy(bytes + used + 1, sources[code / 8 % SOURCES], size);
            used += 1 + size;
        }
    }
    return used;
}

/* A frame that holds, but where a byte says otherwise; returns its size. */
static size_t put_frame(struct input *input, uint8_t *bytes)
{
    struct frame frame = {PROTOCOL_VERSION, KIND_REQUEST, 0, 0, 0, 0, 0, NULL};
    uint32_t oddity = take_byte(input), operation = take_byte(input);
    size_t size, payload;
    frame.operation = operation < 224 ? operations[operation % OPERATIONS].number : (uint16_t)operation;
    frame.request = take_byte(input) % 8;
    frame.process = some_process(input);
    payload = take_byte(input);
    if (payload < 128) {
        payload = put_fields(input, bytes + FRAME_HEADER);
    } else {
        payload = payload >= 250 ? FRAME_PAYLOAD - (payload - 250) * 3 : payload - 128;
        take_bytes(input, bytes + FRAME_HEADER, payload);
    }
    frame.length = (uint32_t)payload;
    if (oddity == 255)
        frame.version = 2;
    if (oddity == 254)
        frame.kind = (uint8_t)take_byte(input);
    if (oddity == 253)
        frame.sequence = take_word(input);
    size = frame_seal(bytes, &frame);
    if (oddity == 252) { /* a sound header of any length */
        write_u32(bytes + 20, take_word(input) << (take_byte(input) % 17));
        write_u32(bytes + 24, crc32_of(bytes, 24));
    }
    if (oddity == 251)
        bytes[take_word(input) % size] ^= (uint8_t)(1U << take_byte(input) % 8);
    if (oddity == 250)
        size = take_word(input) % size;
    return size;
}

static size_t make_stream(struct input *input, uint8_t *bytes)
{
    size_t used = 0;
    while (input->left > 0 && STREAM_ROOM - used >= FRAME_LIMIT) {
        if (take_byte(input) < 16) { /* no frame at all */
            size_t size = take_byte(input);
            size = size < input->left ? size : input->left;
            take_bytes(input, bytes + used, size);
            used += size;
        } else {
            used += put_frame(input, bytes + used);
        }
    }
    return used;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t to_agent[STREAM_ROOM], from_children[STREAM_ROOM];
    static struct channel channel;
    struct input input = {data, size}, part, script, children = {from_children, 0};
    uint32_t start = take_byte(&input);
    size_t script_size = size * take_byte(&input) / 1024, child_size = size * take_byte(&input) / 1024, stream_size;
    script = split_input(&input, script_size);
    part = split_input(&input, child_size);
    children.left = make_stream(&part, from_children);
    stream_size = make_stream(&input, to_agent);

    agent_stopping = 0;
    agent_role = (start & 2) == 0 ? ROLE_AGENT : (start & 4) == 0 ? ROLE_CHILD : ROLE_INIT;
    greeted = (start & 1) == 0;
    memset(watches, 0, sizeof watches);
    answer_forget();
    (void)pieces_choose(0);
    kernel_begin(script, children, to_agent, stream_size);
    channel_open(&channel, HOST_IN, HOST_OUT);
    serve(&channel);
    kernel_check_answers();
    kernel_begin(script, children, to_agent, 0);
    end_children();
    return 0;
}
