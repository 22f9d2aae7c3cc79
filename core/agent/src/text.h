/* Short texts put together without printf, which would make the agent twice as large. A header alone, so that a plugin's C
 * needs nothing at link time. */
#ifndef VMATLAS_TEXT_H
#define VMATLAS_TEXT_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Appends text to a NUL-terminated buffer, cut at its size. */
static inline void add_text(char *to, size_t size, const char *text)
{
    size_t used = strlen(to);
    while (*text != '\0' && used + 1 < size)
        to[used++] = *text++;
    to[used] = '\0';
}

/* Appends a number in decimal. */
static inline void add_number(char *to, size_t size, uint64_t number)
{
    char digits[24];
    size_t at = sizeof digits - 1;
    digits[at] = '\0';
    do {
        digits[--at] = (char)('0' + (int)(number % 10U));
        number /= 10U;
    } while (number > 0);
    add_text(to, size, digits + at);
}

#endif
