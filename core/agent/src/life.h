/* What this process is, and whether it shall end: the only state that every floor may see. */
#ifndef VMATLAS_LIFE_H
#define VMATLAS_LIFE_H

#include <signal.h>

#define AGENT_VERSION "0.1.0"

enum role {
    ROLE_AGENT,
    ROLE_CHILD, /* of an agent: forked by it, or run by it with --child */
    ROLE_INIT   /* serves the port of a machine whose init it came with */
};

extern enum role agent_role;
extern volatile sig_atomic_t agent_stopping; /* set by a signal or by `shutdown`; every wait ends soon after */

#endif
