/* Feeds decode.c with mutated records under the sanitizers: fuzz_decode ROUNDS SEED, or SECONDS as "10s".
 * A generator of fixed seed, so a failure can be had again. Claim: what is decoded is in order and within bounds. */
#include "decode.h"
#include "fuzz.h"

static const char *const paths[] = {"", "/bin/sh", "/lib/libc.so.7", "/a path with spaces", "/x"};

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
        enum verdict verdict = decode_vmmap(copy, size, 4096, &columns);
        free(copy);
        check_columns(&columns);
        check_marks(&columns, MARK);
        fuzz_count(verdict);
        columns_free(&columns);
    }
    printf("decoded %lu refused %lu\n", fuzz.decoded, fuzz.refused);
    return fuzz.decoded > 0 && fuzz.refused > 0 ? 0 : 1;
}
