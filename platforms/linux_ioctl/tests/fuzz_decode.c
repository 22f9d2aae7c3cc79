/* Feeds decode.c with mutated records under the sanitizers: fuzz_decode ROUNDS SEED, or SECONDS as "10s".
 * A generator of fixed seed, so a failure can be had again. Claim: what is decoded is in order and within bounds. */
#include "decode.h"
#include "fuzz.h"

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
    return damage(data, used);
}

int main(int argc, char **argv)
{
    static char data[1 << 17];
    fuzz_begin(argc - 1, argv + 1);
    while (fuzz_goes_on()) {
        struct columns columns = {0};
        size_t size = make_stream(data);
        char *copy = exact_copy(data, size);
        enum verdict verdict = decode_records(copy, size, &columns);
        free(copy);
        check_columns(&columns);
        fuzz_count(verdict);
        columns_free(&columns);
    }
    printf("decoded %lu refused %lu\n", fuzz.decoded, fuzz.refused);
    return fuzz.decoded > 0 && fuzz.refused > 0 ? 0 : 1;
}
