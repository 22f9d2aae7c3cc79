/* The extension vmatlas.model._native: regions from columns, and the search for many addresses at once. */
#include "binding.h"

/* The columns of a vmatlas.model.Columns while regions are made of them: its arrays are kept from changing meanwhile. */
enum { START, END, OFFSET, DEVICE, INODE, PROTECTION, SHARED, KIND, LABEL, ALWAYS,
       MAXIMUM = ALWAYS, RESIDENT, PRIVATE, SIZE_OF_PAGES, ARRAYS };  /* PAGE_SIZE is a macro of musl */

static const char *const array_names[ARRAYS] = {"start", "end", "offset", "device", "inode", "protection", "shared",
                                                "kind", "label", "max_protection", "resident", "private_resident",
                                                "page_size"};
static const char array_sizes[ARRAYS] = {8, 8, 8, 8, 8, 1, 1, 1, 4, 1, 8, 8, 8};

enum { FIELDS = 18, UNKNOWN_BYTE = 255 };
#define UNKNOWN UINT64_MAX

struct opened {
    Py_buffer views[ARRAYS];
    int held[ARRAYS];
    size_t rows;
    PyObject *columns, *labels, *flags, *build_ids, *details; /* the last three: NULL where there are none */
    /* What vmatlas.model.columns gives us: see `regions`. */
    PyObject *region, *device, *protections, *kinds, *no_flags, *no_details;
    /* The last one made, which the next row most often has, too. */
    uint64_t last_device;
    PyObject *device_made;
};

static newfunc new_tuple;

static void shut(struct opened *opened)
{
    for (int i = 0; i < ARRAYS; i++)
        if (opened->held[i])
            PyBuffer_Release(&opened->views[i]);
    Py_DecRef(opened->labels);
    Py_DecRef(opened->flags);
    Py_DecRef(opened->build_ids);
    Py_DecRef(opened->details);
    Py_DecRef(opened->device_made);
}

/* An attribute that is None, or a list of at least `least` items. */
static int open_list(PyObject *columns, const char *name, size_t least, PyObject **list)
{
    PyObject *found = PyObject_GetAttrString(columns, name);
    if (found == Py_None) {
        Py_DecRef(found);
        return 0;
    }
    *list = found;
    if (found == NULL)
        return -1;
    if (!PyList_Check(found) || (size_t)PyList_Size(found) < least) {
        PyErr_Format(PyExc_ValueError, "the column %s is no list as long as the others", name);
        return -1;
    }
    return 0;
}

static int open_columns(struct opened *opened, PyObject *columns)
{
    for (int i = 0; i < ARRAYS; i++) {
        PyObject *array = PyObject_GetAttrString(columns, array_names[i]);
        if (array == NULL)
            return -1;
        if (i >= ALWAYS && array == Py_None) {
            Py_DecRef(array);
            continue;
        }
        opened->held[i] = PyObject_GetBuffer(array, &opened->views[i], PyBUF_FORMAT | PyBUF_ND) == 0;
        Py_DecRef(array);
        if (!opened->held[i])
            return -1;
        if (i == 0)
            opened->rows = (size_t)opened->views[i].len / 8;
        if (opened->views[i].itemsize != array_sizes[i] ||
            (size_t)opened->views[i].len / (size_t)array_sizes[i] < opened->rows) {
            PyErr_Format(PyExc_ValueError, "the column %s is not as long as the others", array_names[i]);
            return -1;
        }
    }
    opened->columns = columns;
    if (open_list(columns, "labels", 0, &opened->labels) < 0)
        return -1;
    if (opened->labels == NULL) {
        PyErr_SetString(PyExc_ValueError, "columns have labels");
        return -1;
    }
    if (open_list(columns, "flags", opened->rows, &opened->flags) < 0 ||
        open_list(columns, "build_id", opened->rows, &opened->build_ids) < 0)
        return -1;
    opened->details = PyObject_GetAttrString(columns, "details");
    return opened->details == NULL ? -1 : 0;
}

static PyObject *shared_reference(PyObject *object)
{
    Py_IncRef(object);
    return object;
}

static PyObject *number(uint64_t value)
{
    return value == UNKNOWN ? shared_reference(Py_None) : PyLong_FromUnsignedLongLong(value);
}

static uint64_t at64(const struct opened *opened, int which, size_t row)
{
    return ((const uint64_t *)opened->views[which].buf)[row];
}

