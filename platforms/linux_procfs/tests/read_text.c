/* Reads a scripted file by text_file.c: read_text ROOM TAKER STEP...
 * A step is what the next read has: bytes, or "-ERRNO". Behind the last one is the end; "|" is the end, too, and behind it
 * stands what is there when the start is read again. A step "seek" lets the next seek fail with ESPIPE.
 * TAKER: all; lines (leaves what does not end with ";"); end (leaves all until the end); none; second (stops at its second
 * piece); sure (takes all, and says that nothing can follow).
 * Prints each piece, with "." behind it at the end, then how the reading ended, the errno, and the reads and seeks. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static ssize_t scripted_read(int file, void *room, size_t size);
static off_t scripted_seek(int file, off_t offset, int whence);

#define read scripted_read
#define lseek scripted_seek
#include "text_file.c"
#undef read
#undef lseek

static char **step;
static size_t given; /* of the step */
static int reads, seeks;

static ssize_t scripted_read(int file, void *room, size_t size)
{
    size_t more;
    reads++;
    if (file != 7 || size == 0)
        abort();
    if (*step == NULL || strcmp(*step, "|") == 0)
        return 0;
    if (**step == '-') {
        errno = atoi(*step++ + 1);
        return -1;
    }
    more = strlen(*step + given);
    more = more < size ? more : size;
    memcpy(room, *step + given, more);
    given += more;
    if ((*step)[given] == '\0') {
        step++;
        given = 0;
    }
    return (ssize_t)more;
}

static off_t scripted_seek(int file, off_t offset, int whence)
{
    if (file != 7 || offset != 0 || whence != SEEK_SET)
        abort();
    if (seeks++ > 0 && *step != NULL) /* at its end */
        step++;
    if (*step == NULL || strcmp(*step, "seek") != 0)
        return 0;
    errno = ESPIPE;
    return -1;
}

static ssize_t take(struct text_file *text, const char *piece, size_t size, int is_end)
{
    const char *how = text->taker;
    static int pieces;
    if (size == 0)
        abort();
    printf("%.*s%s\n", (int)size, piece, is_end ? "." : "");
    text->is_sure = strcmp(how, "sure") == 0;
    if (strcmp(how, "second") == 0 && ++pieces == 2)
        return TEXT_STOP;
    if (strcmp(how, "none") == 0 || (strcmp(how, "end") == 0 && !is_end))
        return 0;
    while (strcmp(how, "lines") == 0 && size > 0 && piece[size - 1] != ';')
        size--;
    return (ssize_t)size;
}

int main(int count, char **words)
{
    static const char *const ends[] = {[TEXT_WHOLE] = "whole", [TEXT_CUT] = "cut", [TEXT_FAILED] = "failed",
                                       [TEXT_STOPPED] = "stopped"};
    struct text_file text = {7, NULL, 0, take, NULL, 0, 0};
    enum text_end end;
    if (count < 3)
        return 2;
    text.size = strtoul(words[1], NULL, 10);
    text.room = malloc(text.size); /* of the exact size: a byte beyond it is seen */
    if (text.room == NULL)
        return 2;
    text.taker = words[2];
    step = words + 3;
    end = read_text_file(&text);
    printf("%s %d %d %d\n", ends[end], text.error, reads, seeks);
    free(text.room);
    return 0;
}
