/* Feeds symbol_table.c with mutated tables under the sanitizers: fuzz_symbols ROUNDS SEED, or SECONDS as "10s".
 * A generator of fixed seed, so a failure can be had again. Claims: rows are in order, no label goes beyond its section, and what is
 * told of an address covers it; that of an address which a named row with nothing above it covers, something is told. */
#include "symbol_table.h"
#include "fuzz.h"

enum { MOST = 60, TEXT = 256, SECTIONS = 5, ASKED = 12 };

static size_t make_table(char *data, struct symbol_layout layout)
{
    size_t entry = layout.is_wide ? 24 : 16, word = layout.is_wide ? 8 : 4, used = 0;
    uint64_t base = draw(4) == 0 ? UINT64_MAX - draw(4000) : draw(9) == 0 ? 0 : 0x1000;
    for (uint32_t left = draw(MOST); left > 0; left--, used += entry) {
        char *at = data + used, *info = at + (layout.is_wide ? 4 : 12), *value = at + (layout.is_wide ? 8 : 4);
        put(at, 0, draw(9) == 0 ? draw(0xffffffffU) : draw(TEXT), 4);
        put(info, 0, draw(9) == 0 ? draw(256) : (draw(3) << 4 | draw(3)), 1);
        put(info, 1, 0, 1);
        put(info, 2, draw(9) == 0 ? 0xFF00 + draw(256) : draw(SECTIONS), 2);
        put(value, 0, base + draw(draw(2) ? 64 : 4000), word);
        put(value, word, draw(4) == 0 ? 0 : draw(20) == 0 ? UINT64_MAX - draw(4) : draw(200), word);
    }
    return damage(data, used);
}

static int by_start(const void *one, const void *other)
{
    const struct section_bounds *a = one, *b = other;
    if (a->start != b->start)
        return a->start < b->start ? -1 : 1;
    return a->end < b->end ? -1 : a->end > b->end;
}

struct named_by {
    const char *bytes;
    size_t size;
    const struct symbols *symbols;
};

static int is_named(void *asked, size_t row)
{
    const struct named_by *text = asked;
    uint32_t at = text->symbols->names[row];
    if (at >= text->size)
        abort();
    return memchr(text->bytes + at, 0, text->size - at) != NULL;
}

static void check(const struct symbols *symbols)
{
    for (size_t i = 0; i < symbols->count; i++)
        if (symbols->starts[i] == 0 || symbols->ends[i] < symbols->starts[i] || symbols->reach[i] < symbols->ends[i] ||
            (i > 0 && (symbols->starts[i] < symbols->starts[i - 1] || symbols->reach[i] < symbols->reach[i - 1])))
            abort();
}

/* Whether something was told. */
static int look(const struct symbols *symbols, struct named_by *text, uint64_t address)
{
    ptrdiff_t row = symbol_at(symbols, address, is_named, text);
    size_t below = 0;
    if (row < -1 || row >= (ptrdiff_t)symbols->count)
        abort();
    if (row >= 0 && (address < symbols->starts[row] || address >= symbols->ends[row] || !is_named(text, (size_t)row)))
        abort();
    while (below < symbols->count && symbols->starts[below] <= address)
        below++;
    for (size_t back = 1; row < 0 && back <= below && back <= LOOKED_BACK; back++)
        if (address < symbols->ends[below - back] && is_named(text, below - back))
            abort();
    return row >= 0;
}

int main(int argc, char **argv)
{
    static char data[MOST * 24], names[TEXT];
    fuzz_begin(argc - 1, argv + 1);
    while (fuzz_goes_on()) {
        struct symbol_layout layout = {(int)draw(2), (int)draw(2), (int)draw(2), (int)draw(2)};
        struct section_bounds bounds[SECTIONS];
        struct symbols symbols;
        size_t size = make_table(data, layout), length = draw(TEXT), sections = draw(SECTIONS + 1), told = 0;
        for (size_t i = 0; i < length; i++)
            names[i] = draw(6) == 0 ? 0 : "a_$"[draw(3)];
        for (size_t i = 0; i < sections; i++) {
            bounds[i].start = draw(8000);
            bounds[i].end = bounds[i].start + draw(3000);
        }
        qsort(bounds, sections, sizeof *bounds, by_start);
        unsigned char *raw = exact_copy(data, size);
        char *text = exact_copy(names, length);
        struct section_bounds *own = exact_copy(bounds, sections * sizeof *own);
        if (symbols_read(&symbols, raw, size, (unsigned char *)text, length, layout, own, sections) != 0)
            abort();
        check(&symbols);
        struct named_by held = {text, length, &symbols};
        for (uint32_t i = 0; i < ASKED; i++)
            told += (size_t)look(&symbols, &held,
                                 symbols.count > 0 && draw(4) ? symbols.starts[draw((uint32_t)symbols.count)] + draw(80)
                                                              : draw(9000));
        fuzz_count(told > 0 ? DECODED : NOT_MINE);
        symbols_free(&symbols);
        free(raw);
        free(text);
        free(own);
    }
    printf("decoded %lu refused %lu\n", fuzz.decoded, fuzz.refused);
    return fuzz.decoded > 0 && fuzz.refused > 0 ? 0 : 1;
}
