/* The extension vmatlas_linux_pagemap._native: asks about pages and makes runs of the answers in one go, and decodes the streams.
 * What is unusual (an errno of the kernel's, memory that is gone, answers out of order) it leaves to its twin in Python. */
#include "arrays.h"

#include "decode.h"
#include "entries.h"
#include "scan.h"

enum {
    RUNS_AT_ONCE = 1024,
    LOOKS = 256, /* so many calls of the kernel, and then it is looked whether a signal came */
    MOST_ANSWERS = (1 << 28) / sizeof(struct scan_answer), /* of a stream as long as a capture's may be; Python tells the error */
    MOST_ENTRIES = (1 << 28) / 2
};

/* A question on its way, without the interpreter meanwhile. Runs that are made go to the columns when their room is full: what is made
 * for good is touched once. */
struct asking {
    struct runs runs; /* the first: `drain` gets from it to the rest */
    PyObject *start, *end, *state_of;
    PyThreadState *state;
    size_t calls, kept;
    int failed; /* Python has raised: a signal's handler, no memory */
    enum verdict verdict;
};

/* So many items of the size to the end of a column. 0, or -1 with an exception. */
static int extend(PyObject *column, const void *items, size_t count, size_t size)
{
    PyObject *view = PyMemoryView_FromMemory((char *)(uintptr_t)items, (Py_ssize_t)(count * size), PyBUF_READ);
    PyObject *none = view == NULL ? NULL : PyObject_CallMethod(column, "frombytes", "O", view);
    Py_DecRef(view);
    Py_DecRef(none);
    return none == NULL ? -1 : 0;
}

/* All runs but so many of the last to the columns. 0, or -1 with an exception. */
static int drain(struct asking *asking, size_t left)
{
    struct runs *runs = &asking->runs;
    size_t count = runs->count - left;
    if (count > 0 && (extend(asking->start, runs->start, count, sizeof *runs->start) < 0 ||
                      extend(asking->end, runs->end, count, sizeof *runs->end) < 0 ||
                      extend(asking->state_of, runs->state, count, sizeof *runs->state) < 0))
        return -1;
    if (left > 0) {
        runs->start[0] = runs->start[count];
        runs->end[0] = runs->end[count];
        runs->state[0] = runs->state[count];
    }
    runs->count = left;
    return 0;
}

static enum verdict make_room(struct runs *runs)
{
    struct asking *asking = (struct asking *)(void *)runs;
    PyEval_RestoreThread(asking->state);
    asking->failed = drain(asking, 1) != 0;
    asking->state = PyEval_SaveThread();
    return asking->failed ? NO_MEMORY : DECODED;
}

/* 0, or -1 with an exception. */
static int begin(struct asking *asking)
{
    asking->start = PySequence_Repeat(zero_q, 0);
    asking->end = PySequence_Repeat(zero_q, 0);
    asking->state_of = PySequence_Repeat(zero_i, 0);
    while (asking->runs.room < RUNS_AT_ONCE)
        if (runs_grow(&asking->runs) != DECODED) {
            (void)PyErr_NoMemory();
            return -1;
        }
    asking->runs.full = make_room;
    return asking->start == NULL || asking->end == NULL || asking->state_of == NULL ? -1 : 0;
}

/* start, end, state: the columns of vmatlas.model.pages.RunColumns; None for what is not our business; NULL with an exception. */
static PyObject *finish(struct asking *asking)
{
    PyObject *made = NULL;
    if (!asking->failed && asking->verdict == NO_MEMORY) {
        (void)PyErr_NoMemory();
    } else if (!asking->failed && asking->verdict == NOT_MINE) {
        made = Py_None;
        Py_IncRef(made);
    } else if (!asking->failed && drain(asking, 0) == 0) {
        made = PyTuple_Pack(3, asking->start, asking->end, asking->state_of);
    }
    return made;
}

static void forget(struct asking *asking)
{
    Py_DecRef(asking->start);
    Py_DecRef(asking->end);
    Py_DecRef(asking->state_of);
    runs_free(&asking->runs);
}

