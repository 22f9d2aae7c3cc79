#include "map.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>

#include "decode.h"
#include "scratch.h"
#include "walk.h"

enum {
    TURN = 64,          /* regions between two looks whether somebody waits */
    STACK = 256 * 1024, /* bytes of a thread: a name and some frames, and room for what checkers add */
    LEAST = 32 * 4096   /* bytes of address space: less is not divided, it has too few regions to be worth a question */
};

/* What is left of a walk: regions that start from here on, below `end`. */
struct range {
    uint64_t start, end;
};

/* What one thread found in one range. */
struct part {
    uint64_t start;
    struct columns columns;
};

struct crowd {
    int maps;
    uint64_t flags;
    pthread_mutex_t lock; /* of all that follows */
    pthread_cond_t changed;
    unsigned walkers, waiting;
    int is_over;
    enum verdict verdict;
    struct range given[MOST_THREADS]; /* ranges that nobody has taken yet */
    unsigned given_count;
    struct part *parts;
    size_t part_count, part_room;
};

/* Walks on for at most `most` regions (0: to the end). `*is_over`: there are no more. */
static enum verdict walk_some(struct walk *walk, struct fact_text *fact, size_t most, struct columns *columns, int *is_over)
{
    size_t behind = columns->count + most;
    *is_over = 0;
    do {
        int error = walk_next(walk);
        enum verdict verdict;
        if (error == ENOENT) {
            *is_over = 1;
            return DECODED;
        }
        if (error != 0 || walk->is_unnamed)
            return NOT_MINE;
        verdict = add_record(&walk->answer, fact, columns);
        if (verdict != DECODED)
            return verdict;
    } while (columns->count != behind);
    return DECODED;
}

/* Cuts the upper part off a range where something is, and gives it; an empty one when the range is too small. What is found empty
 * above is cut off for good. */
static struct range divide(const struct crowd *crowd, struct range *range)
{
    struct walk look = {crowd->maps, crowd->flags, 0, 0, NULL, NULL, {0}, 0};
    struct range upper = {0, 0};
    /* A region that grew over the end of the range may have carried the walk beyond it. */
    while (range->start < range->end && range->end - range->start > LEAST) {
        int error;
        look.address = range->start + (range->end - range->start) / 2;
        error = walk_ask(&look);
        if (error != 0 && error != ENOENT)
            break; /* the walk will meet it, too */
        /* The cut lies at an edge of a region, so that none belongs to both halves. */
        upper.start = look.answer.vma_start >= look.address ? look.answer.vma_start : look.answer.vma_end;
        if (error == 0 && upper.start < range->end) {
            upper.end = range->end;
            range->end = upper.start;
            return upper;
        }
        range->end = look.address;
    }
    upper.start = upper.end = 0;
    return upper;
}

static void end_all(struct crowd *crowd, enum verdict verdict)
{
    if (crowd->verdict == DECODED)
        crowd->verdict = verdict;
    crowd->is_over = 1;
    (void)pthread_cond_broadcast(&crowd->changed);
}

/* Gives a part of what is left to somebody who waits, if there is one. 0 when all is over. */
static int share(struct crowd *crowd, struct walk *walk)
{
    struct range range = {walk->address, walk->end}, upper;
    int is_wanted, is_over;
    (void)pthread_mutex_lock(&crowd->lock);
    is_over = crowd->is_over;
    is_wanted = crowd->waiting > crowd->given_count;
    (void)pthread_mutex_unlock(&crowd->lock);
    if (is_over || !is_wanted)
        return !is_over;
    upper = divide(crowd, &range);
    walk->end = range.end;
    if (upper.end == 0)
        return 1;
    (void)pthread_mutex_lock(&crowd->lock);
    if (crowd->given_count < MOST_THREADS) {
        crowd->given[crowd->given_count++] = upper;
        (void)pthread_cond_signal(&crowd->changed);
    } else {
        walk->end = upper.end;
    }
    (void)pthread_mutex_unlock(&crowd->lock);
    return 1;
}

static enum verdict walk_range(struct crowd *crowd, struct range range, struct fact_text *fact, struct columns *columns)
{
    struct walk walk = {crowd->maps, crowd->flags, range.start, range.end, fact->name, NULL, {0}, 0};
    int is_over = 0;
    while (!is_over && share(crowd, &walk)) {
        enum verdict verdict = walk_some(&walk, fact, TURN, columns, &is_over);
        if (verdict != DECODED)
            return verdict;
    }
    return DECODED;
}

