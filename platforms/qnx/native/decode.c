/* Arrays of `procfs_mapinfo` into columns: see vmatlas_qnx/decode.py, its twin, layout.py and flags.py. */
#include "decode.h"

enum { ENTRY = 48, OBJECT_NONE = 0, OBJECT_SHARED = 3, OBJECT_ELF = 4 };
enum { SHARING = 3, PRIVATE_ANONYMOUS = 3, FIXED = 0x10, ELF = 0x20, PROTECTION = 0x700, READ_WRITE = 0x300, STACK = 0x1000 };
enum { PHYSICAL = 0x10000, ANONYMOUS = 0x80000, PAGE_BITS = 0x700000, MAPPED = 0x400000 };

struct entry {
    uint64_t start, size, offset, ino, paddr;
    uint32_t flags, dev, name;
};

/* Where the search for the heap stands: before the program, in it or right above it, or over. */
struct heap {
    uint64_t end;
    enum { BEFORE, ABOVE, OVER } state;
};

/* Neighbours that differ in nothing but residency, together. */
struct run {
    struct entry first, last;
    uint64_t resident;
    size_t count;
};

static uint32_t load32(const char *bytes)
{
    uint32_t word;
    memcpy(&word, bytes, sizeof word);
    return word;
}

static struct entry entry_at(const char *data)
{
    struct entry entry;
    entry.start = load64(data);
    entry.size = load64(data + 8);
    entry.flags = load32(data + 16);
    entry.dev = load32(data + 20);
    entry.offset = load64(data + 24);
    entry.ino = load64(data + 32);
    entry.paddr = load64(data + 40);
    entry.name = 0;
    return entry;
}

static int is_anonymous(const struct entry *entry)
{
    return (entry->flags & ANONYMOUS) != 0 || (entry->flags & SHARING) == PRIVATE_ANONYMOUS;
}

/* Whether a name is asked for what lies there: an answer for anything else is of what lay there before. */
static int has_name(const struct entry *entry)
{
    return (entry->flags & ELF) != 0 || (entry->dev != 0 && !is_anonymous(entry) && (entry->flags & PHYSICAL) == 0);
}

static int belong_together(const struct entry *one, const struct entry *other)
{
    if (one->start + one->size != other->start || ((one->flags ^ other->flags) & ~(uint32_t)PAGE_BITS) != 0 ||
        one->dev != other->dev || one->name != other->name)
        return 0;
    if (is_anonymous(one) && one->dev != OBJECT_SHARED)
        return one->ino == other->ino || ((one->flags & STACK) != 0 && (one->ino ^ other->ino) == 1 && one->ino <= 1);
    if ((one->flags & (PHYSICAL | ELF)) != 0)
        return 0;
    return one->ino == other->ino && one->offset <= UINT64_MAX - one->size && other->offset == one->offset + one->size;
}

/* Whether a region is the heap: the first memory without an object above the program, unless the loader put it there. */
static int is_heap(struct heap *heap, const struct entry *first, uint64_t end)
{
    int of_program = (first->flags & ELF) != 0;
    int plain = !of_program && first->dev != OBJECT_ELF && (first->flags & PROTECTION) != 0 && (first->flags & STACK) == 0 &&
                ((is_anonymous(first) && first->dev != OBJECT_SHARED) || first->dev == OBJECT_NONE);
    if (heap->state == OVER || (heap->state == BEFORE && !of_program))
        return 0;
    if (heap->state == ABOVE && (first->start != heap->end || (!of_program && !plain))) {
        heap->state = OVER;
        return 0;
    }
    if (plain && (first->flags & FIXED) == 0) {
        heap->state = OVER;
        return (first->flags & PROTECTION) == READ_WRITE;
    }
    heap->state = ABOVE;
    heap->end = end;
    return 0;
}

