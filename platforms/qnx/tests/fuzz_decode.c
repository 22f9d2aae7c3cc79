/* Feeds decode.c with mutated entries under the sanitizers: fuzz_decode ROUNDS SEED, or SECONDS as "10s".
 * A generator of fixed seed, so a failure can be had again. Claim: what is decoded is in order and within
 * bounds, and the entries are the parts of the regions, each byte once. */
#include "decode.h"
#include "fuzz.h"

enum { ENTRY = 48, MOST = 24 };

static const uint32_t usual[] = {0x1080302, 0x1081302, 0x81002, 0x80002, 0x1000301, 0x1000122, 0x10080303, 0x1080312};

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
    return damage(data, used);
}

static void check(const struct columns *columns, uint64_t limit)
{
    check_columns(columns);
    check_marks(columns, MARK);
    if (columns->count > 0 && columns->rows[columns->count - 1].end > limit)
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
    fuzz_begin(argc - 1, argv + 1);
    while (fuzz_goes_on()) {
        struct columns regions = {0}, entries = {0};
        size_t count, size = make_stream(data, names, &count);
        uint64_t limit = draw(3) == 0 ? (uint64_t)1 << 32 : UINT64_MAX - 1;
        char *copy = exact_copy(data, size);
        struct name *own = exact_copy(names, count * sizeof *own);
        enum verdict verdict = decode_entries(copy, size, own, count, limit, (int)draw(2), &regions, &entries);
        free(copy);
        free(own);
        check(&regions, limit);
        check(&entries, limit);
        if (verdict == DECODED)
            check_parts(&regions, &entries);
        fuzz_count(verdict);
        columns_free(&regions);
        columns_free(&entries);
    }
    printf("decoded %lu refused %lu\n", fuzz.decoded, fuzz.refused);
    return fuzz.decoded > 0 && fuzz.refused > 0 ? 0 : 1;
}
