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

static const char *const names[] = {"/lib/x", "[heap]", "/a b (deleted)", "", "/some/long/name/of/a/file"};

static size_t make_stream(char *data)
{
    static char tail[1 << 16];
    size_t used = 0, behind = 0;
    uint64_t position = draw(1 << 20);
    uint32_t torn = draw(10), built = draw(10);
    for (uint32_t left = draw(12); left > 0; left--) {
        struct procmap_query record = {0};
        const char *name = names[draw(5)];
        size_t size = *name == '\0' ? 0 : strlen(name) + 1;
        record.size = draw(100) == 0 ? draw(200) : sizeof record;
        record.vma_start = position + (draw(3) == 0 ? draw(1 << 20) : 0);
        record.vma_end = position = record.vma_start + (torn == 0 && draw(3) == 0 ? 0 : 1 + (uint64_t)draw(1 << 30));
        record.vma_flags = draw(16);
        record.vma_page_size = 4096;
        record.vma_offset = draw(0xffffffffU);
        record.inode = draw(3) == 0 ? draw(100) : 0;
        record.dev_major = draw(3);
        record.build_id_size = built == 0 ? draw(21) : 0;
        if (size > 0 && draw(30) == 0) { /* a name beyond what the kernel gives, with or without NUL bytes in it */
            size = draw(2) == 0 ? NAME_ROOM + draw(3) - 1 : 1 + draw(40);
            memset(tail + behind, draw(2) == 0 ? 0 : 'x', size);
        } else {
            memcpy(tail + behind, name, size);
        }
        record.vma_name_size = draw(200) == 0 ? draw(0xffffffffU) : (uint32_t)size;
        behind += size;
        memset(tail + behind, 7, record.build_id_size);
        behind += record.build_id_size;
        memcpy(data + used, &record, sizeof record);
        used += sizeof record;
    }
    memcpy(data + used, tail, behind);
    used += behind;
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
        verdict = decode_records(copy, size, &columns);
        free(copy);
        for (size_t i = 0; i < columns.count; i++) {
            const struct row *row = &columns.rows[i];
            if (row->start >= row->end || (i > 0 && row->start < row[-1].end) || row->fact >= columns.facts.count)
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