static unsigned at8(const struct opened *opened, int which, size_t row)
{
    return ((const unsigned char *)opened->views[which].buf)[row];
}

static PyObject *optional(const struct opened *opened, int which, size_t row)
{
    return opened->held[which] ? number(at64(opened, which, row)) : shared_reference(Py_None);
}

static PyObject *item_of(PyObject *tuple, Py_ssize_t which)
{
    return shared_reference(PyTuple_GetItem(tuple, which));
}

static PyObject *device_of(struct opened *opened, uint64_t packed)
{
    if (packed == UNKNOWN)
        return shared_reference(Py_None);
    if (opened->device_made == NULL || opened->last_device != packed) {
        PyObject *made = PyObject_CallFunction(opened->device, "II", (unsigned)(packed >> 32), (unsigned)packed);
        if (made == NULL)
            return NULL;
        Py_DecRef(opened->device_made);
        opened->device_made = made;
        opened->last_device = packed;
    }
    return shared_reference(opened->device_made);
}

static PyObject *list_item(PyObject *list, Py_ssize_t which, PyObject *without)
{
    return shared_reference(list == NULL ? without : PyList_GetItem(list, which));
}

static PyObject *details_of(const struct opened *opened, size_t row)
{
    if (PyObject_Size(opened->details) == 0)
        return shared_reference(opened->no_details);
    return PyObject_CallMethod(opened->columns, "details_of", "n", (Py_ssize_t)row);
}

static PyObject *make_region(struct opened *opened, size_t row)
{
    PyObject *fields, *made, *around, *label;
    unsigned shared = at8(opened, SHARED, row), maximum;
    /* Numbers that stand for nothing are an IndexError, found before anything is made. */
    label = PyList_GetItem(opened->labels, (Py_ssize_t)((const uint32_t *)opened->views[LABEL].buf)[row]);
    maximum = opened->held[MAXIMUM] ? at8(opened, MAXIMUM, row) : UNKNOWN_BYTE;
    if (label == NULL || PyTuple_GetItem(opened->protections, at8(opened, PROTECTION, row)) == NULL ||
        PyTuple_GetItem(opened->kinds, at8(opened, KIND, row)) == NULL ||
        (maximum != UNKNOWN_BYTE && PyTuple_GetItem(opened->protections, maximum) == NULL))
        return NULL;
    fields = PyTuple_New(FIELDS);
    around = PyTuple_New(1);
    if (fields == NULL || around == NULL) {
        Py_DecRef(fields);
        Py_DecRef(around);
        return NULL;
    }
    {
        PyObject *items[FIELDS] = {
            PyLong_FromUnsignedLongLong(at64(opened, START, row)),
            PyLong_FromUnsignedLongLong(at64(opened, END, row)),
            item_of(opened->protections, at8(opened, PROTECTION, row)),
            shared_reference(shared == 0 ? Py_False : shared == 1 ? Py_True : Py_None),
            number(at64(opened, OFFSET, row)),
            device_of(opened, at64(opened, DEVICE, row)),
            number(at64(opened, INODE, row)),
            item_of(label, 0),
            item_of(label, 1),
            item_of(label, 2),
            item_of(opened->kinds, at8(opened, KIND, row)),
            list_item(opened->flags, (Py_ssize_t)row, opened->no_flags),
            maximum == UNKNOWN_BYTE ? shared_reference(Py_None) : item_of(opened->protections, maximum),
            optional(opened, RESIDENT, row),
            optional(opened, PRIVATE, row),
            optional(opened, SIZE_OF_PAGES, row),
            list_item(opened->build_ids, (Py_ssize_t)row, Py_None),
            details_of(opened, row),
        };
        int missing = 0;
        for (int i = 0; i < FIELDS; i++) {
            missing |= items[i] == NULL;
            (void)PyTuple_SetItem(fields, i, items[i]);
        }
        (void)PyTuple_SetItem(around, 0, fields);
        made = missing ? NULL : new_tuple((PyTypeObject *)opened->region, around, NULL);
    }
    Py_DecRef(around);
    return made;
}

