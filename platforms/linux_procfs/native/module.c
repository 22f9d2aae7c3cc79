/* The extension vmatlas_linux_procfs._native: decodes bytes, reads and decodes a file in one go, compares a file. */
#include "binding.h"

#include <errno.h>
#include <unistd.h>

#include "decode.h"

enum { ROOM = 1 << 16, FIRST = 1 << 14 };

#define KERNEL_HALF (UINT64_C(1) << 63) /* no memory of a process lies above it; on x86-64 [vsyscall] does */

/* Decodes a piece; `*left` bytes of it are kept for the next one. */
static enum verdict decode_piece(int is_smaps, char *text, size_t *left, int is_end, struct columns *columns,
                                 struct keys *keys)
{
    size_t used;
    enum verdict verdict = is_smaps ? decode_smaps(text, *left, is_end, columns, keys, &used)
                                    : decode_maps(text, *left, columns, &used);
    *left -= used;
    memmove(text, text + used, *left);
    return verdict;
}

/* A text that ends early, without a word, is that of memory that went away: see acquire.py. */
static int is_whole(int file, const struct columns *columns)
{
    char byte;
    if (columns->count > 0 && columns->rows[columns->count - 1].start >= KERNEL_HALF)
        return 1;
    return lseek(file, 0, SEEK_SET) == 0 && read(file, &byte, 1) == 1;
}

static enum verdict read_and_decode(int file, int is_smaps, size_t most, struct columns *columns, struct keys *keys)
{
    char *text = (char *)malloc(ROOM);
    enum verdict verdict = text == NULL ? NO_MEMORY : DECODED;
    size_t left = 0;
    ssize_t got = 1;
    if (verdict == DECODED && lseek(file, 0, SEEK_SET) != 0)
        verdict = NOT_MINE;
    while (verdict == DECODED && got > 0) {
        if (left == ROOM) /* a line, or a region of smaps, beyond all reason */
            got = -1;
        else
            got = read(file, text + left, ROOM - left);
        if (got < 0) {
            verdict = NOT_MINE;
        } else {
            left += (size_t)got;
            /* The first piece of smaps must show all the keys of a region. */
            if (!is_smaps || got == 0 || columns->count > 0 || left >= FIRST)
                verdict = decode_piece(is_smaps, text, &left, got == 0, columns, keys);
            if (verdict == DECODED && columns->count > most)
                verdict = NOT_MINE;
        }
    }
    if (verdict == DECODED && (left > 0 || columns->count == 0 || !is_whole(file, columns)))
        verdict = NOT_MINE;
    free(text);
    return verdict;
}

static PyObject *key_list(const struct keys *keys)
{
    PyObject *list = PyList_New((Py_ssize_t)keys->count);
    for (unsigned i = 0; list != NULL && i < keys->count; i++) {
        PyObject *key = PyUnicode_FromStringAndSize(keys->all[i].text, (Py_ssize_t)keys->all[i].size - 1);
        if (key == NULL || PyList_SetItem(list, (Py_ssize_t)i, key) < 0) {
            Py_DecRef(list);
            return NULL;
        }
    }
    return list;
}

/* Rows alone for maps, with the keys for smaps. */
static PyObject *answer(enum verdict verdict, struct columns *columns, int is_smaps, const struct keys *keys)
{
    PyObject *rows = outcome(verdict, columns), *list, *both;
    if (!is_smaps || rows == NULL || rows == Py_None)
        return rows;
    list = key_list(keys);
    both = list == NULL ? NULL : PyTuple_Pack(2, rows, list);
    Py_DecRef(rows);
    Py_DecRef(list);
    return both;
}

static PyObject *decode(PyObject *text, int is_smaps)
{
    struct columns columns = {0};
    struct keys *keys = (struct keys *)PyMem_Calloc(1, sizeof *keys);
    enum verdict verdict;
    size_t used;
    Py_buffer view;
    PyObject *made;
    if (keys == NULL)
        return PyErr_NoMemory();
    if (PyObject_GetBuffer(text, &view, PyBUF_SIMPLE) < 0) {
        PyMem_Free(keys);
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    if (is_smaps)
        verdict = decode_smaps((const char *)view.buf, (size_t)view.len, 1, &columns, keys, &used);
    else
        verdict = decode_maps((const char *)view.buf, (size_t)view.len, &columns, &used);
    if (verdict == DECODED && (used != (size_t)view.len || columns.count == 0))
        verdict = NOT_MINE;
    Py_END_ALLOW_THREADS
    PyBuffer_Release(&view);
    made = answer(verdict, &columns, is_smaps, keys);
    PyMem_Free(keys);
    return made;
}

static PyObject *module_decode_maps(PyObject *module, PyObject *text)
{
    (void)module;
    return decode(text, 0);
}

static PyObject *module_decode_smaps(PyObject *module, PyObject *text)
{
    (void)module;
    return decode(text, 1);
}

static PyObject *module_read(PyObject *module, PyObject *arguments)
{
    struct columns columns = {0};
    struct keys *keys;
    enum verdict verdict;
    int file, is_smaps;
    Py_ssize_t most;
    PyObject *made;
    (void)module;
    if (!PyArg_ParseTuple(arguments, "ipn", &file, &is_smaps, &most))
        return NULL;
    keys = (struct keys *)PyMem_Calloc(1, is_smaps ? sizeof *keys : 1);
    if (keys == NULL)
        return PyErr_NoMemory();
    Py_BEGIN_ALLOW_THREADS
    verdict = read_and_decode(file, is_smaps, most > 0 ? (size_t)most : SIZE_MAX, &columns, keys);
    Py_END_ALLOW_THREADS
    made = answer(verdict, &columns, is_smaps, keys);
    PyMem_Free(keys);
    return made;
}

/* Whether a file reads just like some bytes, from its start to its end. */
static int reads_like(int file, const char *text, size_t size)
{
    char piece[8192];
    size_t at = 0;
    ssize_t got;
    if (lseek(file, 0, SEEK_SET) != 0)
        return 0;
    while ((got = read(file, piece, sizeof piece)) > 0) {
        if ((size_t)got > size - at || memcmp(piece, text + at, (size_t)got) != 0)
            return 0;
        at += (size_t)got;
    }
    return got == 0 && at == size;
}

static PyObject *module_reads_like(PyObject *module, PyObject *arguments)
{
    Py_buffer view;
    int file, same;
    (void)module;
    if (!PyArg_ParseTuple(arguments, "iy*", &file, &view))
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    same = reads_like(file, (const char *)view.buf, (size_t)view.len);
    Py_END_ALLOW_THREADS
    PyBuffer_Release(&view);
    return PyBool_FromLong(same);
}

static PyMethodDef methods[] = {
    {"decode_maps", module_decode_maps, METH_O, "Rows from the text of maps, or None."},
    {"decode_smaps", module_decode_smaps, METH_O, "Rows and keys from the text of smaps, or None."},
    {"read", module_read, METH_VARARGS, "The same from a descriptor: (file, is_smaps, most regions or 0)."},
    {"reads_like", module_reads_like, METH_VARARGS, "Whether a descriptor's file reads just like some bytes."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "vmatlas_linux_procfs._native", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__native(void)
{
    PyObject *module = PyModule_Create(&definition);
    if (module != NULL && add_rows(module, "vmatlas_linux_procfs._native.Rows") < 0) {
        Py_DecRef(module);
        module = NULL;
    }
    return module;
}
