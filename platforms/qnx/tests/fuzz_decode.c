/* Feeds decode.c with mutated entries under the sanitizers: fuzz_decode ROUNDS SEED, or SECONDS as "10s".
 * A generator of fixed seed, so a failure can be had again. Claim: what is decoded is in order and within
 * bounds, and the entries are the parts of the regions, each byte once. */
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

enum { ENTRY = 48, MOST = 24 };

static const uint32_t usual[] = {0x1080302, 0x1081302, 0x81002, 0x80002, 0x1000301, 0x1000122, 0x10080303, 0x1080312};

static void put(char *record, size_t at, uint64_t value, size_t size)
{
    memcpy(record + at, &value, size); /* of this machine's byte order; little-endian ones have the low bytes first */
}

static size_t make_stream(char *data, struct name *names, size_t *name_count)
{
    size_t used = 0;
    uint64_t position = draw(1 << 20), size, offset = 0, ino = 0;
    uint32_t torn = draw(10), flags = usual[0], dev = 2;
    *name_count = 0;
    for (uint32_t left = draw(MOST); left > 0; left--, used += ENTRY) {
        char *entry = data + used;
        position += draw(3) == 0 ? draw(1 << 20) : 0;
        size = torn == 0 && draw(3) == 0 ? 0 : 1 + draw(1 << 30);
        if (draw(2) == 0) {
            flags = draw(9) == 0 ? draw(0xffffffffU) : usual[draw(8)];
            dev = draw(6);
            offset = draw(9) == 0 ? UINT64_MAX - draw(1 << 20) : draw(1 << 20);
            ino = draw(3);
        }
        flags ^= draw(8) << 20;
        put(entry, 0, position, 8);
        put(entry, 8, size, 8);
        put(entry, 16, flags, 4);
        put(entry, 20, dev, 4);
        put(entry, 24, offset, 8);
        put(entry, 32, ino, 8);
        put(entry, 40, draw(30) == 0 ? UINT64_MAX : 0, 8);
        if (draw(2) == 0) {
            names[*name_count].address = position + draw(2);
            names[(*name_count)++].number = 1 + draw(3);
        }
        position += size;
        offset += size;
    }
    for (uint32_t flips = draw(4) == 0 ? 1 + draw(3) : 0; flips > 0 && used > 0; flips--) {
        if (draw(3) == 0)
            used = draw((uint32_t)used);
        else
            data[draw((uint32_t)used)] = (char)draw(256);
    }
    return used;
}

static void check(const struct columns *columns, uint64_t limit)
{
    for (size_t i = 0; i < columns->count; i++) {
        const struct row *row = &columns->rows[i];
        if (row->start >= row->end || row->end > limit || (i > 0 && row->start < row[-1].end) ||
            row->fact >= columns->facts.count || columns->numbers[i * columns->width + MARK] >= columns->marks.count)
            abort();
    }
    for (uint32_t i = 0; i < columns->facts.count; i++)
        if (columns->facts.all[i].at + columns->facts.all[i].size > columns->facts.used)
            abort();
}

static void check_parts(const struct columns *regions, const struct columns *entries)
{
    size_t part = 0;
    for (size_t i = 0; i < regions->count; i++) {
        uint64_t end = regions->rows[i].start, resident = 0, told = regions->numbers[i * NUMBERS + RESIDENT];
        for (; part < entries->count && entries->rows[part].end <= regions->rows[i].end; part++) {
            if (entries->rows[part].start != end)
                abort();
            end = entries->rows[part].end;
            resident += entries->numbers[part * NUMBERS + RESIDENT];
        }
        if (end != regions->rows[i].end || (told != UINT64_MAX && told != resident))
            abort();
    }
    if (part != entries->count)
        abort();
}

int main(int argc, char **argv)
{
    static char data[MOST * ENTRY];
    static struct name names[MOST];
    unsigned long rounds = argc > 1 ? strtoul(argv[1], NULL, 10) : 1000, decoded = 0, refused = 0;
    time_t end = argc > 1 && strchr(argv[1], 's') != NULL ? time(NULL) + (time_t)rounds : 0;
    state = argc > 2 ? strtoull(argv[2], NULL, 10) : 88172645463325252ULL;
    for (unsigned long round = 0; end != 0 ? (round & 255) != 0 || time(NULL) < end : round < rounds; round++) {
        struct columns regions = {0}, entries = {0};
        size_t count, size = make_stream(data, names, &count);
        uint64_t limit = draw(3) == 0 ? (uint64_t)1 << 32 : UINT64_MAX - 1;
        char *copy = malloc(size + (size == 0)); /* of the exact size: a read beyond it is seen */
        struct name *own = malloc(count * sizeof *own + (count == 0));
        enum verdict verdict;
        if (copy == NULL || own == NULL)
            abort();
        memcpy(copy, data, size);
        memcpy(own, names, count * sizeof *own);
        verdict = decode_entries(copy, size, own, count, limit, (int)draw(2), &regions, &entries);
        free(copy);
        free(own);
        check(&regions, limit);
        check(&entries, limit);
        if (verdict == DECODED)
            check_parts(&regions, &entries);
        *(verdict == DECODED ? &decoded : &refused) += 1;
        columns_free(&regions);
        columns_free(&entries);
    }
    printf("decoded %lu refused %lu\n", decoded, refused);
    return decoded > 0 && refused > 0 ? 0 : 1;
}
