#include "life.h"

enum role agent_role = ROLE_AGENT;
volatile sig_atomic_t agent_stopping;
