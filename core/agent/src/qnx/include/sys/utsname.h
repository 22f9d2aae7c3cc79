#include <qnx_libc.h>
