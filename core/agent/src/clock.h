/* Time that only goes forward. */
#ifndef VMATLAS_CLOCK_H
#define VMATLAS_CLOCK_H

#include <stdint.h>

uint64_t milliseconds(void); /* since some moment in the past */
void pause_for(uint32_t duration_ms);

#endif