static enum verdict add_row(struct columns *columns, const struct entry *entry, uint64_t end, uint64_t ino, uint32_t flags,
                            uint64_t resident, const struct fact *fact)
{
    enum verdict verdict = columns_grow(columns);
    uint64_t *numbers;
    struct row *row;
    uint32_t mark;
    if (verdict != DECODED)
        return verdict;
    row = &columns->rows[columns->count];
    verdict = text_number(&columns->facts, (const char *)fact, sizeof *fact, 0, &row->fact);
    if (verdict == DECODED)
        verdict = text_number(&columns->marks, (const char *)&flags, sizeof flags, 0, &mark);
    if (verdict != DECODED)
        return verdict;
    row->start = entry->start;
    row->end = end;
    row->offset = entry->offset >> 63 != 0 ? UINT64_MAX : entry->offset; /* such a one is none to trust */
    numbers = &columns->numbers[columns->count * NUMBERS];
    numbers[MARK] = mark;
    numbers[RESIDENT] = resident;
    numbers[DEV] = entry->dev;
    numbers[INO] = ino;
    numbers[PADDR] = entry->paddr != 0 ? entry->paddr : UINT64_MAX;
    columns->count++;
    return DECODED;
}

static uint64_t resident_of(const struct entry *entry, int told)
{
    return !told ? UINT64_MAX : (entry->flags & MAPPED) != 0 ? entry->size : 0;
}

/* A run as a region, and each of its entries (`data`) as it is. */
static enum verdict add_run(const struct run *run, const char *data, int told, struct heap *heap, struct columns *regions,
                            struct columns *entries)
{
    uint64_t end = run->last.start + run->last.size;
    uint32_t flags = run->first.flags & ~(uint32_t)PAGE_BITS;
    struct fact fact;
    enum verdict verdict;
    fact.dev = run->first.dev;
    fact.name = run->first.name;
    fact.traits = is_heap(heap, &run->first, end) ? IS_HEAP : 0;
    fact.flags = flags;
    verdict = add_row(regions, &run->first, end, run->last.ino, flags, told ? run->resident : UINT64_MAX, &fact);
    for (size_t i = 0; verdict == DECODED && i < run->count; i++) {
        struct entry entry = entry_at(data + i * ENTRY);
        uint64_t resident = resident_of(&entry, told);
        verdict = add_row(entries, &entry, entry.start + entry.size, entry.ino, entry.flags, resident, &fact);
    }
    return verdict;
}

enum verdict decode_entries(const char *data, size_t size, const struct name *names, size_t name_count, uint64_t limit,
                            int told, struct columns *regions, struct columns *entries)
{
    struct heap heap = {0, BEFORE};
    struct run run;
    const char *begin = data;
    enum verdict verdict;
    uint64_t end = 0;
    regions->width = entries->width = NUMBERS;
    run.count = 0;
    if (size == 0 || size % ENTRY != 0)
        return NOT_MINE;
    for (size_t at = 0, name = 0; at < size; at += ENTRY) {
        struct entry entry = entry_at(data + at);
        if (entry.size == 0 || entry.start < end || entry.size > limit || entry.start > limit - entry.size)
            return NOT_MINE;
        if (entry.paddr == UINT64_MAX) /* the twin tells this from 0, the columns here do not */
            return NOT_MINE;
        end = entry.start + entry.size;
        while (name < name_count && names[name].address < entry.start)
            name++;
        if (name < name_count && names[name].address == entry.start && has_name(&entry))
            entry.name = (uint32_t)names[name].number;
        if (run.count > 0 && belong_together(&run.last, &entry)) {
            run.count++;
        } else {
            if (run.count > 0 && (verdict = add_run(&run, begin, told, &heap, regions, entries)) != DECODED)
                return verdict;
            begin = data + at;
            run.first = entry;
            run.resident = 0;
            run.count = 1;
        }
        run.last = entry;
        run.resident += told ? resident_of(&entry, told) : 0;
    }
    return add_run(&run, begin, told, &heap, regions, entries);
}
