/* What the extension modules share: columns as objects of Python.
 *
 * `Rows` is a decoded map before its facts are known: Python looks at the distinct facts, says what each means
 * (vmatlas.model.facts), and `fill` makes the columns. A header alone, so that a plugin needs nothing at link time.
 */
#ifndef VMATLAS_BINDING_H
#define VMATLAS_BINDING_H

#include "arrays.h"

#include "columns.h"

/* What a fact means, as vmatlas.model.facts packs it. */
struct meaning {
    uint64_t device, inode, hidden; /* hidden: the bits that hide an offset of no file */
    uint32_t label;
    uint8_t protection, shared, kind, spare;
};
typedef char meaning_is_32_bytes[sizeof(struct meaning) == 32 ? 1 : -1];

typedef struct {
    PyObject_HEAD
    struct columns columns;
    PyObject *numbers; /* an array for each of the further numbers, until it is handed out; NULL: not made yet */
} Rows;

static PyTypeObject *rows_type;

static PyObject *rows_new(struct columns *columns)
{
    allocfunc allocate = (allocfunc)PyType_GetSlot(rows_type, Py_tp_alloc);
    Rows *made = (Rows *)allocate(rows_type, 0);
    if (made == NULL) {
        columns_free(columns);
        return NULL;
    }
    made->columns = *columns;
    made->numbers = NULL;
    return (PyObject *)made;
}

static void rows_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    columns_free(&((Rows *)self)->columns);
    Py_XDECREF(((Rows *)self)->numbers);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DecRef((PyObject *)type);
}

static Py_ssize_t rows_length(PyObject *self)
{
    return (Py_ssize_t)((Rows *)self)->columns.count;
}

static PyObject *list_of_texts(const struct texts *texts, int with_tag)
{
    PyObject *list = PyList_New((Py_ssize_t)texts->count);
    for (uint32_t i = 0; list != NULL && i < texts->count; i++) {
        const struct text *text = &texts->all[i];
        const char *bytes = texts->bytes + text->at;
        PyObject *item = with_tag ? Py_BuildValue("(y#I)", text->size ? bytes : "", (Py_ssize_t)text->size, text->tag)
                                  : PyBytes_FromStringAndSize(bytes, (Py_ssize_t)text->size);
        if (item == NULL || PyList_SetItem(list, (Py_ssize_t)i, item) < 0) {
            Py_DecRef(list);
            return NULL;
        }
    }
    return list;
}

static PyObject *rows_facts(PyObject *self, PyObject *none)
{
    (void)none;
    return list_of_texts(&((Rows *)self)->columns.facts, 1);
}

/* All facts in one: equal for maps of equal facts in equal order, as those of one process mostly are. */
static PyObject *rows_signature(PyObject *self, PyObject *none)
{
    const struct texts *facts = &((Rows *)self)->columns.facts;
    PyObject *made = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(facts->used + facts->count * 8));
    char *at = made == NULL ? NULL : PyBytes_AsString(made);
    (void)none;
    for (uint32_t i = 0; at != NULL && i < facts->count; i++) {
        memcpy(at, &facts->all[i].size, 4);
        memcpy(at + 4, &facts->all[i].tag, 4);
        at += 8;
    }
    if (at != NULL && facts->used > 0)
        memcpy(at, facts->bytes, facts->used);
    return made;
}

static PyObject *rows_marks(PyObject *self, PyObject *none)
{
    (void)none;
    return list_of_texts(&((Rows *)self)->columns.marks, 0);
}

