/* The extension vmatlas_linux_pagemap._native: asks about pages and makes runs of the answers in one go, and decodes the streams.
 * What is unusual (an errno of the kernel's, memory that is gone, answers out of order) it leaves to its twin in Python. */
#include "arrays.h"

#include "decode.h"
#include "entries.h"
#include "scan.h"

enum {
    LOOKS = 256, /* so many calls of the kernel, and then it is looked whether a signal came */
    MOST_ANSWERS = (1 << 28) / sizeof(struct scan_answer), /* of a stream as long as a capture's may be; Python tells the error */
    MOST_ENTRIES = (1 << 28) / 2
};

/* A question on its way, without the interpreter meanwhile. */
struct asking {
    struct runs runs;
    PyThreadState *state;
    size_t calls, kept;
    int failed; /* a signal's handler has raised */
    enum verdict verdict;
};

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

static PyObject *column(PyObject *zero, const void *all, size_t count, size_t size)
{
    Py_buffer view;
    PyObject *made = array_of(zero, count, &view);
    if (made == NULL)
        return NULL;
    if (count > 0)
        memcpy(view.buf, all, count * size);
    PyBuffer_Release(&view);
    return made;
}

/* start, end, state: the columns of vmatlas.model.pages.RunColumns; None for what is not our business. Takes `runs`. */
static PyObject *outcome_of(enum verdict verdict, struct runs *runs)
{
    PyObject *made = NULL, *start, *end, *state;
    if (verdict == DECODED) {
        start = column(zero_q, runs->start, runs->count, sizeof *runs->start);
        end = column(zero_q, runs->end, runs->count, sizeof *runs->end);
        state = column(zero_i, runs->state, runs->count, sizeof *runs->state);
        if (start != NULL && end != NULL && state != NULL)
            made = PyTuple_Pack(3, start, end, state);
        Py_DecRef(start);
        Py_DecRef(end);
        Py_DecRef(state);
    }
    runs_free(runs);
    if (verdict == NO_MEMORY)
        return PyErr_NoMemory();
    if (verdict == NOT_MINE)
        Py_RETURN_NONE;
    return made;
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
    if (take_ranges(&ranges, &states, &asking) == 0 && (scan = (struct scan *)malloc(sizeof *scan)) == NULL)
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
        if (asking.failed)
            runs_free(&asking.runs);
        else
            made = outcome_of(error != 0 && asking.verdict == DECODED ? NOT_MINE : asking.verdict, &asking.runs);
    }
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
    if (take_ranges(&ranges, &states, &asking) == 0 && (entries = (struct entries *)malloc(sizeof *entries)) == NULL)
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
        if (asking.failed)
            runs_free(&asking.runs);
        else
            made = outcome_of(error != 0 && asking.verdict == DECODED ? NOT_MINE : asking.verdict, &asking.runs);
    }
    PyBuffer_Release(&ranges);
    PyBuffer_Release(&states);
    return made;
}

static PyObject *decode_with(enum verdict (*decode)(const char *, size_t, struct runs *), PyObject *arguments)
{
    struct runs runs = {0};
    enum verdict verdict;
    Py_buffer data, states;
    PyObject *made = NULL;
    if (!PyArg_ParseTuple(arguments, "y*y*", &data, &states))
        return NULL;
    if (take_states(&runs, &states) == 0) {
        Py_BEGIN_ALLOW_THREADS
        verdict = decode((const char *)data.buf, (size_t)data.len, &runs);
        Py_END_ALLOW_THREADS
        made = outcome_of(verdict, &runs);
    }
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
