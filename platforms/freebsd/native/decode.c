/* The records of KERN_PROC_VMMAP into columns: see vmatlas_freebsd/decode/vmmap.py, its twin, and layout.py. */
#include "decode.h"

enum { PATH_AT = 136, PATH_ROOM = 1024, WHOLE = PATH_AT + PATH_ROOM, ATTRIBUTES_VALID = 1 };
enum { TYPE_NONE = 0, TYPE_VNODE = 2, TYPE_GUARD = 9, CHARACTER_DEVICE = 4 };
#define UNTOLD UINT64_MAX

static uint16_t u16(const char *record, size_t at)
{
    uint16_t value;
    memcpy(&value, record + at, sizeof value);
    return value;
}

static uint32_t u32(const char *record, size_t at)
{
    uint32_t value;
    memcpy(&value, record + at, sizeof value);
    return value;
}

static uint64_t u64(const char *record, size_t at)
{
    return load64(record + at);
}

/* The kernel's number of the anonymous object of an entry; 0: none. */
static uint64_t object_of(const char *record)
{
    return u32(record, 4) == TYPE_VNODE ? 0 : u64(record, 88);
}

static enum verdict add_record(const char *record, size_t length, uint64_t page_size, struct columns *columns)
{
    struct {
        struct fact_head head;
        char path[PATH_ROOM];
    } fact;
    uint64_t start = u64(record, 8), end = u64(record, 16), object = object_of(record), *numbers;
    uint32_t type = u32(record, 4), flags = u32(record, 44), mark;
    size_t path_room = length - PATH_AT, path_size;
    const char *nul = (const char *)memchr(record + PATH_AT, 0, path_room);
    int is_file = type == TYPE_VNODE, has_object = type != TYPE_NONE && type != TYPE_GUARD, has_attributes;
    struct row *row;
    enum verdict verdict = columns_grow(columns);
    if (verdict != DECODED)
        return verdict;
    if (!columns_in_order(columns, start, end))
        return NOT_MINE;
    has_attributes = is_file && (u16(record, 86) & ATTRIBUTES_VALID) != 0;
    memset(&fact.head, 0, sizeof fact.head);
    fact.head.type = type;
    fact.head.flags = flags;
    fact.head.protection = u32(record, 56);
    fact.head.traits = (object != 0 ? HAS_OBJECT : 0) | (end - start == page_size ? ONE_PAGE : 0) |
                       (has_attributes ? HAS_ATTRIBUTES : 0);
    if (has_attributes) {
        fact.head.device = u64(record, 88) != 0 ? u64(record, 88) : u32(record, 40);
        fact.head.fileid = u64(record, 32);
    }
    path_size = nul == NULL ? path_room : (size_t)(nul - (record + PATH_AT));
    memcpy(fact.path, record + PATH_AT, path_size);
    row = &columns->rows[columns->count];
    verdict = text_number(&columns->facts, (const char *)&fact, sizeof fact.head + path_size, 0, &row->fact);
    if (verdict == DECODED)
        verdict = text_number(&columns->marks, (const char *)&flags, sizeof flags, 0, &mark);
    if (verdict != DECODED)
        return verdict;
    row->start = start;
    row->end = end;
    row->offset = u64(record, 24);
    numbers = &columns->numbers[columns->count * NUMBERS];
    numbers[MARK] = mark;
    numbers[RESIDENT] = u32(record, 48) * page_size;
    numbers[PRIVATE_RESIDENT] = u32(record, 52) * page_size;
    numbers[PROTECTION] = fact.head.protection;
    numbers[TYPE] = type;
    numbers[REF_COUNT] = has_object ? u32(record, 60) : UNTOLD;
    numbers[SHADOW_COUNT] = has_object ? u32(record, 64) : UNTOLD;
    numbers[OBJECT] = object != 0 ? object : UNTOLD;
    numbers[OBJECT_OFFSET] = has_object && !is_file ? u64(record, 24) : UNTOLD;
    numbers[VN_TYPE] = has_attributes ? u32(record, 68) : UNTOLD;
    numbers[VN_SIZE] = has_attributes ? u64(record, 72) : UNTOLD;
    numbers[VN_MODE] = has_attributes ? u16(record, 84) : UNTOLD;
    numbers[VN_RDEV] = has_attributes && u32(record, 68) == CHARACTER_DEVICE ? u64(record, 96) : UNTOLD;
    columns->count++;
    return DECODED;
}

enum verdict decode_vmmap(const char *data, size_t size, uint64_t page_size, struct columns *columns)
{
    columns->width = NUMBERS;
    for (size_t at = 0; at < size;) {
        size_t left = size - at, length = left >= 4 ? u32(data, at) : 0;
        enum verdict verdict;
        if (length < PATH_AT || length > left || length > WHOLE || length % 8 != 0)
            return NOT_MINE;
        verdict = add_record(data + at, length, page_size, columns);
        if (verdict != DECODED)
            return verdict;
        at += length;
    }
    return columns->count > 0 ? DECODED : NOT_MINE;
}
