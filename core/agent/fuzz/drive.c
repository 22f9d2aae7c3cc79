/* Runs a fuzz target without libFuzzer: mutations of the corpus and of inputs of its own, no coverage. From one seed come the
 * same inputs. An input that ends the program is kept in ./crash-SEED-NUMBER. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "input.h"

enum { INPUT_ROOM = 8192, MOST_FILES = 512 };

static struct {
    uint8_t bytes[INPUT_ROOM];
    size_t size;
} corpus[MOST_FILES], now;
static unsigned files;
static uint64_t state;
static char crash_name[64];

static uint32_t draw(uint32_t below)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)((state >> 16) % below);
}

static void keep_input(void)
{
    int file = open(crash_name, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (file >= 0 && write(file, now.bytes, now.size) == (ssize_t)now.size)
        (void)!write(2, crash_name, strlen(crash_name));
}

static void on_abort(int number)
{
    keep_input();
    (void)signal(number, SIG_DFL);
    (void)raise(number);
}

static void load(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL || files == MOST_FILES)
        exit(2);
    corpus[files].size = fread(corpus[files].bytes, 1, INPUT_ROOM, file);
    (void)fclose(file);
    files++;
}

static void make_input(void)
{
    if (files > 0 && draw(4) != 0) {
        now = corpus[draw(files)];
    } else {
        now.size = draw(draw(8) == 0 ? INPUT_ROOM : draw(2) == 0 ? 1200 : 60);
        for (size_t i = 0; i < now.size; i++)
            now.bytes[i] = (uint8_t)draw(256);
    }
    for (uint32_t times = draw(12); times > 0 && now.size > 0; times--) {
        uint32_t at = draw((uint32_t)now.size), size;
        switch (draw(5)) {
        case 0:
            now.bytes[at] = (uint8_t)draw(256);
            break;
        case 1:
            now.bytes[at] ^= (uint8_t)(1U << draw(8));
            break;
        case 2: /* a piece goes */
            size = draw((uint32_t)(now.size - at));
            memmove(now.bytes + at, now.bytes + at + size, now.size - at - size);
            now.size -= size;
            break;
        case 3: /* a piece comes twice */
            size = draw((uint32_t)(now.size - at));
            size = size < INPUT_ROOM - now.size ? size : (uint32_t)(INPUT_ROOM - now.size);
            memmove(now.bytes + at + size, now.bytes + at, now.size - at);
            now.size += size;
            break;
        default: /* the end of another */
            if (files > 0) {
                uint32_t other = draw(files);
                size_t taken = corpus[other].size < INPUT_ROOM - at ? corpus[other].size : INPUT_ROOM - at;
                memcpy(now.bytes + at, corpus[other].bytes, taken);
                now.size = at + taken > now.size ? at + taken : now.size;
            }
        }
    }
}

static void run(void)
{
    uint8_t *copy = malloc(now.size + 1); /* of the exact size: a read beyond it is seen */
    if (copy == NULL)
        exit(2);
    memcpy(copy, now.bytes, now.size);
    (void)LLVMFuzzerTestOneInput(copy, now.size);
    free(copy);
}

/* drive SEED ROUNDS SECONDS FILE...: each file as it is, then rounds until one of the two bounds (0: none) */
int main(int argc, char **argv)
{
    unsigned long rounds = argc > 2 ? strtoul(argv[2], NULL, 10) : 1000, done = 0;
    time_t until = argc > 3 && strtol(argv[3], NULL, 10) > 0 ? time(NULL) + strtol(argv[3], NULL, 10) : 0;
    state = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
    if (state == 0)
        state = 1;
    (void)snprintf(crash_name, sizeof crash_name, "crash-%llu", (unsigned long long)state);
    (void)signal(SIGABRT, on_abort);
    for (int i = 4; i < argc; i++)
        load(argv[i]);
    for (unsigned i = 0; i < files; i++) {
        now = corpus[i];
        run();
    }
    for (; (rounds == 0 || done < rounds) && (until == 0 || time(NULL) < until); done++) {
        make_input();
        run();
    }
    printf("files %u runs %lu\n", files, done);
    return 0;
}