/* start, end, offset, device, inode, protection, shared, kind, label: the order of vmatlas.model.Columns. */
static PyObject *rows_fill(PyObject *self, PyObject *meanings)
{
    enum { COLUMNS = 9 };
    PyObject *zeros[COLUMNS] = {zero_q, zero_q, zero_q, zero_q, zero_q, zero_b, zero_b, zero_b, zero_i};
    const struct columns *columns = &((Rows *)self)->columns;
    Py_buffer views[COLUMNS];
    PyObject *made = PyTuple_New(COLUMNS);
    const struct meaning *means;
    Py_ssize_t size;
    char *bytes;
    int filled;
    if (made == NULL || PyBytes_AsStringAndSize(meanings, &bytes, &size) < 0)
        goto failed;
    if ((size_t)size != columns->facts.count * sizeof *means) {
        PyErr_SetString(PyExc_ValueError, "32 bytes for each fact are needed");
        goto failed;
    }
    means = (const struct meaning *)bytes; /* bytes objects are aligned to 8 and more */
    for (filled = 0; filled < COLUMNS; filled++) {
        PyObject *array = array_of(zeros[filled], columns->count, &views[filled]);
        if (array == NULL || PyTuple_SetItem(made, filled, array) < 0) {
            while (filled-- > 0)
                PyBuffer_Release(&views[filled]);
            goto failed;
        }
    }
    {
        uint64_t *start = views[0].buf, *end = views[1].buf, *offset = views[2].buf, *device = views[3].buf;
        uint64_t *inode = views[4].buf;
        uint8_t *protection = views[5].buf, *shared = views[6].buf, *kind = views[7].buf;
        uint32_t *label = views[8].buf;
        for (size_t i = 0; i < columns->count; i++) {
            const struct row *row = &columns->rows[i];
            const struct meaning *mean = &means[row->fact];
            start[i] = row->start;
            end[i] = row->end;
            offset[i] = row->offset | mean->hidden;
            device[i] = mean->device;
            inode[i] = mean->inode;
            protection[i] = mean->protection;
            shared[i] = mean->shared;
            kind[i] = mean->kind;
            label[i] = mean->label;
        }
    }
    for (filled = 0; filled < COLUMNS; filled++)
        PyBuffer_Release(&views[filled]);
    return made;
failed:
    Py_DecRef(made);
    return NULL;
}

static int number_of(const struct columns *columns, PyObject *index, size_t *which)
{
    *which = PyLong_AsSize_t(index);
    if (PyErr_Occurred() != NULL)
        return -1;
    if (*which >= columns->width) {
        PyErr_SetString(PyExc_IndexError, "no such number");
        return -1;
    }
    return 0;
}

/* Each of the further numbers of all rows as an array: made together, a few rows after another, for a row's numbers stand
 * side by side, and one by one would mean to go through all of that memory as often as there are numbers. */
static PyObject *arrays_of_numbers(const struct columns *columns)
{
    enum { BLOCK = 64 };
    size_t width = columns->width, filled = 0;
    PyObject *made = PyList_New((Py_ssize_t)width);
    Py_buffer *views = (Py_buffer *)PyMem_Malloc(width * sizeof *views);
    if (made == NULL || views == NULL) {
        if (made != NULL)
            PyErr_NoMemory();
        goto failed;
    }
    for (; filled < width; filled++) {
        PyObject *array = array_of(zero_q, columns->count, &views[filled]);
        if (array == NULL)
            goto failed;
        if (PyList_SetItem(made, (Py_ssize_t)filled, array) < 0) {
            PyBuffer_Release(&views[filled]);
            goto failed;
        }
    }
    for (size_t first = 0; first < columns->count; first += BLOCK) {
        size_t behind = columns->count - first < BLOCK ? columns->count : first + BLOCK;
        for (size_t which = 0; which < width; which++) {
            uint64_t *column = (uint64_t *)views[which].buf;
            for (size_t i = first; i < behind; i++)
                column[i] = columns->numbers[i * width + which];
        }
    }
    while (filled-- > 0)
        PyBuffer_Release(&views[filled]);
    PyMem_Free(views);
    return made;
failed:
    while (filled-- > 0)
        PyBuffer_Release(&views[filled]);
    PyMem_Free(views);
    Py_XDECREF(made);
    return NULL;
}

/* One of the further numbers of each row, as an array of the caller's own. */
static PyObject *rows_number(PyObject *self, PyObject *index)
{
    Rows *rows = (Rows *)self;
    PyObject *made;
    size_t which;
    if (number_of(&rows->columns, index, &which) < 0)
        return NULL;
    if (rows->numbers == NULL && (rows->numbers = arrays_of_numbers(&rows->columns)) == NULL)
        return NULL;
    if ((made = PyList_GetItem(rows->numbers, (Py_ssize_t)which)) == NULL)
        return NULL;
    Py_INCREF(made);
    if (made == Py_None) { /* handed out before */
        Py_buffer view;
        Py_DECREF(made);
        if ((made = array_of(zero_q, rows->columns.count, &view)) == NULL)
            return NULL;
        for (size_t i = 0; i < rows->columns.count; i++)
            ((uint64_t *)view.buf)[i] = rows->columns.numbers[i * rows->columns.width + which];
        PyBuffer_Release(&view);
        return made;
    }
    Py_INCREF(Py_None);
    if (PyList_SetItem(rows->numbers, (Py_ssize_t)which, Py_None) < 0) {
        Py_DECREF(made);
        return NULL;
    }
    return made;
}

