/* Feeds decode.c with mutated records under the sanitizers: fuzz_decode ROUNDS SEED, or SECONDS as "10s".
 * A generator of fixed seed, so a failure can be had again. Claim: what is decoded is in order and within bounds. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "decode.h"

static uint64_t state;

static uint32_t draw(uint32_t below)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)((state >> 16) % below);
}

static const char *const paths[] = {"", "/bin/sh", "/lib/libc.so.7", "/a path with spaces", "/x"};

static void put(char *record, size_t at, uint64_t value, size_t size)
{
    memcpy(record + at, &value, size); /* of this machine's byte order; little-endian ones have the low bytes first */
}

static size_t make_stream(char *data)
{
    size_t used = 0;
    uint64_t position = draw(1 << 20);
    uint32_t torn = draw(10);
    for (uint32_t left = draw(10); left > 0; left--) {
        const char *path = paths[draw(5)];
        size_t size = (136 + strlen(path) + 1 + 7) / 8 * 8;
        char *record = data + used;
        memset(record, 0, size);
        put(record, 0, draw(60) == 0 ? draw(1300) : size, 4);
        put(record, 4, draw(12), 4);
        put(record, 8, position += draw(3) == 0 ? draw(1 << 20) : 0, 8);
        put(record, 16, position += torn == 0 && draw(3) == 0 ? 0 : 1 + draw(1 << 30), 8);
        for (size_t at = 24; at < 104; at += 4)
            put(record, at, draw(3) == 0 ? draw(0xffffffffU) : draw(4), 4);
        memcpy(record + 136, path, strlen(path));
        if (draw(40) == 0) /* no NUL byte in it */
            memset(record + 136, 'x', size - 136);
        used += size;
    }
    for (uint32_t flips = draw(4) == 0 ? 1 + draw(3) : 0; flips > 0 && used > 0; flips--) {
        if (draw(3) == 0)
            used = draw((uint32_t)used);
        else
            data[draw((uint32_t)used)] = (char)draw(256);
    }
    return used;
}

int main(int argc, char **argv)
{
    static char data[1 << 17];
    unsigned long rounds = argc > 1 ? strtoul(argv[1], NULL, 10) : 1000, decoded = 0, refused = 0;
    time_t end = argc > 1 && strchr(argv[1], 's') != NULL ? time(NULL) + (time_t)rounds : 0;
    state = argc > 2 ? strtoull(argv[2], NULL, 10) : 88172645463325252ULL;
    for (unsigned long round = 0; end != 0 ? (round & 255) != 0 || time(NULL) < end : round < rounds; round++) {
        struct columns columns = {0};
        size_t size = make_stream(data);
        char *copy = malloc(size + (size == 0)); /* of the exact size: a read beyond it is seen */
        enum verdict verdict;
        if (copy == NULL)
            abort();
        memcpy(copy, data, size);
        verdict = decode_vmmap(copy, size, 4096, &columns);
        free(copy);
        for (size_t i = 0; i < columns.count; i++) {
            const struct row *row = &columns.rows[i];
            if (row->start >= row->end || (i > 0 && row->start < row[-1].end) || row->fact >= columns.facts.count ||
                columns.numbers[i * columns.width + MARK] >= columns.marks.count)
                abort();
        }
        for (uint32_t i = 0; i < columns.facts.count; i++)
            if (columns.facts.all[i].at + columns.facts.all[i].size > columns.facts.used)
                abort();
        *(verdict == DECODED ? &decoded : &refused) += 1;
        columns_free(&columns);
    }
    printf("decoded %lu refused %lu\n", decoded, refused);
    return decoded > 0 && refused > 0 ? 0 : 1;
}