/* With the lock held. */
static enum verdict keep_part(struct crowd *crowd, const struct part *part)
{
    if (crowd->part_count == crowd->part_room) {
        size_t room = crowd->part_room * 2 + 16;
        struct part *parts = (struct part *)realloc(crowd->parts, room * sizeof *parts);
        if (parts == NULL)
            return NO_MEMORY;
        crowd->parts = parts;
        crowd->part_room = room;
    }
    crowd->parts[crowd->part_count++] = *part;
    return DECODED;
}

/* Takes ranges and walks them, until all are walked: when everybody waits. */
static void *work(void *argument)
{
    struct crowd *crowd = (struct crowd *)argument;
    struct fact_text fact;
    (void)pthread_mutex_lock(&crowd->lock);
    for (;;) {
        struct part part = {0};
        struct range range;
        enum verdict verdict;
        while (crowd->given_count == 0 && !crowd->is_over) {
            if (++crowd->waiting == crowd->walkers)
                end_all(crowd, DECODED);
            else
                (void)pthread_cond_wait(&crowd->changed, &crowd->lock);
            crowd->waiting--;
        }
        if (crowd->is_over)
            break;
        range = crowd->given[--crowd->given_count];
        (void)pthread_mutex_unlock(&crowd->lock);
        part.start = range.start;
        verdict = walk_range(crowd, range, &fact, &part.columns);
        (void)pthread_mutex_lock(&crowd->lock);
        if (verdict == DECODED && part.columns.count > 0)
            verdict = keep_part(crowd, &part);
        if (verdict != DECODED || part.columns.count == 0)
            columns_free(&part.columns);
        if (verdict != DECODED)
            end_all(crowd, verdict);
    }
    (void)pthread_mutex_unlock(&crowd->lock);
    return NULL;
}

/* How many processors have nothing to do at this moment: all but the threads that run or want to, which /proc/loadavg tells as
 * "1.00 0.50 0.20 RUNNING/ALL LAST". 0 where it cannot be read. */
static unsigned count_idle(void)
{
    char text[128], *at = text;
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    unsigned long running;
    ssize_t size = -1;
    int file = open("/proc/loadavg", O_RDONLY | O_CLOEXEC);
    if (file >= 0) {
        size = read(file, text, sizeof text - 1);
        (void)close(file);
    }
    if (size <= 0)
        return 0;
    text[size] = '\0';
    for (int field = 0; field < 3 && at != NULL; field++) {
        at = strchr(at, ' ');
        at = at == NULL ? NULL : at + 1;
    }
    running = at == NULL ? 0 : strtoul(at, &at, 10);
    return running == 0 || *at != '/' || processors <= 0 || running >= (unsigned long)processors
               ? 0
               : (unsigned)((unsigned long)processors - running);
}

