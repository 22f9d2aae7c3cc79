#include "text_file.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

/* As read(2), which a signal does not end. */
static ssize_t read_on(int file, char *room, size_t size)
{
    ssize_t got;
    do
        got = read(file, room, size);
    while (got < 0 && errno == EINTR);
    return got;
}

static enum text_end failure(struct text_file *text, enum text_end end, int error)
{
    text->error = error;
    return end;
}

/* When the memory of a process goes away its text just ends; a second look at the start shows that. */
static enum text_end look_again(struct text_file *text)
{
    ssize_t got = lseek(text->file, 0, SEEK_SET) != 0 ? -1 : read_on(text->file, text->room, 1);
    if (got > 0)
        return TEXT_WHOLE;
    return failure(text, TEXT_CUT, got < 0 ? errno : ESRCH);
}

/* Ends with the file, which the kernel makes finite: its text goes up through the address space and never back. */
enum text_end read_text_file(struct text_file *text)
{
    size_t left = 0;
    ssize_t got = 1, taken;
    int is_empty = 1;
    if (lseek(text->file, 0, SEEK_SET) != 0)
        return failure(text, TEXT_FAILED, errno);
    while (got > 0) {
        if (left == text->size)
            return failure(text, TEXT_FAILED, E2BIG);
        got = read_on(text->file, text->room + left, text->size - left);
        if (got < 0)
            return failure(text, TEXT_FAILED, errno);
        left += (size_t)got;
        if (left == 0)
            break;
        is_empty = 0;
        taken = text->take(text, text->room, left, got == 0);
        if (taken < 0)
            return TEXT_STOPPED;
        left -= (size_t)taken;
        memmove(text->room, text->room + taken, left);
    }
    return is_empty || text->is_sure ? TEXT_WHOLE : look_again(text);
}
