/* QNX's <devctl.h>, as much as the source uses: the host's own headers stand in for the others. */
#include <stddef.h>
int devctl(int fd, int command, void *data, size_t size, int *told);
