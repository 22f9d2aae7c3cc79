/* The streams of pages into runs: see vmatlas_linux_pagemap/decode.py, its twin. */
#ifndef VMATLAS_LINUX_PAGEMAP_DECODE_H
#define VMATLAS_LINUX_PAGEMAP_DECODE_H

#include "runs.h"

enum { UPPER_TO_STATES = 7 /* of the upper 16 bits of an entry, the upper nine tell */ };

/* The stream `pages-scan` in this machine's byte order. */
enum verdict decode_scan(const char *data, size_t size, struct runs *runs);

/* The stream `pages-entries` likewise. */
enum verdict decode_entries(const char *data, size_t size, struct runs *runs);

#endif