static int open_all(struct opened *opened, PyObject *columns, PyObject *parts)
{
    memset(opened, 0, sizeof *opened);
    if (!PyArg_ParseTuple(parts, "O!OO!O!OO", &PyType_Type, &opened->region, &opened->device, &PyTuple_Type,
                          &opened->protections, &PyTuple_Type, &opened->kinds, &opened->no_flags, &opened->no_details))
        return -1;
    if (!PyType_IsSubtype((PyTypeObject *)opened->region, &PyTuple_Type)) {
        PyErr_SetString(PyExc_TypeError, "regions are tuples");
        return -1;
    }
    return open_columns(opened, columns);
}

/* regions(columns, parts, first, stop): a list. `parts`: Region, Device, the protections and the kinds by their numbers,
 * the flags (None) and the details of a region of which none are told. */
static PyObject *module_regions(PyObject *module, PyObject *arguments)
{
    PyObject *columns, *parts, *list = NULL;
    Py_ssize_t first, stop;
    struct opened opened;
    (void)module;
    if (!PyArg_ParseTuple(arguments, "OO!nn", &columns, &PyTuple_Type, &parts, &first, &stop))
        return NULL;
    if (open_all(&opened, columns, parts) == 0) {
        if (first < 0 || first > stop || (size_t)stop > opened.rows)
            PyErr_SetString(PyExc_IndexError, "rows beyond the columns");
        else
            list = PyList_New(stop - first);
    }
    for (Py_ssize_t row = first; list != NULL && row < stop; row++) {
        PyObject *region = make_region(&opened, (size_t)row);
        if (region == NULL || PyList_SetItem(list, row - first, region) < 0) {
            Py_DecRef(list);
            list = NULL;
        }
    }
    shut(&opened);
    return list;
}

/* The row whose region covers an address, or -1. */
static Py_ssize_t row_of(const struct opened *opened, uint64_t address)
{
    const uint64_t *starts = opened->views[START].buf;
    size_t low = 0, high = opened->rows;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (starts[middle] <= address)
            low = middle + 1;
        else
            high = middle;
    }
    return low > 0 && address < at64(opened, END, low - 1) ? (Py_ssize_t)low - 1 : -1;
}

/* The regions of some addresses; `made` holds those that there are already, by their rows. */
static PyObject *find_all(struct opened *opened, const uint64_t *addresses, size_t count, PyObject **made)
{
    PyObject *list = PyList_New((Py_ssize_t)count);
    for (size_t i = 0; list != NULL && i < count; i++) {
        Py_ssize_t row = row_of(opened, addresses[i]);
        PyObject *found = Py_None;
        if (row >= 0) {
            if (made[row] == NULL)
                made[row] = make_region(opened, (size_t)row);
            found = made[row];
        }
        Py_IncRef(found);
        if (found == NULL || PyList_SetItem(list, (Py_ssize_t)i, found) < 0) {
            Py_DecRef(list);
            list = NULL;
        }
    }
    return list;
}

/* find_many(columns, parts, addresses): an array of 64-bit numbers -> a list of regions and None. */
static PyObject *module_find_many(PyObject *module, PyObject *arguments)
{
    PyObject *columns, *parts, *list = NULL, **made = NULL;
    struct opened opened;
    Py_buffer addresses;
    (void)module;
    if (!PyArg_ParseTuple(arguments, "OO!y*", &columns, &PyTuple_Type, &parts, &addresses))
        return NULL;
    if (open_all(&opened, columns, parts) == 0) {
        made = (PyObject **)calloc(opened.rows + 1, sizeof *made);
        if (made == NULL)
            (void)PyErr_NoMemory();
        else
            list = find_all(&opened, addresses.buf, (size_t)addresses.len / sizeof(uint64_t), made);
    }
    for (size_t row = 0; made != NULL && row < opened.rows; row++)
        Py_DecRef(made[row]);
    free(made);
    shut(&opened);
    PyBuffer_Release(&addresses);
    return list;
}

static PyMethodDef methods[] = {
    {"regions", module_regions, METH_VARARGS, "The regions of some rows: (columns, parts, first, stop)."},
    {"find_many", module_find_many, METH_VARARGS, "The region of each address: (columns, parts, addresses)."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "vmatlas.model._native", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__native(void)
{
    PyObject *module = PyModule_Create(&definition);
    new_tuple = (newfunc)PyType_GetSlot(&PyTuple_Type, Py_tp_new);
    if (module != NULL && add_rows(module, "vmatlas.model._native.Rows") < 0) {
        Py_DecRef(module);
        module = NULL;
    }
    return module;
}
