/* A system with a folder /proc/PID for each process: Linux, QNX. */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>

#include "system.h"

int system_processes(struct source_sink *sink, uint32_t only)
{
    struct dirent *entry;
    int error = 0;
    DIR *folder;
    if (only != 0)
        return system_process(sink, only);
    folder = opendir("/proc");
    if (folder == NULL)
        return source_failure(sink, "opendir", "/proc", errno);
    system_listing(1);
    while (error == 0 && (entry = readdir(folder)) != NULL) {
        char *end;
        unsigned long pid = strtoul(entry->d_name, &end, 10);
        if (*end == '\0' && pid > 0)
            error = system_process(sink, (uint32_t)pid);
    }
    system_listing(0);
    (void)closedir(folder);
    return error;
}
