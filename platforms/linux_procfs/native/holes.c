#include "holes.h"

#include <string.h>

static int ask(const struct holes *holes, uint64_t address, char *name, struct procmap_query *answer)
{
    memset(answer, 0, sizeof *answer);
    answer->size = sizeof *answer;
    answer->query_flags = COVERING_OR_NEXT;
    answer->query_addr = address;
    if (name != NULL) {
        answer->vma_name_addr = (uint64_t)(uintptr_t)name;
        answer->vma_name_size = NAME_ROOM;
    }
    return procmap_ask(holes->maps, answer);
}

/* An older kernel, an emulator or a sandbox that does not let it pass: the text then stands as it is. */
static int is_unable(int error)
{
    return error == ENOTTY || error == ENOSYS || error == EINVAL || error == EPERM || error == EACCES;
}

/* Asks for all that is mapped from `address` on and starts below `end`. Without its name first, which is quicker: mostly there is
 * nothing. */
static int ask_about_hole(struct holes *holes, uint64_t address, uint64_t end)
{
    struct procmap_query answer;
    char name[NAME_ROOM];
    while (address < end && holes->maps >= 0 && !holes->is_over) {
        int error = ask(holes, address, NULL, &answer);
        if (error == 0 && answer.vma_start < end) {
            error = ask(holes, address, name, &answer);
            if (error == ENAMETOOLONG) /* a path that is longer than the kernel tells: the region is told without it */
                error = ask(holes, address, NULL, &answer);
        }
        if (error == ENOENT)
            holes->is_over = 1;
        if (is_unable(error))
            holes->maps = -1;
        if (error == ENOENT || is_unable(error) || (error == 0 && answer.vma_start >= end))
            return 0;
        if (error == 0 && (answer.vma_end <= address || answer.vma_name_size > NAME_ROOM))
            error = EPROTO; /* an answer that cannot be followed */
        if (error != 0)
            return error;
        address = answer.vma_end;
        answer.vma_name_addr = 0;
        error = holes->put(holes, &answer, name);
        if (error != 0)
            return error;
    }
    return 0;
}

int holes_region(struct holes *holes, uint64_t start, uint64_t end)
{
    int error = start > holes->behind ? ask_about_hole(holes, holes->behind, start) : 0;
    if (end > holes->behind)
        holes->behind = end;
    return error;
}

int holes_end(struct holes *holes) { return ask_about_hole(holes, holes->behind, UINT64_MAX); }

/* The value of a hexadecimal digit in lower case, or 16: the keys below a region of smaps begin with a capital. */
static inline unsigned digit_of(char byte)
{
    return byte >= '0' && byte <= '9' ? (unsigned)(byte - '0') : byte >= 'a' && byte <= 'f' ? (unsigned)(byte - 'a') + 10 : 16;
}

int holes_text(struct holes *holes, const char *piece, size_t size)
{
    const char *at = piece, *behind = piece + size;
    while (at < behind) {
        unsigned digit;
        switch (holes->place) {
        case AT_LINE:
            holes->start = holes->end = 0;
            holes->place = digit_of(*at) < 16 ? IN_START : IN_REST;
            break;
        case IN_START:
            while (at < behind && (digit = digit_of(*at)) < 16) {
                holes->start = holes->start << 4 | digit;
                at++;
            }
            if (at < behind)
                holes->place = *at++ == '-' ? IN_END : IN_REST;
            break;
        case IN_END:
            while (at < behind && (digit = digit_of(*at)) < 16) {
                holes->end = holes->end << 4 | digit;
                at++;
            }
            if (at < behind) {
                int error = *at == ' ' ? holes_region(holes, holes->start, holes->end) : 0;
                holes->place = IN_REST;
                if (error != 0)
                    return error;
            }
            break;
        default:
            at = (const char *)memchr(at, '\n', (size_t)(behind - at));
            if (at == NULL)
                return 0;
            at++;
            holes->place = AT_LINE;
        }
    }
    return 0;
}
