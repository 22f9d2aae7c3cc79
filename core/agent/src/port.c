#include "port.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "life.h"
#include "serve.h"
#include "system.h"
#include "text.h"
#include "tty.h"

enum { RETRY_MS = 100 };

static void say_ready(const char *port)
{
    char line[PORT_ROOM + 64];
    line[0] = '\0';
    add_text(line, sizeof line, "vmatlas-agent: ready on ");
    add_text(line, sizeof line, port);
    add_text(line, sizeof line, "\n");
    (void)!write(2, line, strlen(line));
}

void serve_port(const char *port, uint32_t baud)
{
    static struct channel channel;
    static char path[PORT_ROOM];
    int said = 0;
    while (!agent_stopping) {
        int fd = -1;
        if (system_find_port(port, path, sizeof path) == 0)
            fd = open(path, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
        if (fd < 0) {
            pause_for(RETRY_MS);
            continue;
        }
        if (isatty(fd))
            (void)set_raw(fd, baud);
        if (!said)
            say_ready(path);
        said = 1;
        channel_open(&channel, fd, fd);
        serve(&channel);
        if (agent_stopping)
            restore_tty();
        forget_tty();
        (void)close(fd);
        pause_for(RETRY_MS);
    }
}
