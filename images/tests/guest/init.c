/* A stand-in for the agent, for the tests of the machines alone: init of a Linux guest that answers a word with a line.
 *
 *   hello    "hello RELEASE BITS"       panic    init ends, which is a kernel panic
 *   silence  never answers again        flood N  N kilobytes of text on the console, then "flooded"
 *   off      powers the machine off     reset    reboots it
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/utsname.h>
#include <termios.h>
#include <unistd.h>

/* The port that the kernel command line names: a device, or virtio:NAME for a virtio port, which may come late. */
static int open_port(void)
{
    char line[4096] = "", name[256] = "/dev/ttyS1", path[300], said[256], *found;
    int file = open("/proc/cmdline", O_RDONLY), port = -1;
    if (file >= 0 && read(file, line, sizeof line - 1) > 0 && (found = strstr(line, "vmatlas.port=")))
        sscanf(found, "vmatlas.port=%255s", name);
    if (strncmp(name, "virtio:", 7))
        port = open(name, O_RDWR | O_NOCTTY);
    for (int tries = 0; port < 0 && tries < 200; tries++, usleep(50000))
        for (int number = 0; port < 0 && number < 8; number++) {
            snprintf(path, sizeof path, "/sys/class/virtio-ports/vport0p%d/name", number);
            FILE *names = fopen(path, "r");
            if (!names)
                continue;
            if (fgets(said, sizeof said, names) && !strcmp(strtok(said, "\n"), name + 7)) {
                snprintf(path, sizeof path, "/dev/vport0p%d", number);
                port = open(path, O_RDWR);
            }
            fclose(names);
        }
    struct termios settings;
    if (port >= 0 && tcgetattr(port, &settings) == 0) {
        cfmakeraw(&settings);
        tcsetattr(port, TCSANOW, &settings);
    }
    return port;
}

int main(void)
{
    mount("dev", "/dev", "devtmpfs", 0, "");
    mount("proc", "/proc", "proc", 0, "");
    mount("sys", "/sys", "sysfs", 0, "");
    printf("test init is here\n");
    fflush(stdout);
    FILE *port = fdopen(open_port(), "r+");
    char word[256], answer[512];
    if (!port)
        return 1;
    setvbuf(port, NULL, _IONBF, 0);
    for (;;) {
        if (!fgets(word, sizeof word, port)) { /* nobody is connected */
            clearerr(port);
            usleep(20000);
            continue;
        }
        struct utsname self;
        uname(&self);
        *answer = 0;
        if (!strcmp(word, "hello\n"))
            snprintf(answer, sizeof answer, "hello %s %d\n", self.release, (int)sizeof(void *) * 8);
        else if (!strcmp(word, "panic\n"))
            return 3;
        else if (!strcmp(word, "silence\n"))
            for (;;)
                pause();
        else if (!strcmp(word, "off\n"))
            reboot(RB_POWER_OFF);
        else if (!strcmp(word, "reset\n"))
            reboot(RB_AUTOBOOT);
        else if (!strncmp(word, "flood ", 6)) {
            for (long line = atol(word + 6) * 16; line > 0; line--)
                if (write(1, "a console that is flooded, line after line after line, whatever\n", 64) != 64)
                    return 4;
            strcpy(answer, "flooded\n");
        }
        if (write(fileno(port), answer, strlen(answer)) < 0)
            return 5;
    }
}
