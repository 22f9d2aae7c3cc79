/* The extension vmatlas.symbols._native: the table of symbols of an ELF file, and the look-up of many addresses in it. */
#include "python.h"

#include <string.h>

#include "symbol_table.h"

enum { COLUMNS_OF_TABLE = 4, FIELDS = 6, LONGEST_NAME = 1 << 16 };

static newfunc new_tuple;

/* table(raw, text, is_wide, is_swapped, is_thumb, has_marks, bounds): starts, ends, reach (64 bits) and names (32 bits) as bytes.
 * `bounds`: start and end of each section as 64-bit numbers, sorted. */
static PyObject *module_table(PyObject *module, PyObject *arguments)
{
    Py_buffer raw, text, bounds;
    struct symbol_layout layout;
    struct symbols symbols;
    PyObject *made = NULL;
    int failed;
    (void)module;
    if (!PyArg_ParseTuple(arguments, "y*y*ppppy*", &raw, &text, &layout.is_wide, &layout.is_swapped, &layout.is_thumb,
                          &layout.has_marks, &bounds))
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    failed = symbols_read(&symbols, raw.buf, (size_t)raw.len, text.buf, (size_t)text.len, layout, bounds.buf,
                          (size_t)bounds.len / sizeof(struct section_bounds));
    Py_END_ALLOW_THREADS
    if (failed) {
        (void)PyErr_NoMemory();
    } else {
        Py_ssize_t wide = (Py_ssize_t)(symbols.count * sizeof(uint64_t));
        made = Py_BuildValue("y#y#y#y#", (char *)symbols.starts, wide, (char *)symbols.ends, wide, (char *)symbols.reach, wide,
                             (char *)symbols.names, (Py_ssize_t)(symbols.count * sizeof(uint32_t)));
        symbols_free(&symbols);
    }
    PyBuffer_Release(&raw);
    PyBuffer_Release(&text);
    PyBuffer_Release(&bounds);
    return made;
}

/* A question for many addresses. */
struct looking {
    Py_buffer columns[COLUMNS_OF_TABLE], text, addresses;
    struct symbols symbols;
    PyObject *told; /* of each row its name, False where it has none, None until it is asked for */
    PyObject *type, *file, *source;
};

static uint64_t name_at(const struct looking *looking, size_t row)
{
    const Py_buffer *names = &looking->columns[3];
    return names->itemsize == 4 ? ((const uint32_t *)names->buf)[row] : ((const uint64_t *)names->buf)[row];
}

static int has_name(void *asked, size_t row)
{
    struct looking *looking = asked;
    PyObject *told = PyList_GetItem(looking->told, (Py_ssize_t)row);
    if (told == Py_None) {
        uint64_t at = name_at(looking, row), size = (uint64_t)looking->text.len;
        const char *text = looking->text.buf, *end = NULL;
        if (at < size)
            end = memchr(text + at, 0, (size_t)(size - at < LONGEST_NAME + 1 ? size - at : LONGEST_NAME + 1));
        if (end == NULL) {
            told = Py_False;
            Py_IncRef(told);
        } else {
            told = PyUnicode_DecodeUTF8(text + at, end - text - (Py_ssize_t)at, "surrogateescape");
        }
        if (told == NULL || PyList_SetItem(looking->told, (Py_ssize_t)row, told) < 0)
            return -1;
    }
    return told == NULL ? -1 : told != Py_False;
}

static PyObject *shared_reference(PyObject *object)
{
    Py_IncRef(object);
    return object;
}

static PyObject *make_symbol(struct looking *looking, size_t row, uint64_t address)
{
    PyObject *made = NULL, *fields = PyTuple_New(FIELDS), *around = PyTuple_New(1);
    PyObject *offset = PyLong_FromUnsignedLongLong(address - looking->symbols.starts[row]);
    PyObject *own = PyLong_FromUnsignedLongLong(address);
    if (fields == NULL || around == NULL || offset == NULL || own == NULL) {
        Py_DecRef(fields);
        Py_DecRef(offset);
        Py_DecRef(own);
    } else {
        (void)PyTuple_SetItem(fields, 0, shared_reference(PyList_GetItem(looking->told, (Py_ssize_t)row)));
        (void)PyTuple_SetItem(fields, 1, offset);
        (void)PyTuple_SetItem(fields, 2, own);
        (void)PyTuple_SetItem(fields, 3, shared_reference(looking->file));
        (void)PyTuple_SetItem(fields, 4, shared_reference(looking->source));
        (void)PyTuple_SetItem(fields, 5, shared_reference(Py_None));
        (void)PyTuple_SetItem(around, 0, fields);
        made = new_tuple((PyTypeObject *)looking->type, around, NULL);
    }
    Py_DecRef(around);
    return made;
}

