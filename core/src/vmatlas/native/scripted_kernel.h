/* What the drivers share that run a plugin's source (native/acquire.c) on this machine, against a kernel that they play. For tests
 * alone; conformance/scripted_kernel.py builds and runs them.
 *
 * A driver defines the system's calls that the source makes, and a main() that does
 *
 *     script_begin(argc, argv);
 *     return script_ask(vmatlas_plan9_sources);
 *
 * The script is the words of the command line, each NAME=NUMBER or NAME=NUMBER,NUMBER,... Here are known: `pid`, `tid`, `want`,
 * `flags`, `address` and `end`, the question; `source`, which one of the table; `puts`, how many the sink takes before one fails; `size` and `growth`, for
 * script_fill(). All others are the driver's own; one that nothing asks for, though the source went its whole way, is a mistake.
 * So is memory that a source maps and keeps. What a driver prints, a line at a time, is the test's to read.
 */
#ifndef VMATLAS_SCRIPTED_KERNEL_H
#define VMATLAS_SCRIPTED_KERNEL_H

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "source.h"

enum { SCRIPT_WORDS = 32 };

static struct {
    int count;
    char **words;
    int asked[SCRIPT_WORDS];
    long long puts;
    int put_failed;
    size_t mapped;
} script;

static inline void script_mistake(const char *what, const char *which)
{
    fprintf(stderr, "%s: %s\n", what, which);
    exit(2);
}

static inline void script_begin(int count, char **words)
{
    if (count > SCRIPT_WORDS)
        script_mistake("too many words in the script, from", words[SCRIPT_WORDS]);
    script.count = count;
    script.words = words;
}

/* The numbers of a name, as text; NULL where the script has no such name. */
static inline char *script_find(const char *name)
{
    size_t length = strlen(name);
    for (int i = 1; i < script.count; i++)
        if (strncmp(script.words[i], name, length) == 0 && script.words[i][length] == '=') {
            script.asked[i] = 1;
            return script.words[i] + length + 1;
        }
    return NULL;
}

static inline long long script_number(const char *name, long long otherwise)
{
    const char *text = script_find(name);
    return text == NULL ? otherwise : strtoll(text, NULL, 10);
}

/* The numbers of a name one after another, then 0. */
static inline long long script_next(const char *name)
{
    char *text = script_find(name), *rest;
    long long number;
    if (text == NULL)
        return 0;
    number = strtoll(text, &rest, 10);
    rest += *rest == ',';
    memmove(text, rest, strlen(rest) + 1);
    return number;
}

/* As a kernel answers that tells a size, and then fills the room it is given (sysctl(3)): 0, or -1 with an errno. There are `size`
 * units, all bytes 'm', or there is the errno -size. Without room it tells how many bytes that is. With room it is read, which is
 * printed as "reading BYTES"; the next number of `growth` says how many units have come since it was told. Into room for less go the
 * units that fit, and `too_small` is the errno. */
static inline int script_fill(void *room, size_t *room_size, size_t unit, int too_small)
{
    long long size = script_number("size", 0);
    size_t there = (size_t)size * unit, given = *room_size;
    if (size < 0) {
        errno = (int)-size;
        return -1;
    }
    if (room != NULL) {
        printf("reading %zu\n", given);
        there += (size_t)script_next("growth") * unit;
        memset(room, 'm', there < given ? there : given / unit * unit);
    }
    *room_size = there;
    if (room == NULL || there <= given)
        return 0;
    errno = too_small;
    return -1;
}

/* What a source maps it gives back: the linker leads its calls here (--wrap), whichever of the two names libc has for it. */
void *__real_mmap(void *address, size_t size, int protection, int flags, int file, off_t offset);
void *__wrap_mmap(void *address, size_t size, int protection, int flags, int file, off_t offset);
void *__wrap_mmap64(void *address, size_t size, int protection, int flags, int file, off_t offset);
int __real_munmap(void *address, size_t size);
int __wrap_munmap(void *address, size_t size);

void *__wrap_mmap(void *address, size_t size, int protection, int flags, int file, off_t offset)
{
    void *mapped = __real_mmap(address, size, protection, flags, file, offset);
    script.mapped += mapped != MAP_FAILED ? size : 0;
    return mapped;
}

void *__wrap_mmap64(void *address, size_t size, int protection, int flags, int file, off_t offset)
{
    return __wrap_mmap(address, size, protection, flags, file, offset);
}

int __wrap_munmap(void *address, size_t size)
{
    int failed = __real_munmap(address, size);
    script.mapped -= failed ? 0 : size;
    return failed;
}

static inline int script_put(struct source_sink *sink, const char *stream, unsigned part, const void *bytes, size_t size)
{
    (void)sink;
    if (script.put_failed)
        script_mistake("the source went on after a put that failed, and put", stream);
    script.put_failed = script_find("puts") != NULL && script.puts++ == script_number("puts", 0);
    if (script.put_failed)
        return EPIPE;
    printf("put %s %u %zu\n", stream, part, size);
    fwrite(bytes, 1, size, stdout);
    putchar('\n');
    return 0;
}

/* Asks the source that the script names, and prints what it puts and how it ends. Gives the exit code of main(). */
static inline int script_ask(const struct source *table)
{
    struct source_question question;
    struct source_sink sink;
    int error;
    memset(&question, 0, sizeof question);
    memset(&sink, 0, sizeof sink);
    question.pid = (uint32_t)script_number("pid", 0);
    question.tid = (uint32_t)script_number("tid", 0);
    question.want = (uint32_t)script_number("want", 0);
    question.flags = (uint64_t)script_number("flags", 0);
    question.address = (uint64_t)script_number("address", 0);
    question.end = (uint64_t)script_number("end", 0);
    sink.put = script_put;
    error = table[script_number("source", 0)].acquire(&question, &sink);
    if (script.mapped != 0)
        script_mistake("memory that was mapped is not given back by", table[script_number("source", 0)].name);
    for (int i = 1; i < script.count; i++)
        if (!script.asked[i] && !script.put_failed && !sink.refused)
            script_mistake("nothing asked for this word of the script", script.words[i]);
    printf("end %d %d %s\n", error, sink.refused, sink.failed);
    return 0;
}

#endif
