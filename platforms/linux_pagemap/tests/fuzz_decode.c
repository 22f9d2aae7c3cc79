/* Feeds decode.c with mutated streams under the sanitizers: fuzz_decode STREAM ROUNDS SEED, or SECONDS as "10s"; STREAM is scan or
 * entries. A generator of fixed seed, so a failure can be had again. Claim: what is decoded are runs in order that say something. */
#include "decode.h"
#include "fuzz.h"
#include "scan.h"

enum { PAGE = 4096 };

static size_t make_scan(char *data)
{
    size_t used = 0;
    uint64_t at = draw(1 << 20);
    uint32_t torn = draw(10);
    for (uint32_t calls = draw(4); calls > 0; calls--) {
        struct scan_record record = {0};
        uint32_t count = draw(8);
        record.size = draw(100) == 0 ? draw(200) : sizeof record;
        record.vec = draw(60) == 0 ? draw(0xffffffffU) : count;
        record.anyof = 8;
        record.told = draw(100) == 0 ? 9 : 8;
        memcpy(data + used, &record, sizeof record);
        used += sizeof record;
        for (; count > 0; count--) {
            struct scan_answer answer;
            answer.start = at + draw(3) * PAGE - (torn == 0 ? draw(2) * PAGE : 0);
            answer.end = at = answer.start + (torn == 1 ? draw(3) : 1 + draw(3)) * (uint64_t)PAGE;
            answer.categories = draw(2) == 0 ? draw(0x400) : 8;
            memcpy(data + used, &answer, sizeof answer);
            used += sizeof answer;
        }
    }
    return damage(data, used);
}

static size_t make_entries(char *data)
{
    static const uint16_t said[] = {0x8000, 0xa100, 0x4000, 0x4400, 0, 0x0080};
    uint64_t head[2] = {draw(40) == 0 ? draw(1 << 22) : PAGE, 0xe580}, at = (uint64_t)draw(1 << 20) * PAGE;
    size_t used = sizeof head;
    memcpy(data, head, sizeof head);
    for (uint32_t pieces = draw(5); pieces > 0; pieces--) {
        uint32_t count = draw(20);
        head[0] = draw(200) == 0 ? UINT64_MAX - draw(1 << 16) : at;
        head[1] = draw(100) == 0 ? draw(0xffffffffU) : count;
        memcpy(data + used, head, sizeof head);
        used += sizeof head;
        for (at += (uint64_t)count * PAGE + draw(2) * PAGE - (draw(60) == 0 ? PAGE : 0); count > 0; count--) {
            memcpy(data + used, &said[draw(6)], sizeof *said);
            used += sizeof *said;
        }
    }
    return damage(data, used);
}

static void check_runs(const struct runs *runs)
{
    for (size_t i = 0; i < runs->count; i++)
        if (runs->start[i] >= runs->end[i] || runs->state[i] == 0 || (i > 0 && runs->start[i] < runs->end[i - 1]) ||
            (i > 0 && runs->start[i] == runs->end[i - 1] && runs->state[i] == runs->state[i - 1]))
            abort();
}

int main(int argc, char **argv)
{
    static char data[1 << 16];
    static uint32_t states[RUNS_STATES];
    int is_scan = argc > 1 && strcmp(argv[1], "scan") == 0;
    for (uint32_t bits = 0; bits < RUNS_STATES; bits++)
        states[bits] = bits % 5 == 0 ? 0 : bits / 7;
    fuzz_begin(argc - 2, argv + 2);
    while (fuzz_goes_on()) {
        struct runs runs = {.states = states};
        size_t size = is_scan ? make_scan(data) : make_entries(data);
        char *copy = exact_copy(data, size);
        enum verdict verdict = is_scan ? decode_scan(copy, size, &runs) : decode_entries(copy, size, &runs);
        free(copy);
        check_runs(&runs);
        fuzz_count(verdict);
        runs_free(&runs);
    }
    printf("decoded %lu refused %lu\n", fuzz.decoded, fuzz.refused);
    return fuzz.decoded > 0 && fuzz.refused > 0 ? 0 : 1;
}
