/* Process 1 of a Linux machine: mounts, modules, the port; then it starts the agent that serves, again whenever that ends,
 * and reaps. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"
#include "errno_name.h"
#include "system.h"
#include "text.h"

static void say(const char *what, const char *name, int error)
{
    char line[512] = "vmatlas-agent: ";
    add_text(line, sizeof line, what);
    add_text(line, sizeof line, " ");
    add_text(line, sizeof line, name);
    if (error != 0) {
        add_text(line, sizeof line, ": ");
        add_text(line, sizeof line, errno_name(error));
    }
    add_text(line, sizeof line, "\n");
    (void)!write(2, line, strlen(line));
}

static void mount_on(const char *type, const char *folder)
{
    (void)mkdir(folder, 0755);
    if (mount(type, folder, type, 0, NULL) != 0 && errno != EBUSY)
        say("cannot mount", folder, errno);
}

/* The three standard descriptors must exist: pipes of children must not get their numbers. */
static void open_console(void)
{
    int console = open("/dev/console", O_RDWR | O_NOCTTY);
    if (console < 0)
        console = open("/dev/null", O_RDWR);
    while (console >= 0 && console < 3)
        console = dup(console);
    for (int fd = 0; fd < 3 && console > 2; fd++)
        (void)dup2(console, fd);
    if (console > 2)
        (void)close(console);
}

static int ends_with(const char *name, const char *end)
{
    size_t size = strlen(name), tail = strlen(end);
    return size >= tail && strcmp(name + size - tail, end) == 0;
}

static void load_module(const char *name)
{
    enum { COMPRESSED = 4 /* MODULE_INIT_COMPRESSED_FILE */ };
    char path[300] = "/modules/";
    int file;
    add_text(path, sizeof path, name);
    file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0 || (syscall(SYS_finit_module, file, "", ends_with(name, ".ko") ? 0 : COMPRESSED) != 0 && errno != EEXIST))
        say("cannot load", path, errno);
    if (file >= 0)
        (void)close(file);
}

/* In the order of their names, so that the numbers in front of them give the order of dependence. Finds the next name by
 * reading the folder again, which needs no room for a list. */
static void load_modules(void)
{
    char last[256] = "", next[256];
    for (;;) {
        struct dirent *entry;
        DIR *folder = opendir("/modules");
        if (folder == NULL)
            return;
        next[0] = '\0';
        while ((entry = readdir(folder)) != NULL)
            if (strstr(entry->d_name, ".ko") != NULL && strcmp(entry->d_name, last) > 0 &&
                (next[0] == '\0' || strcmp(entry->d_name, next) < 0) && strlen(entry->d_name) < sizeof next)
                strcpy(next, entry->d_name);
        (void)closedir(folder);
        if (next[0] == '\0')
            return;
        load_module(next);
        strcpy(last, next);
    }
}

/* The value of `key=` on the kernel's command line, or the text that stands there already. */
static void take_option(const char *line, const char *key, char *value, size_t size)
{
    size_t length = strlen(key);
    for (const char *at = line; (at = strstr(at, key)) != NULL; at += length) {
        size_t used = 0;
        if (at != line && at[-1] != ' ')
            continue;
        for (const char *from = at + length; *from > ' ' && used + 1 < size; from++)
            value[used++] = *from;
        value[used] = '\0';
    }
}

static void read_line(const char *path, char *text, size_t size)
{
    int file = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = file >= 0 ? read(file, text, size - 1) : 0;
    text[got > 0 ? got : 0] = '\0';
    if (file >= 0)
        (void)close(file);
}

int system_find_port(const char *port, char *path, size_t size)
{
    static const char prefix[] = "virtio:";
    struct dirent *entry;
    DIR *folder;
    path[0] = '\0';
    if (strncmp(port, prefix, sizeof prefix - 1) != 0) {
        add_text(path, size, port);
        return 0;
    }
    folder = opendir("/sys/class/virtio-ports");
    while (folder != NULL && path[0] == '\0' && (entry = readdir(folder)) != NULL) {
        char file[320] = "/sys/class/virtio-ports/", name[256];
        add_text(file, sizeof file, entry->d_name);
        add_text(file, sizeof file, "/name");
        read_line(file, name, sizeof name);
        name[strcspn(name, "\n")] = '\0';
        if (strcmp(name, port + sizeof prefix - 1) == 0) {
            add_text(path, size, "/dev/");
            add_text(path, size, entry->d_name);
        }
    }
    if (folder != NULL)
        (void)closedir(folder);
    return path[0] != '\0' ? 0 : -1;
}

static void keep_serving(void)
{
    for (;;) {
        pid_t server = fork();
        if (server == 0) {
            (void)setsid();
            system_follow_parent(1);
            return; /* the child goes on in main and serves */
        }
        if (server < 0)
            say("cannot start", "the agent", errno);
        for (;;) {
            int status = 0;
            pid_t ended = waitpid(-1, &status, 0);
            if (ended == server || (ended < 0 && errno == ECHILD))
                break;
        }
        say("starting again", "", 0);
        pause_for(100);
    }
}

int system_start(char *port, size_t size, uint32_t *baud, uint32_t *payload)
{
    static char line[4096];
    char number[16] = "";
    struct stat input;
    /* Process 1 of a container may be asked over a pipe: then it is no init. */
    if (getpid() != 1 || (fstat(0, &input) == 0 && (S_ISFIFO(input.st_mode) || S_ISSOCK(input.st_mode))))
        return 0;
    mount_on("devtmpfs", "/dev");
    open_console();
    mount_on("proc", "/proc");
    mount_on("sysfs", "/sys");
    mount_on("tmpfs", "/tmp");
    mount_on("tmpfs", "/dev/shm");
    (void)chmod("/tmp", 01777);
    (void)chmod("/dev/shm", 01777);
    load_modules();
    read_line("/proc/cmdline", line, sizeof line);
    add_text(port, size, "/dev/ttyS1");
    take_option(line, "vmatlas.port=", port, size);
    take_option(line, "vmatlas.baud=", number, sizeof number);
    if (number[0] != '\0')
        *baud = (uint32_t)strtoul(number, NULL, 10);
    number[0] = '\0';
    take_option(line, "vmatlas.payload=", number, sizeof number);
    if (number[0] != '\0')
        *payload = (uint32_t)strtoul(number, NULL, 10);
    keep_serving();
    return 1;
}

void system_power_off(void)
{
    sync();
    (void)reboot(RB_POWER_OFF);
}
