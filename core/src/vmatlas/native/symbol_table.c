#include "symbol_table.h"

#include <stdlib.h>
#include <string.h>

enum { LABEL = 0, FUNCTION = 2, FIRST_RESERVED = 0xFF00 };

struct row {
    uint64_t start, length;
    uint64_t order; /* rank, and the first name in the text last */
};

static uint64_t taken(const unsigned char *at, size_t size, int is_swapped)
{
    unsigned char bytes[8];
    uint16_t two;
    uint32_t four;
    uint64_t eight;
    for (size_t i = 0; i < size; i++)
        bytes[i] = at[is_swapped ? size - 1 - i : i];
    switch (size) {
    case 2:
        memcpy(&two, bytes, 2);
        return two;
    case 4:
        memcpy(&four, bytes, 4);
        return four;
    default:
        memcpy(&eight, bytes, 8);
        return eight;
    }
}

/* Of st_info, 0 for what is no name: a global one before a weak and a local one, a function before a label. */
static unsigned rank_of(unsigned info)
{
    static const unsigned char binding[4] = {1, 3, 2, 0};
    unsigned kind = info & 15, bound = info >> 4;
    if (kind > FUNCTION && kind != 10)
        return 0;
    return 1 + 4U * binding[bound < 3 ? bound : 3] + (kind != LABEL);
}

/* Whether an entry is told; `row` is what it says then. */
static int read_entry(struct row *row, const unsigned char *entry, const unsigned char *text, size_t text_size,
                      struct symbol_layout layout)
{
    size_t word = layout.is_wide ? 8 : 4;
    const unsigned char *value_at = entry + (layout.is_wide ? 8 : 4), *info_at = entry + (layout.is_wide ? 4 : 12);
    uint64_t name = taken(entry, 4, layout.is_swapped), section = taken(info_at + 2, 2, layout.is_swapped);
    unsigned info = info_at[0], rank = rank_of(info);
    row->start = taken(value_at, word, layout.is_swapped);
    row->length = taken(value_at + word, word, layout.is_swapped);
    if (layout.is_thumb && (info & 15) == FUNCTION)
        row->start &= ~(uint64_t)1;
    if (rank == 0 || row->start == 0 || name == 0 || name >= text_size || section == 0 || section >= FIRST_RESERVED ||
        (layout.has_marks && text[name] == '$'))
        return 0;
    row->order = (uint64_t)((row->length > 0) * 32U + rank + 2U * (text[name] != '_')) << 32 | (UINT32_MAX - name);
    return 1;
}

static int by_address(const void *one, const void *other)
{
    const struct row *a = one, *b = other;
    if (a->start != b->start)
        return a->start < b->start ? -1 : 1;
    if (a->order != b->order)
        return a->order < b->order ? -1 : 1;
    return a->length < b->length ? -1 : a->length > b->length;
}

/* How many of the rows begin at an address or below. */
static size_t rows_up_to(const struct symbols *symbols, uint64_t address)
{
    size_t low = 0, high = symbols->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (symbols->starts[middle] <= address)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Where the section that holds an address ends; the address itself where none begins below it. */
static uint64_t end_of_section(const struct section_bounds *bounds, size_t count, uint64_t address)
{
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (bounds[middle].start <= address)
            low = middle + 1;
        else
            high = middle;
    }
    return low > 0 ? bounds[low - 1].end : address;
}

/* A label, which has no size, goes on to the next symbol, and not beyond its section. */
static uint64_t end_of_label(const struct symbols *symbols, uint64_t start, const struct section_bounds *bounds, size_t count)
{
    uint64_t end = end_of_section(bounds, count, start);
    size_t above = rows_up_to(symbols, start);
    if (above < symbols->count && symbols->starts[above] < end)
        end = symbols->starts[above];
    return end > start ? end : start;
}

int symbols_read(struct symbols *symbols, const unsigned char *raw, size_t size, const unsigned char *text, size_t text_size,
                 struct symbol_layout layout, const struct section_bounds *bounds, size_t bounds_count)
{
    size_t entry = layout.is_wide ? 24 : 16, most = size / entry, count = 0;
    struct row *rows = malloc((most + 1) * sizeof *rows);
    uint64_t highest = 0;
    memset(symbols, 0, sizeof *symbols);
    if (rows == NULL)
        return -1;
    for (size_t i = 0; i < most; i++)
        count += (size_t)read_entry(&rows[count], raw + i * entry, text, text_size, layout);
    qsort(rows, count, sizeof *rows, by_address);
    symbols->count = count;
    symbols->starts = malloc((count + 1) * sizeof(uint64_t));
    symbols->ends = malloc((count + 1) * sizeof(uint64_t));
    symbols->reach = malloc((count + 1) * sizeof(uint64_t));
    symbols->names = malloc((count + 1) * sizeof(uint32_t));
    if (symbols->starts == NULL || symbols->ends == NULL || symbols->reach == NULL || symbols->names == NULL) {
        free(rows);
        symbols_free(symbols);
        return -1;
    }
    for (size_t i = 0; i < count; i++) {
        symbols->starts[i] = rows[i].start;
        symbols->names[i] = UINT32_MAX - (uint32_t)rows[i].order;
    }
    for (size_t i = 0; i < count; i++) {
        uint64_t length = rows[i].length, start = rows[i].start;
        if (length == 0)
            symbols->ends[i] = end_of_label(symbols, start, bounds, bounds_count);
        else
            symbols->ends[i] = start > UINT64_MAX - length ? UINT64_MAX : start + length;
        highest = symbols->ends[i] > highest ? symbols->ends[i] : highest;
        symbols->reach[i] = highest;
    }
    free(rows);
    return 0;
}

void symbols_free(struct symbols *symbols)
{
    free(symbols->starts);
    free(symbols->ends);
    free(symbols->reach);
    free(symbols->names);
    memset(symbols, 0, sizeof *symbols);
}

ptrdiff_t symbol_at(const struct symbols *symbols, uint64_t address, symbol_has_name *has_name, void *asked)
{
    size_t row = rows_up_to(symbols, address), looked = 0;
    if (row == 0 || address >= symbols->reach[row - 1])
        return -1;
    while (row > 0 && looked++ < LOOKED_BACK) {
        int told;
        row--;
        if (address >= symbols->ends[row])
            continue;
        told = has_name(asked, row);
        if (told != 0)
            return told < 0 ? -2 : (ptrdiff_t)row;
    }
    return -1;
}
