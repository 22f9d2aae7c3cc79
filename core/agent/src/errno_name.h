/* errno names: the numbers differ between systems, so the name travels with the number. */
#ifndef VMATLAS_ERRNO_NAME_H
#define VMATLAS_ERRNO_NAME_H

const char *errno_name(int error); /* "unknown" for a number without one */

#endif
