#include "decode.h"

#include "scan.h"

enum verdict decode_scan(const char *data, size_t size, struct runs *runs)
{
    struct scan_record first, record;
    for (size_t at = 0; at < size;) {
        if (size - at < sizeof record)
            return NOT_MINE;
        memcpy(&record, data + at, sizeof record);
        if (at == 0)
            first = record;
        at += sizeof record;
        if (record.size != sizeof record || record.anyof != first.anyof || record.told != first.told ||
            record.vec > (size - at) / sizeof(struct scan_answer))
            return NOT_MINE;
        for (uint64_t left = record.vec; left > 0; left--) {
            struct scan_answer answer;
            enum verdict verdict;
            memcpy(&answer, data + at, sizeof answer);
            at += sizeof answer;
            verdict = runs_add(runs, answer.start, answer.end, answer.categories);
            if (verdict != DECODED)
                return verdict;
        }
    }
    return DECODED;
}

enum verdict decode_entries(const char *data, size_t size, struct runs *runs)
{
    uint64_t head[2], page;
    size_t at = sizeof head;
    if (size < sizeof head)
        return NOT_MINE;
    memcpy(head, data, sizeof head);
    page = head[0];
    if (page == 0 || page > 1 << 20 || (page & (page - 1)) != 0)
        return NOT_MINE;
    while (at < size) {
        uint64_t address;
        if (size - at < sizeof head)
            return NOT_MINE;
        memcpy(head, data + at, sizeof head); /* an address and a count */
        at += sizeof head;
        address = head[0];
        if (head[1] > (size - at) / 2 || head[1] * page > UINT64_MAX - address)
            return NOT_MINE;
        for (uint64_t left = head[1]; left > 0; left--) {
            uint16_t entry;
            enum verdict verdict;
            memcpy(&entry, data + at, sizeof entry);
            at += sizeof entry;
            verdict = runs_add(runs, address, address + page, entry >> UPPER_TO_STATES);
            if (verdict != DECODED)
                return verdict;
            address += page;
        }
    }
    return DECODED;
}
