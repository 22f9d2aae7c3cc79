#include "process_record.h"

#include <string.h>

#include "frame.h"

enum { KERNEL = 1, ZOMBIE = 2, HIDDEN = 4, SILENT = 8, LIVES_ON = 16, GONE = 32, THREAD = 64 };

static int put_record(struct source_sink *sink, const struct process_record *process, int flags)
{
    enum { NAME = 25, NAME_MOST = 255, INSIDE = 4 };
    uint8_t bytes[NAME + NAME_MOST + INSIDE];
    size_t name = process->name_size < NAME_MOST ? process->name_size : NAME_MOST;
    write_u16(bytes, (uint16_t)(NAME - 2 + name + INSIDE));
    write_u32(bytes + 2, process->pid);
    write_u32(bytes + 6, process->parent);
    write_u64(bytes + 10, process->start_time);
    write_u32(bytes + 18, process->user);
    bytes[22] = (uint8_t)process->state;
    bytes[23] = (uint8_t)flags;
    bytes[24] = (uint8_t)name;
    if (name > 0)
        memcpy(bytes + NAME, process->name, name);
    write_u32(bytes + NAME + name, process->number_inside);
    return sink->put(sink, "processes", 0, bytes, NAME + name + INSIDE);
}

int put_process_record(struct source_sink *sink, const struct process_record *process)
{
    int flags = (process->kernel ? KERNEL : 0) | (process->zombie ? ZOMBIE : 0);
    flags |= (process->is_silent ? SILENT : 0) | (process->lives_on ? LIVES_ON : 0);
    return put_record(sink, process, flags);
}

static int put_number(struct source_sink *sink, uint32_t pid, uint32_t parent, int flags)
{
    struct process_record process;
    memset(&process, 0, sizeof process);
    process.pid = pid;
    process.parent = parent;
    return put_record(sink, &process, flags);
}

int put_hidden_process(struct source_sink *sink, uint32_t pid) { return put_number(sink, pid, 0, HIDDEN); }

int put_gone_process(struct source_sink *sink, uint32_t pid) { return put_number(sink, pid, 0, GONE); }

int put_thread(struct source_sink *sink, uint32_t number, uint32_t process) { return put_number(sink, number, process, THREAD); }