/* Whether a signal came whose handler has raised. */
static int is_interrupted(struct asking *asking)
{
    PyEval_RestoreThread(asking->state);
    asking->failed = PyErr_CheckSignals() != 0;
    asking->state = PyEval_SaveThread();
    return asking->failed;
}

static int take_answers(struct scan *scan, const struct scan_record *record, const struct scan_answer *answers)
{
    struct asking *asking = (struct asking *)scan->taker;
    asking->kept += (size_t)record->vec;
    if (asking->kept > MOST_ANSWERS)
        asking->verdict = NOT_MINE;
    for (uint64_t i = 0; i < record->vec && asking->verdict == DECODED; i++)
        asking->verdict = runs_add(&asking->runs, answers[i].start, answers[i].end, answers[i].categories);
    return asking->verdict != DECODED || (++asking->calls % LOOKS == 0 && is_interrupted(asking));
}

static int take_entries(struct entries *entries, uint64_t address, const uint64_t *all, size_t count)
{
    struct asking *asking = (struct asking *)entries->taker;
    const uint64_t page = entries->page;
    asking->kept += count;
    if (asking->kept > MOST_ENTRIES)
        asking->verdict = NOT_MINE;
    for (size_t i = 0; i < count && asking->verdict == DECODED; i++) {
        uint64_t bits = all[i] >> (ENTRIES_UPPER + UPPER_TO_STATES), first = address + i * page;
        while (i + 1 < count && all[i + 1] >> (ENTRIES_UPPER + UPPER_TO_STATES) == bits)
            i++;
        asking->verdict = runs_add(&asking->runs, first, address + (i + 1) * page, bits);
    }
    return asking->verdict != DECODED;
}

/* The table of states from a buffer. 0, or -1 with an exception. */
static int take_states(struct runs *runs, Py_buffer *states)
{
    if (states->len != RUNS_STATES * (Py_ssize_t)sizeof *runs->states) {
        PyErr_SetString(PyExc_ValueError, "512 states of 4 bytes are needed");
        return -1;
    }
    runs->states = (const uint32_t *)states->buf;
    return 0;
}

/* Ranges, and the table of states, as they come with each question. 0, or -1 with an exception. */
static int take_ranges(Py_buffer *ranges, Py_buffer *states, struct asking *asking)
{
    if (ranges->len % (2 * (Py_ssize_t)sizeof(uint64_t)) != 0) {
        PyErr_SetString(PyExc_ValueError, "a start and an end, of 8 bytes each, for each range");
        return -1;
    }
    return take_states(&asking->runs, states);
}

static PyObject *module_scan(PyObject *module, PyObject *arguments)
{
    struct asking asking = {0};
    struct scan *scan = NULL;
    unsigned long long anyof, told, page;
    Py_buffer ranges, states;
    PyObject *made = NULL;
    int pagemap, error = 0;
    (void)module;
    if (!PyArg_ParseTuple(arguments, "iy*KKKy*", &pagemap, &ranges, &page, &anyof, &told, &states))
        return NULL;
    if (take_ranges(&ranges, &states, &asking) == 0 && begin(&asking) == 0 && (scan = (struct scan *)malloc(sizeof *scan)) == NULL)
        (void)PyErr_NoMemory();
    if (scan != NULL) {
        const uint64_t *bounds = (const uint64_t *)ranges.buf;
        scan->pagemap = pagemap;
        scan->anyof = anyof;
        scan->told = told;
        scan->take = take_answers;
        scan->taker = &asking;
        asking.state = PyEval_SaveThread();
        if (scan_has_memory(pagemap) != 1)
            asking.verdict = NOT_MINE;
        for (Py_ssize_t i = 0; i < ranges.len / 16 && asking.verdict == DECODED && error == 0; i++)
            error = scan_range(scan, bounds[2 * i], bounds[2 * i + 1], page);
        PyEval_RestoreThread(asking.state);
        free(scan);
        if (error != 0 && asking.verdict == DECODED)
            asking.verdict = NOT_MINE;
        made = finish(&asking);
    }
    forget(&asking);
    PyBuffer_Release(&ranges);
    PyBuffer_Release(&states);
    return made;
}

