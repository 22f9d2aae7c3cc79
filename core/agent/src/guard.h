/* Touching memory that may not be there: a fault is a value. */
#ifndef VMATLAS_GUARD_H
#define VMATLAS_GUARD_H

#include <stddef.h>
#include <stdint.h>

/* Once this was called a fault inside the two functions below is caught; one elsewhere still ends the process. */
void catch_faults(void);
/* Reads, or writes `value` to, one byte in each page of the range. Returns the pages done; -1 after a fault. */
int64_t touch_pages(uintptr_t address, size_t length, int write, uint8_t value);
/* 0, or -1 after a fault; what came before it is copied. */
int copy_guarded(uintptr_t to, uintptr_t from, size_t size);
uintptr_t last_fault(void); /* where the last of them met its fault, as far as the processor tells */

#endif
