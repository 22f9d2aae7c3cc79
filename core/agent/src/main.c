/* The agent: how it was started decides what it serves. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "children.h"
#include "dispatch.h"
#include "guard.h"
#include "life.h"
#include "port.h"
#include "serve.h"
#include "system.h"
#include "tty.h"

static void stop(int signal_number)
{
    (void)signal_number;
    agent_stopping = 1;
}

static void on_signal(int number, void (*action)(int))
{
    struct sigaction wanted;
    memset(&wanted, 0, sizeof wanted);
    wanted.sa_handler = action;
    (void)sigaction(number, &wanted, NULL);
}

/* 0, or -1 for an argument that is not known. */
static int read_arguments(int argc, char **argv, char *port, uint32_t *baud)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--child") == 0)
            agent_role = ROLE_CHILD;
        else if (strcmp(argv[i], "--port") == 0 && i + 1 < argc && strlen(argv[i + 1]) < PORT_ROOM)
            strcpy(port, argv[++i]);
        else if (strcmp(argv[i], "--baud") == 0 && i + 1 < argc)
            *baud = (uint32_t)strtoul(argv[++i], NULL, 10);
        else
            return -1;
    }
    return 0;
}

static int show_version(void)
{
    static const char text[] = "vmatlas-agent " AGENT_VERSION "\n";
    return write(1, text, sizeof text - 1) == (ssize_t)(sizeof text - 1) ? 0 : 1;
}

static int usage(void)
{
    static const char text[] = "usage: vmatlas-agent [--version | --port DEVICE [--baud NUMBER]]   (without: serves stdin and stdout)\n";
    (void)!write(2, text, sizeof text - 1);
    return 2;
}

/* 0, or 1 when the terminal that stands at stdin cannot be used. */
static int serve_stdio(void)
{
    static struct channel channel;
    channel_open(&channel, 0, 1);
    if (isatty(0) && set_raw(0, 0) != 0)
        return 1;
    serve(&channel);
    restore_tty();
    return 0;
}

int main(int argc, char **argv)
{
    static char port[PORT_ROOM];
    uint32_t baud = 115200;
    int failed = 0;

    if (argc == 2 && strcmp(argv[1], "--version") == 0)
        return show_version();
    if (system_start(port, sizeof port, &baud, &largest_request))
        agent_role = ROLE_INIT;
    else if (read_arguments(argc, argv, port, &baud) != 0)
        return usage();
    on_signal(SIGTERM, stop);
    on_signal(SIGINT, stop);
    on_signal(SIGPIPE, SIG_IGN);
#ifdef SIGSYS
    on_signal(SIGSYS, SIG_IGN); /* BSDs end by it who makes a call that the kernel lacks; ignored, it is ENOSYS as elsewhere */
#endif
    on_signal(SIGHUP, port[0] != '\0' ? SIG_IGN : stop); /* a line that hangs up is opened again */
    catch_faults();
    children_begin(serve);
    if (port[0] != '\0')
        serve_port(port, baud);
    else
        failed = serve_stdio();
    end_children();
    return failed;
}
