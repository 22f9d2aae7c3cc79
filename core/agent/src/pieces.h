/* The frames of the last answer, remembered, for a line on which large ones do not come through: what was lost is sent again, and
 * not the whole. Bounded memory, of which nothing is touched before a host asks for it. */
#ifndef VMATLAS_PIECES_H
#define VMATLAS_PIECES_H

#include "frame.h"

/* Answers are cut into frames of about so many bytes from now on, and remembered; 0: they are not. Gives what was chosen. */
uint32_t pieces_choose(uint32_t size);
/* An answer begins: the most bytes for the payload of its DATA frames, or 0 when it is not remembered. */
uint32_t pieces_begin(const struct frame *request);
void pieces_keep(uint32_t sequence, const uint8_t *frame, size_t size);
/* Whether this is a repeat of the request whose answer is remembered. */
int pieces_are_of(const struct frame *request);
/* One remembered frame of the answer to that request, and its size; NULL: there is none, or the answer was too long. */
const uint8_t *pieces_find(uint32_t request, uint32_t sequence, size_t *size);

#endif
