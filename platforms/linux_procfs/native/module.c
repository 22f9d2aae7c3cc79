/* The extension vmatlas_linux_procfs._native: decodes bytes, reads and decodes a file in one go, compares a file. */
#include "binding.h"

#include "decode.h"
#include "text_file.h"

enum { ROOM = 1 << 16, FIRST = 1 << 14 };

#define KERNEL_HALF (UINT64_C(1) << 63) /* no memory of a process lies above it; on x86-64 [vsyscall] does */

/* What becomes of a text while it is read. */
struct decoding {
    int is_smaps;
    size_t most;
    struct columns *columns;
    struct keys *keys;
    enum verdict verdict;
};

static ssize_t decode_piece(struct text_file *text, const char *piece, size_t size, int is_end)
{
    struct decoding *decoding = text->taker;
    struct columns *columns = decoding->columns;
    size_t used = 0;
    /* The first piece of smaps must show all the keys of a region. */
    if (decoding->is_smaps && columns->count == 0 && size < FIRST && !is_end)
        return 0;
    decoding->verdict = decoding->is_smaps ? decode_smaps(piece, size, is_end, columns, decoding->keys, &used)
                                           : decode_maps(piece, size, columns, &used);
    if (decoding->verdict == DECODED && (columns->count > decoding->most || (is_end && used < size)))
        decoding->verdict = NOT_MINE;
    text->is_sure = columns->count > 0 && columns->rows[columns->count - 1].start >= KERNEL_HALF;
    return decoding->verdict == DECODED ? (ssize_t)used : TEXT_STOP;
}

static enum verdict read_and_decode(int file, int is_smaps, size_t most, struct columns *columns, struct keys *keys)
{
    struct decoding decoding = {is_smaps, most, columns, keys, DECODED};
    struct text_file text = {file, (char *)malloc(ROOM), ROOM, decode_piece, &decoding, 0, 0};
    enum text_end end;
    if (text.room == NULL)
        return NO_MEMORY;
    end = read_text_file(&text);
    free(text.room);
    if (end == TEXT_STOPPED)
        return decoding.verdict;
    return end == TEXT_WHOLE && columns->count > 0 ? DECODED : NOT_MINE;
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

/* What a file must still read like. */
struct known {
    const char *at;
    size_t left;
};

static ssize_t compare_piece(struct text_file *text, const char *piece, size_t size, int is_end)
{
    struct known *known = text->taker;
    (void)is_end;
    if (size > known->left || memcmp(piece, known->at, size) != 0)
        return TEXT_STOP;
    known->at += size;
    known->left -= size;
    return (ssize_t)size;
}

/* Whether a file reads just like some bytes, from its start to its end. */
static int reads_like(int file, const char *bytes, size_t size)
{
    char room[8192];
    struct known known = {bytes, size};
    const int is_sure = 1; /* what reads like a whole text is whole */
    struct text_file text = {file, room, sizeof room, compare_piece, &known, is_sure, 0};
    return read_text_file(&text) == TEXT_WHOLE && known.left == 0;
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
