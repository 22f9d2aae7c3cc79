#include "clock.h"

#include <poll.h>
#include <stddef.h>
#include <time.h>

uint64_t milliseconds(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000U + (uint64_t)now.tv_nsec / 1000000U;
}

void pause_for(uint32_t duration_ms) { (void)poll(NULL, 0, (int)duration_ms); }