/* Two of the numbers added, at most 2**64 - 1, as an array. */
static PyObject *rows_sum(PyObject *self, PyObject *both)
{
    const struct columns *columns = &((Rows *)self)->columns;
    Py_buffer view;
    PyObject *made;
    Py_ssize_t one, other;
    if (!PyArg_ParseTuple(both, "nn", &one, &other))
        return NULL;
    if (one < 0 || other < 0 || (size_t)one >= columns->width || (size_t)other >= columns->width) {
        PyErr_SetString(PyExc_IndexError, "no such number");
        return NULL;
    }
    if ((made = array_of(zero_q, columns->count, &view)) == NULL)
        return NULL;
    for (size_t i = 0; i < columns->count; i++) {
        uint64_t a = columns->numbers[i * columns->width + (size_t)one];
        uint64_t b = columns->numbers[i * columns->width + (size_t)other];
        ((uint64_t *)view.buf)[i] = a > UINT64_MAX - b ? UINT64_MAX : a + b;
    }
    PyBuffer_Release(&view);
    return made;
}

/* For each row the object that stands, in a list of those of the marks, where one of the numbers says. */
static PyObject *rows_pick(PyObject *self, PyObject *arguments)
{
    const struct columns *columns = &((Rows *)self)->columns;
    PyObject *objects, *made;
    Py_ssize_t which;
    if (!PyArg_ParseTuple(arguments, "nO", &which, &objects))
        return NULL;
    if (which < 0 || (size_t)which >= columns->width || PyList_Size(objects) != (Py_ssize_t)columns->marks.count) {
        if (PyErr_Occurred() == NULL)
            PyErr_SetString(PyExc_IndexError, "no such number, or not an object for each mark");
        return NULL;
    }
    made = PyList_New((Py_ssize_t)columns->count);
    for (size_t i = 0; made != NULL && i < columns->count; i++) {
        PyObject *item = PyList_GetItem(objects, (Py_ssize_t)columns->numbers[i * columns->width + (size_t)which]);
        Py_IncRef(item);
        if (item == NULL || PyList_SetItem(made, (Py_ssize_t)i, item) < 0) {
            Py_DecRef(made);
            return NULL;
        }
    }
    return made;
}

static PyMethodDef rows_methods[] = {
    {"facts", rows_facts, METH_NOARGS, "The distinct facts, by their numbers: bytes and tag."},
    {"signature", rows_signature, METH_NOARGS, "All facts in one, to know them again by."},
    {"marks", rows_marks, METH_NOARGS, "The distinct marks, by their numbers."},
    {"fill", rows_fill, METH_O, "The columns, from what each fact means."},
    {"number", rows_number, METH_O, "One of the further numbers of each row."},
    {"sum", rows_sum, METH_VARARGS, "Two of them added."},
    {"pick", rows_pick, METH_VARARGS, "For each row the object of its mark."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot rows_slots[] = {
    {Py_tp_dealloc, rows_dealloc},
    {Py_tp_methods, rows_methods},
    {Py_sq_length, rows_length},
    {0, NULL},
};

/* Adds what every extension module has: the type Rows, and the version of the header that it was built with. */
static int add_rows(PyObject *module, const char *name)
{
    PyType_Spec spec = {name, sizeof(Rows), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, rows_slots};
    rows_type = (PyTypeObject *)PyType_FromSpec(&spec);
    return rows_type == NULL || make_zeros() < 0 ||
                   PyModule_AddObjectRef(module, "Rows", (PyObject *)rows_type) < 0 ||
                   PyModule_AddIntConstant(module, "COLUMNS", VMATLAS_COLUMNS) < 0
               ? -1
               : 0;
}

/* The outcome of a decoder as an object: Rows, None for what is not its business, or an exception. Takes `columns`. */
static PyObject *outcome(enum verdict verdict, struct columns *columns)
{
    if (verdict == DECODED)
        return rows_new(columns);
    columns_free(columns);
    if (verdict == NO_MEMORY)
        return PyErr_NoMemory();
    Py_RETURN_NONE;
}

#endif
