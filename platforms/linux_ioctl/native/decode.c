/* The records of PROCMAP_QUERY into columns: see vmatlas_linux_ioctl/decode.py, its twin. */
#include "decode.h"

size_t finish_fact(const struct procmap_query *record, struct fact_text *fact)
{
    size_t name = record->vma_name_size;
    if (name > NAME_ROOM || (name > 0 && memchr(fact->name, 0, name) != fact->name + name - 1))
        return 0;
    fact->head.vma_flags = record->vma_flags;
    fact->head.inode = record->inode;
    fact->head.page_size = record->vma_page_size;
    fact->head.dev_major = record->dev_major;
    fact->head.dev_minor = record->dev_minor;
    return sizeof fact->head + (name > 0 ? name - 1 : 0);
}

enum verdict add_record(const struct procmap_query *record, struct fact_text *fact, struct columns *columns)
{
    size_t size = finish_fact(record, fact);
    struct row *row;
    enum verdict verdict;
    if (size == 0 || record->build_id_size != 0 || record->size != sizeof *record ||
        !columns_in_order(columns, record->vma_start, record->vma_end))
        return NOT_MINE;
    columns->width = 1;
    verdict = columns_grow(columns);
    if (verdict != DECODED)
        return verdict;
    row = &columns->rows[columns->count];
    verdict = text_number(&columns->facts, (const char *)fact, size, 0, &row->fact);
    if (verdict != DECODED)
        return verdict;
    row->start = record->vma_start;
    row->end = record->vma_end;
    row->offset = record->vma_offset;
    columns->numbers[columns->count++] = record->vma_page_size;
    return DECODED;
}

/* How many records there are: the first count whose names make up just the rest. 0 when there is none. */
static size_t count_records(const char *data, size_t size)
{
    struct procmap_query record;
    uint64_t behind = 0;
    for (size_t count = 0; count < size / sizeof record;) {
        memcpy(&record, data + count * sizeof record, sizeof record);
        behind += (uint64_t)record.vma_name_size + record.build_id_size;
        count++;
        if (count * sizeof record + behind == size)
            return count;
    }
    return 0;
}

enum verdict decode_records(const char *data, size_t size, struct columns *columns)
{
    size_t count = count_records(data, size), at = count * sizeof(struct procmap_query);
    struct fact_text fact;
    if (count == 0)
        return NOT_MINE;
    for (size_t i = 0; i < count; i++) {
        struct procmap_query record;
        enum verdict verdict;
        memcpy(&record, data + i * sizeof record, sizeof record);
        if (record.vma_name_size > NAME_ROOM)
            return NOT_MINE;
        memcpy(fact.name, data + at, record.vma_name_size);
        at += (size_t)record.vma_name_size + record.build_id_size;
        verdict = add_record(&record, &fact, columns);
        if (verdict != DECODED)
            return verdict;
    }
    return DECODED;
}