/* Starts up to so many threads, which no signal disturbs, and counts them among the walkers: fewer where the system has none left. */
static unsigned call(struct crowd *crowd, pthread_t *threads, unsigned wanted)
{
    unsigned called = 0;
    pthread_attr_t attributes;
    sigset_t all, before;
    if (pthread_attr_init(&attributes) != 0)
        return 0;
    (void)sigfillset(&all);
    if (pthread_attr_setstacksize(&attributes, STACK) == 0 && pthread_sigmask(SIG_SETMASK, &all, &before) == 0) {
        (void)pthread_mutex_lock(&crowd->lock); /* nobody counts the walkers before all are there */
        while (called < wanted && pthread_create(&threads[called], &attributes, work, crowd) == 0)
            called++;
        crowd->walkers += called;
        (void)pthread_mutex_unlock(&crowd->lock);
        (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
    (void)pthread_attr_destroy(&attributes);
    return called;
}

static int by_start(const void *one, const void *other)
{
    uint64_t a = ((const struct part *)one)->start, b = ((const struct part *)other)->start;
    return a < b ? -1 : a > b;
}

/* Puts rows behind those that there are, under the numbers that their facts have there. There is room for them. */
static enum verdict append(struct columns *columns, const struct columns *part)
{
    uint32_t *numbers = (uint32_t *)malloc(part->facts.count * sizeof *numbers);
    enum verdict verdict = numbers == NULL ? NO_MEMORY : DECODED;
    for (uint32_t i = 0; verdict == DECODED && i < part->facts.count; i++) {
        const struct text *fact = &part->facts.all[i];
        verdict = text_number(&columns->facts, part->facts.bytes + fact->at, fact->size, fact->tag, &numbers[i]);
    }
    /* Within the part all is in order; over its edge a region may have grown or merged. */
    if (verdict == DECODED && !columns_in_order(columns, part->rows->start, part->rows->end))
        verdict = NOT_MINE;
    for (size_t i = 0; verdict == DECODED && i < part->count; i++) {
        struct row *row = &columns->rows[columns->count];
        *row = part->rows[i];
        row->fact = numbers[row->fact];
        columns->numbers[columns->count++] = part->numbers[i];
    }
    free(numbers);
    return verdict;
}

/* Puts the parts together, in order, and frees them. */
static enum verdict join(struct crowd *crowd, struct columns *columns)
{
    enum verdict verdict = crowd->verdict;
    size_t count = columns->count;
    if (crowd->part_count > 0)
        qsort(crowd->parts, crowd->part_count, sizeof *crowd->parts, by_start);
    for (size_t i = 0; i < crowd->part_count; i++)
        count += crowd->parts[i].columns.count;
    if (verdict == DECODED)
        verdict = columns_reserve(columns, count);
    for (size_t i = 0; i < crowd->part_count; i++) {
        if (verdict == DECODED)
            verdict = append(columns, &crowd->parts[i].columns);
        columns_free(&crowd->parts[i].columns);
    }
    free(crowd->parts);
    return verdict;
}

/* Walks from an address to the end of memory, by several threads. */
static enum verdict walk_together(const struct map_question *question, uint64_t address, struct columns *columns)
{
    struct crowd crowd = {.maps = question->maps, .flags = question->flags, .walkers = 1, .verdict = DECODED};
    unsigned others = (question->threads < MOST_THREADS ? question->threads : MOST_THREADS) - 1;
    pthread_t threads[MOST_THREADS];
    if (question->only_idle) {
        unsigned idle = count_idle();
        others = others < idle ? others : idle;
    }
    if (pthread_mutex_init(&crowd.lock, NULL) != 0)
        return NOT_MINE;
    if (pthread_cond_init(&crowd.changed, NULL) != 0) {
        (void)pthread_mutex_destroy(&crowd.lock);
        return NOT_MINE;
    }
    crowd.given[crowd.given_count++] = (struct range){address, UINT64_MAX};
    others = call(&crowd, threads, others);
    (void)work(&crowd);
    while (others > 0)
        (void)pthread_join(threads[--others], NULL);
    (void)pthread_cond_destroy(&crowd.changed);
    (void)pthread_mutex_destroy(&crowd.lock);
    return join(&crowd, columns);
}

enum verdict walk_map(const struct map_question *question, struct columns *columns)
{
    int is_together = question->threads > 1 && question->limit == 0 && question->most == 0, is_over;
    size_t first = is_together ? ALONE : question->limit > 0 ? question->limit : question->most;
    struct fact_text fact;
    struct walk walk = {question->maps, question->flags, question->address, 0, fact.name, NULL, {0}, 0};
    enum verdict verdict = walk_some(&walk, &fact, first, columns, &is_over);
    if (verdict != DECODED)
        return verdict;
    if (!is_over && is_together)
        return walk_together(question, walk.address, columns);
    /* `most` regions, and the end was not met: one more would be too many. */
    if (!is_over && question->limit == 0)
        verdict = walk_next(&walk) == ENOENT ? DECODED : NOT_MINE;
    return columns->count > 0 ? verdict : NOT_MINE;
}

/* A fact's name is what stands behind its head. */
static int is_scratch(const char *fact, size_t size)
{
    size_t head = sizeof(struct fact_head), label = sizeof SCRATCH_LABEL - 1;
    return size == head + label && memcmp(fact + head, SCRATCH_LABEL, label) == 0;
}

enum verdict walk_self(const struct map_question *question, struct columns *columns)
{
    struct fact_text fact;
    struct walk walk = {question->maps, question->flags, question->address, 0, fact.name, NULL, {0}, 0};
    enum verdict verdict = DECODED;
    int is_over = 0;
    *columns = scratch_columns();
    if (columns->memory == NULL)
        return NOT_MINE;
    while (verdict == DECODED && !is_over)
        verdict = scratch_has_room(columns) ? walk_some(&walk, &fact, TURN, columns, &is_over) : NOT_MINE;
    scratch_cut(columns, is_scratch);
    return verdict == DECODED && (columns->count == 0 || (question->most > 0 && columns->count > question->most)) ? NOT_MINE : verdict;
}
