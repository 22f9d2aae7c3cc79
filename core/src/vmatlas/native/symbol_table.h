/* The symbols of an ELF file by address: what vmatlas.symbols.table does in Python. Pure C, nothing of Python's. */
#ifndef VMATLAS_SYMBOL_TABLE_H
#define VMATLAS_SYMBOL_TABLE_H

#include <stddef.h>
#include <stdint.h>

enum { LOOKED_BACK = 32 }; /* so many symbols before an address are looked at: one may lie within another */

/* How a table is laid out, and whose it is. */
struct symbol_layout {
    int is_wide;    /* 64 bits */
    int is_swapped; /* of the other byte order than this machine's */
    int is_thumb;   /* of a function the lowest bit of the address says that it is Thumb (ARM) */
    int has_marks;  /* names that begin with $ are marks of what is code and what data */
};

/* Columns of `count` rows by address; of equal addresses the last is told. */
struct symbols {
    uint64_t *starts, *ends;
    uint64_t *reach; /* the highest end of a row and of all before it */
    uint32_t *names; /* where in the text a name begins */
    size_t count;
};

/* A section, of which a label goes no further than to the end. They are sorted. */
struct section_bounds {
    uint64_t start, end;
};

/* The columns of a table of `size` bytes with its names in `text`. 0, or -1 without memory. To be freed. */
int symbols_read(struct symbols *symbols, const unsigned char *raw, size_t size, const unsigned char *text, size_t text_size,
                 struct symbol_layout layout, const struct section_bounds *bounds, size_t bounds_count);

void symbols_free(struct symbols *symbols);

/* Whether the symbol of a row has a name; negative ends the search. */
typedef int symbol_has_name(void *asked, size_t row);

/* The row that covers an address, -1 where none does, -2 where `has_name` ended the search. */
ptrdiff_t symbol_at(const struct symbols *symbols, uint64_t address, symbol_has_name *has_name, void *asked);

#endif