static PyObject *module_entries(PyObject *module, PyObject *arguments)
{
    enum { AT_ONCE = LOOKS * ENTRIES_ROOM };
    struct asking asking = {0};
    struct entries *entries = NULL;
    unsigned long long page;
    Py_buffer ranges, states;
    PyObject *made = NULL;
    int pagemap, error = 0;
    (void)module;
    if (!PyArg_ParseTuple(arguments, "iy*Ky*", &pagemap, &ranges, &page, &states))
        return NULL;
    if (take_ranges(&ranges, &states, &asking) == 0 && begin(&asking) == 0 &&
        (entries = (struct entries *)malloc(sizeof *entries)) == NULL)
        (void)PyErr_NoMemory();
    if (entries != NULL) {
        const uint64_t *bounds = (const uint64_t *)ranges.buf;
        entries->pagemap = pagemap;
        entries->page = page;
        entries->take = take_entries;
        entries->taker = &asking;
        asking.state = PyEval_SaveThread();
        if (page == 0 || scan_has_memory(pagemap) != 1)
            asking.verdict = NOT_MINE;
        for (Py_ssize_t i = 0; i < ranges.len / 16 && asking.verdict == DECODED && error == 0; i++)
            for (uint64_t at = bounds[2 * i], end = bounds[2 * i + 1]; at < end && error == 0 && asking.verdict == DECODED;) {
                uint64_t next = (end - at) / page > AT_ONCE ? at + AT_ONCE * page : end;
                error = entries_range(entries, at, next);
                at = next;
                if (error == 0 && next < end && is_interrupted(&asking)) /* here: untouched memory is not taken by anybody */
                    error = ENTRIES_STOPPED;
            }
        PyEval_RestoreThread(asking.state);
        free(entries);
        if (error != 0 && asking.verdict == DECODED)
            asking.verdict = NOT_MINE;
        made = finish(&asking);
    }
    forget(&asking);
    PyBuffer_Release(&ranges);
    PyBuffer_Release(&states);
    return made;
}

static PyObject *decode_with(enum verdict (*decode)(const char *, size_t, struct runs *), PyObject *arguments)
{
    struct asking asking = {0};
    Py_buffer data, states;
    PyObject *made = NULL;
    if (!PyArg_ParseTuple(arguments, "y*y*", &data, &states))
        return NULL;
    if (take_states(&asking.runs, &states) == 0 && begin(&asking) == 0) {
        asking.state = PyEval_SaveThread();
        asking.verdict = decode((const char *)data.buf, (size_t)data.len, &asking.runs);
        PyEval_RestoreThread(asking.state);
        made = finish(&asking);
    }
    forget(&asking);
    PyBuffer_Release(&data);
    PyBuffer_Release(&states);
    return made;
}

static PyObject *module_decode_scan(PyObject *module, PyObject *arguments)
{
    (void)module;
    return decode_with(decode_scan, arguments);
}

static PyObject *module_decode_entries(PyObject *module, PyObject *arguments)
{
    (void)module;
    return decode_with(decode_entries, arguments);
}

static PyMethodDef methods[] = {
    {"scan", module_scan, METH_VARARGS,
     "The columns of the runs in ranges, or None: (pagemap, starts and ends, page, any of these categories, those told, states)."},
    {"entries", module_entries, METH_VARARGS, "The same by reading pagemap: (pagemap, starts and ends, page, states)."},
    {"decode_scan", module_decode_scan, METH_VARARGS, "The columns of the stream `pages-scan`, or None: (data, states)."},
    {"decode_entries", module_decode_entries, METH_VARARGS, "The same of `pages-entries`: (data, states)."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "vmatlas_linux_pagemap._native", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__native(void)
{
    PyObject *module = PyModule_Create(&definition);
    if (module == NULL)
        return NULL;
    if (make_zeros() < 0 || PyModule_AddIntConstant(module, "COLUMNS", VMATLAS_COLUMNS) < 0) {
        Py_DecRef(module);
        module = NULL;
    }
    return module;
}
