/* Serial lines and other ports: served for ever, opened again after a hang-up. */
#ifndef VMATLAS_PORT_H
#define VMATLAS_PORT_H

#include <stdint.h>

enum { PORT_ROOM = 4097 /* a path of 4,096 bytes and its NUL */ };

/* Its path is looked up each time, since a port may come late. Ends when the agent shall stop. */
void serve_port(const char *port, uint32_t baud);

#endif
