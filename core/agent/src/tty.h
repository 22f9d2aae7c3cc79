/* Terminals and serial lines: set raw, so that every byte passes, and put back. One at a time. */
#ifndef VMATLAS_TTY_H
#define VMATLAS_TTY_H

#include <stdint.h>

int set_raw(int tty, uint32_t baud); /* 0 or -1; baud 0, or one that is not known: the speed stays */
void restore_tty(void);
void forget_tty(void); /* it hung up: there is nothing to put back */

#endif