static PyObject *find_all(struct looking *looking)
{
    size_t count = (size_t)looking->addresses.len / sizeof(uint64_t);
    const uint64_t *addresses = looking->addresses.buf;
    PyObject *list = PyList_New((Py_ssize_t)count);
    for (size_t i = 0; list != NULL && i < count; i++) {
        ptrdiff_t row = symbol_at(&looking->symbols, addresses[i], has_name, looking);
        PyObject *found = row == -1 ? shared_reference(Py_None) : NULL;
        if (row >= 0)
            found = make_symbol(looking, (size_t)row, addresses[i]);
        if (found == NULL || PyList_SetItem(list, (Py_ssize_t)i, found) < 0) {
            Py_DecRef(list);
            list = NULL;
        }
    }
    return list;
}

/* Whether the columns are as long as each other; an exception where they are not. */
static int open_columns(struct looking *looking, PyObject *const *columns)
{
    static const Py_ssize_t sizes[COLUMNS_OF_TABLE] = {8, 8, 8, 4};
    int held = 0;
    for (; held < COLUMNS_OF_TABLE; held++) {
        Py_buffer *view = &looking->columns[held];
        if (PyObject_GetBuffer(columns[held], view, PyBUF_FORMAT | PyBUF_ND) < 0)
            break;
        if (view->itemsize != sizes[held] && !(held == 3 && view->itemsize == 8)) {
            PyErr_SetString(PyExc_ValueError, "a column of symbols has numbers of another size");
        } else if (view->len / view->itemsize != looking->columns[0].len / 8 ||
                   PyList_Size(looking->told) != looking->columns[0].len / 8) {
            PyErr_SetString(PyExc_ValueError, "the columns of symbols are not as long as each other");
        } else {
            continue;
        }
        PyBuffer_Release(view);
        break;
    }
    if (held == COLUMNS_OF_TABLE) {
        looking->symbols.starts = looking->columns[0].buf;
        looking->symbols.ends = looking->columns[1].buf;
        looking->symbols.reach = looking->columns[2].buf;
        looking->symbols.count = (size_t)looking->columns[0].len / 8;
        return 0;
    }
    while (held > 0)
        PyBuffer_Release(&looking->columns[--held]);
    return -1;
}

/* find_many((starts, ends, reach, names), text, told, addresses, Symbol, file, source): a list of symbols and None. */
static PyObject *module_find_many(PyObject *module, PyObject *arguments)
{
    struct looking looking;
    PyObject *columns[COLUMNS_OF_TABLE], *list = NULL;
    (void)module;
    memset(&looking, 0, sizeof looking);
    if (!PyArg_ParseTuple(arguments, "(OOOO)y*O!y*O!OO", &columns[0], &columns[1], &columns[2], &columns[3], &looking.text,
                          &PyList_Type, &looking.told, &looking.addresses, &PyType_Type, &looking.type, &looking.file,
                          &looking.source))
        return NULL;
    if (!PyType_IsSubtype((PyTypeObject *)looking.type, &PyTuple_Type)) {
        PyErr_SetString(PyExc_TypeError, "symbols are tuples");
    } else if (open_columns(&looking, columns) == 0) {
        list = find_all(&looking);
        for (int i = 0; i < COLUMNS_OF_TABLE; i++)
            PyBuffer_Release(&looking.columns[i]);
    }
    PyBuffer_Release(&looking.text);
    PyBuffer_Release(&looking.addresses);
    return list;
}

static PyMethodDef methods[] = {
    {"table", module_table, METH_VARARGS, "The columns of a table of symbols, by address."},
    {"find_many", module_find_many, METH_VARARGS, "The symbol at each address."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "vmatlas.symbols._native", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__native(void)
{
    new_tuple = (newfunc)PyType_GetSlot(&PyTuple_Type, Py_tp_new);
    return PyModule_Create(&definition);
}
