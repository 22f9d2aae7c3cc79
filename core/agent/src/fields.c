#include "fields.h"

#include <string.h>

#include "frame.h"
#include "text.h"

void fields_begin(struct fields *fields, uint8_t *bytes, size_t room)
{
    fields->bytes = bytes;
    fields->used = 2;
    fields->room = room;
    fields->count = 0;
    write_u16(bytes, 0);
}

void add_field(struct fields *fields, const char *key, const char *value)
{
    size_t key_size = strlen(key), value_size = strlen(value);
    uint8_t *at = fields->bytes + fields->used;
    if (key_size > 255 || value_size > 65535 || fields->room - fields->used < 3 + key_size + value_size)
        return;
    at[0] = (uint8_t)key_size;
    memcpy(at + 1, key, key_size);
    write_u16(at + 1 + key_size, (uint16_t)value_size);
    memcpy(at + 3 + key_size, value, value_size);
    fields->used += 3 + key_size + value_size;
    write_u16(fields->bytes, ++fields->count);
}

void add_number_field(struct fields *fields, const char *key, uint64_t value)
{
    char digits[24] = "";
    add_number(digits, sizeof digits, value);
    add_field(fields, key, digits);
}
