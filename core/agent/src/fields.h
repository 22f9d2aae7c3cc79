/* The keys and values of a hello, put behind one another; one that does not fit is left out. */
#ifndef VMATLAS_FIELDS_H
#define VMATLAS_FIELDS_H

#include <stddef.h>
#include <stdint.h>

struct fields {
    uint8_t *bytes; /* begins with the count */
    size_t used, room;
    uint16_t count;
};

void fields_begin(struct fields *fields, uint8_t *bytes, size_t room);
void add_field(struct fields *fields, const char *key, const char *value);
void add_number_field(struct fields *fields, const char *key, uint64_t value);

#endif
