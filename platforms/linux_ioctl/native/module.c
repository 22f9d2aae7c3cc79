/* The extension vmatlas_linux_ioctl._native: decodes records, walks a map into columns or into records, and answers questions
 * about single addresses.
 * What is unusual (another errno than "nothing there", regions out of order) it leaves to its twin in Python. */
#include "binding.h"

#include "apart.h"
#include "asker.h"
#include "decode.h"
#include "map.h"
#include "walk.h"

static PyObject *module_decode(PyObject *module, PyObject *data)
{
    struct columns columns = {0};
    enum verdict verdict;
    Py_buffer view;
    (void)module;
    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0)
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    verdict = decode_records((const char *)view.buf, (size_t)view.len, &columns);
    Py_END_ALLOW_THREADS
    PyBuffer_Release(&view);
    return outcome(verdict, &columns);
}

static PyObject *module_walk(PyObject *module, PyObject *arguments)
{
    struct map_question question;
    struct columns columns = {0};
    unsigned long long flags, address;
    Py_ssize_t limit, most;
    enum verdict verdict;
    int is_self;
    (void)module;
    if (!PyArg_ParseTuple(arguments, "iKKnnIpp", &question.maps, &flags, &address, &limit, &most, &question.threads,
                          &question.only_idle, &is_self))
        return NULL;
    question.flags = flags;
    question.address = address;
    question.limit = (size_t)limit;
    question.most = (size_t)most;
    Py_BEGIN_ALLOW_THREADS
    verdict = is_self ? walk_self(&question, &columns) : walk_map(&question, &columns);
    Py_END_ALLOW_THREADS
    return outcome(verdict, &columns);
}

/* Bytes that grow. */
struct bytes {
    char *all;
    size_t size, room;
};

enum { BYTES_MOST = 1 << 28 }; /* as many as a capture may have; Python tells the error */

static enum verdict bytes_add(struct bytes *bytes, const void *more, size_t size)
{
    if (bytes->size + size > BYTES_MOST)
        return NOT_MINE;
    if (bytes->room - bytes->size < size) {
        size_t room = bytes->room * 2 + size + 4096;
        char *all = (char *)realloc(bytes->all, room);
        if (all == NULL)
            return NO_MEMORY;
        bytes->all = all;
        bytes->room = room;
    }
    if (size > 0)
        memcpy(bytes->all + bytes->size, more, size);
    bytes->size += size;
    return DECODED;
}

/* The answers as the kernel gave them: records, and their names. */
static enum verdict keep_answers(struct walk *walk, size_t limit, struct bytes *records, struct bytes *texts)
{
    uint64_t end = 0;
    do {
        const struct procmap_query *answer = &walk->answer;
        int error = walk_next(walk);
        enum verdict verdict;
        if (error == ENOENT)
            break;
        if (error != 0 || walk->is_unnamed || answer->vma_start < end)
            return NOT_MINE;
        end = answer->vma_end;
        verdict = bytes_add(records, answer, sizeof *answer);
        if (verdict == DECODED)
            verdict = bytes_add(texts, walk->name, answer->vma_name_size);
        if (verdict != DECODED)
            return verdict;
    } while (records->size / sizeof walk->answer != limit);
    return records->size > 0 ? DECODED : NOT_MINE;
}

static PyObject *module_records(PyObject *module, PyObject *arguments)
{
    char name[NAME_ROOM];
    struct bytes records = {0}, texts = {0};
    struct walk walk = {0};
    unsigned long long flags, address;
    enum verdict verdict;
    PyObject *made = NULL;
    Py_ssize_t limit;
    (void)module;
    if (!PyArg_ParseTuple(arguments, "iKKn", &walk.maps, &flags, &address, &limit))
        return NULL;
    walk.flags = flags;
    walk.address = address;
    walk.name = name;
    Py_BEGIN_ALLOW_THREADS
    verdict = keep_answers(&walk, (size_t)limit, &records, &texts);
    Py_END_ALLOW_THREADS
    if (verdict == DECODED)
        made = Py_BuildValue("(y#y#)", records.all, (Py_ssize_t)records.size, texts.size > 0 ? texts.all : "",
                             (Py_ssize_t)texts.size);
    free(records.all);
    free(texts.all);
    if (verdict == NO_MEMORY)
        return PyErr_NoMemory();
    if (verdict == NOT_MINE)
        Py_RETURN_NONE;
    return made;
}

static PyObject *module_apart(PyObject *module, PyObject *arguments)
{
    int maps, end = -1;
    pid_t child;
    (void)module;
    if (!PyArg_ParseTuple(arguments, "i", &maps))
        return NULL;
    child = apart_begin(maps, &end);
    if (child < 0) {
        errno = -child;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    return Py_BuildValue("(ii)", (int)child, end);
}

static PyMethodDef methods[] = {
    {"decode", module_decode, METH_O, "Rows from the stream `vmas`, or None."},
    {"walk", module_walk, METH_VARARGS,
     "Rows from a descriptor, or None: (maps, flags, address, limit, most regions or 0, threads, only idle ones?,\n"
     "our own map?: then to the end of memory, by one thread)."},
    {"records", module_records, METH_VARARGS,
     "The records and the names behind them, from a descriptor, or None: (maps, flags, address, limit)."},
    {"apart", module_apart, METH_VARARGS, "A child that asks, and the socket to ask it by: (maps). See apart.h."},
    {"asker", asker_new, METH_VARARGS, "An Asker: (maps, region type, model of a fact)."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "vmatlas_linux_ioctl._native", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__native(void)
{
    PyObject *module = PyModule_Create(&definition);
    if (module == NULL)
        return NULL;
    if (add_rows(module, "vmatlas_linux_ioctl._native.Rows") < 0 || add_asker(module) < 0) {
        Py_DecRef(module);
        module = NULL;
    }
    return module;
}
