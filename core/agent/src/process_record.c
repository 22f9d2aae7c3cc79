#include "process_record.h"

#include <string.h>

#include "frame.h"

int put_process_record(struct source_sink *sink, const struct process_record *process)
{
    enum { NAME = 25, NAME_MOST = 255 };
    uint8_t bytes[NAME + NAME_MOST];
    size_t name = process->name_size < NAME_MOST ? process->name_size : NAME_MOST;
    write_u16(bytes, (uint16_t)(NAME - 2 + name));
    write_u32(bytes + 2, process->pid);
    write_u32(bytes + 6, process->parent);
    write_u64(bytes + 10, process->start_time);
    write_u32(bytes + 18, process->user);
    bytes[22] = (uint8_t)process->state;
    bytes[23] = (uint8_t)((process->kernel ? 1 : 0) | (process->zombie ? 2 : 0));
    bytes[24] = (uint8_t)name;
    memcpy(bytes + NAME, process->name, name);
    return sink->put(sink, "processes", 0, bytes, NAME + name);
}
