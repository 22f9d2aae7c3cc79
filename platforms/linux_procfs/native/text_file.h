/* Reading /proc/PID/maps or smaps from its start to its end, piece by piece: for the agent and for this machine alike.
 * Nothing is taken apart here: what a piece means is the taker's business. */
#ifndef VMATLAS_LINUX_PROCFS_TEXT_FILE_H
#define VMATLAS_LINUX_PROCFS_TEXT_FILE_H

#include <stddef.h>
#include <sys/types.h>

/* How a reading ended. */
enum text_end {
    TEXT_WHOLE,  /* an empty text is whole, too */
    TEXT_CUT,    /* it may have ended because the memory went away; `error`: ESRCH, or why that could not be found out */
    TEXT_FAILED, /* `error`: the kernel's, or E2BIG when the room is full and the taker wants more */
    TEXT_STOPPED /* by the taker */
};

enum { TEXT_STOP = -1 };

struct text_file {
    int file;
    char *room; /* for a piece, and what was left of the one before */
    size_t size;
    /* Gives how many bytes of a piece it took, or TEXT_STOP. Those that it leaves come again, with what follows them.
     * No piece is empty; `is_end`: nothing follows. */
    ssize_t (*take)(struct text_file *text, const char *piece, size_t size, int is_end);
    void *taker;
    int is_sure; /* what was taken cannot be a cut text: no second look, which costs the kernel a page of text */
    int error;
};

enum text_end read_text_file(struct text_file *text);

#endif
