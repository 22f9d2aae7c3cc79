/* Feeds decode.c with mutated texts under the sanitizers: fuzz_decode maps|smaps ROUNDS SEED, or SECONDS as "10s".
 * A generator of fixed seed, so a failure can be had again. Claims: what is decoded is in order and within bounds, and a text
 * that comes in pieces decodes as it does in one. */
#include "decode.h"
#include "fuzz.h"

enum { ROOM = 6000 };

static const char *any(const char *const *words)
{
    uint32_t count = 0;
    while (words[count] != NULL)
        count++;
    return words[draw(count)];
}

static const char *const rights[] = {"r-xp", "rw-p", "---p", "rwxs", "rw-S", NULL};
static const char *const names[] = {"", "                   /lib/x", " [heap]", "  /a b (deleted)", "/\\012", NULL};
static const char *const odd[] = {"r-xq", " ", "", "-", "0123456789abcdef0", "kB", ":", "\t", "\n", "\r\n", "VmFlags:", "Rss:", NULL};
static const char *const keys[] = {"Size", "Rss", "KernelPageSize", "THPeligible", "A_(1)", "VmFlags", NULL};
static const char *const values[] = {"       4 kB", " 0", "18446744073709551615", "18014398509481983 kB", "9999999999999999999 kB",
                                     "", "x", NULL};

static size_t make_text(char *text, int is_smaps)
{
    size_t used = 0;
    uint64_t position = draw(4) == 0 ? (uint64_t)draw(0xffffffffU) << 31 : draw(1 << 20);
    uint32_t own = draw(6), first = draw(6), torn = draw(20);
    for (uint32_t left = draw(8); left > 0; left--) {
        uint64_t start = position + (draw(3) == 0 ? draw(1 << 20) : 0);
        position = start + (torn == 0 && draw(3) == 0 ? 0 : 1 + draw(1 << 30));
        used += (size_t)sprintf(text + used, "%08llx-%08llx %s %08x %02x:%02x %u %s\n", (unsigned long long)start,
                                (unsigned long long)position, any(rights), draw(0xffffffffU), draw(300), draw(300),
                                draw(3) * draw(100000), any(names));
        for (uint32_t key = 0; is_smaps && key < own; key++) {
            const char *word = keys[(first + key) % 6];
            int is_flags = strcmp(word, "VmFlags") == 0;
            used += (size_t)sprintf(text + used, "%s: %s\n", word, is_flags ? "rd ex mr" : values[draw(30) ? draw(4) : 4 + draw(3)]);
        }
    }
    for (uint32_t flips = draw(3) == 0 ? 1 + draw(3) : 0; flips > 0 && used > 0; flips--) {
        uint32_t at = draw((uint32_t)used);
        const char *word = any(odd);
        size_t size = strlen(word), lost = draw(4) < used - at ? draw(4) : 0;
        switch (draw(3)) {
        case 0:
            text[at] = (char)draw(256);
            break;
        case 1:
            used = at;
            break;
        default:
            lost = lost < used - at ? lost : used - at;
            memmove(text + at + size, text + at + lost, used - at - lost);
            memcpy(text + at, word, size);
            used += size - lost;
        }
    }
    return used;
}

/* And no fact twice. */
static void check(const struct columns *columns)
{
    check_columns(columns);
    for (uint32_t i = 0; i < columns->facts.count; i++) {
        const struct text *text = &columns->facts.all[i];
        for (uint32_t other = 0; other < i; other++)
            if (text_is(&columns->facts, other, columns->facts.bytes + text->at, text->size, text->tag))
                abort();
    }
}

static enum verdict decode_piece(int is_smaps, const char *text, size_t size, int is_end, struct columns *columns,
                                 struct keys *seen, size_t *used)
{
    char *copy = exact_copy(text, size);
    enum verdict verdict = is_smaps ? decode_smaps(copy, size, is_end, columns, seen, used) : decode_maps(copy, size, columns, used);
    free(copy);
    if (verdict == DECODED && *used > size)
        abort();
    return verdict;
}

/* The same text in pieces; whole lines of the first region and the next come first. */
static enum verdict decode_in_pieces(int is_smaps, const char *text, size_t size, struct columns *columns, struct keys *seen)
{
    size_t from = 0, to = is_smaps ? 1000 : 0, used;
    enum verdict verdict = DECODED;
    for (;;) {
        to += draw(3) == 0 ? draw(20) : draw(1000);
        to = to < size ? to : size;
        verdict = decode_piece(is_smaps, text + from, to - from, to == size, columns, seen, &used);
        if (verdict != DECODED)
            return verdict;
        from += used;
        if (to == size)
            return from == size ? DECODED : NOT_MINE;
    }
}

int main(int argc, char **argv)
{
    static char text[4 * ROOM];
    static struct keys seen;
    int is_smaps = argc > 1 && strcmp(argv[1], "smaps") == 0;
    unsigned long pieces = 0;
    fuzz_begin(argc - 2, argv + 2);
    while (fuzz_goes_on()) {
        struct columns whole = {0}, pieced = {0};
        size_t size = make_text(text, is_smaps), used;
        enum verdict verdict, again;
        memset(&seen, 0, sizeof seen);
        verdict = decode_piece(is_smaps, text, size, 1, &whole, &seen, &used);
        if (verdict == DECODED && used != size)
            verdict = NOT_MINE;
        check(&whole);
        memset(&seen, 0, sizeof seen);
        again = decode_in_pieces(is_smaps, text, size, &pieced, &seen);
        check(&pieced);
        /* Pieces may be refused for a first one that shows too little; they are never decoded otherwise than the whole. */
        if (again == DECODED) {
            if (verdict != DECODED || whole.count != pieced.count || whole.width != pieced.width)
                abort();
            for (size_t i = 0; i < whole.count; i++)
                if (whole.rows[i].start != pieced.rows[i].start || whole.rows[i].end != pieced.rows[i].end ||
                    whole.rows[i].offset != pieced.rows[i].offset || whole.rows[i].fact != pieced.rows[i].fact)
                    abort();
            for (size_t i = 0; i < whole.count * whole.width; i++)
                if (whole.numbers[i] != pieced.numbers[i])
                    abort();
            pieces++;
        }
        fuzz_count(verdict);
        columns_free(&whole);
        columns_free(&pieced);
    }
    printf("decoded %lu refused %lu pieces %lu\n", fuzz.decoded, fuzz.refused, pieces);
    return fuzz.decoded > 0 && fuzz.refused > 0 && pieces > 0 ? 0 : 1;
}
