#include "walk.h"

#include <string.h>

int walk_ask(struct walk *walk)
{
    struct procmap_query *answer = &walk->answer;
    int names = walk->name != NULL, error;
    do {
        memset(answer, 0, sizeof *answer);
        answer->size = sizeof *answer;
        answer->query_flags = walk->flags;
        answer->query_addr = walk->address;
        if (names) {
            answer->vma_name_addr = (uint64_t)(uintptr_t)walk->name;
            answer->vma_name_size = NAME_ROOM;
        }
        if (walk->build_id != NULL) {
            answer->build_id_addr = (uint64_t)(uintptr_t)walk->build_id;
            answer->build_id_size = BUILD_ID_ROOM;
        }
        error = procmap_ask(walk->maps, answer);
        walk->is_unnamed = walk->name != NULL && !names;
        /* A path longer than PATH_MAX cannot be told; without its name the region can. */
    } while (error == ENAMETOOLONG && names--);
    answer->vma_name_addr = 0;
    answer->build_id_addr = 0;
    if (error == 0 && (answer->vma_name_size > NAME_ROOM || answer->build_id_size > BUILD_ID_ROOM))
        error = EPROTO; /* more than there is room for */
    return error;
}

int walk_next(struct walk *walk)
{
    int error = walk_ask(walk);
    if (error != 0)
        return error;
    if (walk->end != 0 && walk->answer.vma_start >= walk->end)
        return ENOENT;
    if (walk->answer.vma_end <= walk->address)
        return EPROTO;
    walk->address = walk->answer.vma_end;
    return 0;
}
