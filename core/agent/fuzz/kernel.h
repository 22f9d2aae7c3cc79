/* A kernel made up by the fuzzer's bytes: a clock of its own, a host and children at the ends of streams, calls that succeed or
 * fail. Nothing reaches the real system. */
#ifndef VMATLAS_FUZZ_KERNEL_H
#define VMATLAS_FUZZ_KERNEL_H

#include "input.h"

enum { HOST_IN = 1000, HOST_OUT = 1001 };

/* `stream` is what the host sends. */
void kernel_begin(struct input script, struct input children, const uint8_t *stream, size_t size);
/* Aborts when what was sent to the host is no sequence of whole answers. */
void kernel_check_answers(void);

#endif
