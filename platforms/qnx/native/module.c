/* The extension vmatlas_qnx._native: decodes arrays of `procfs_mapinfo`, on any host. */
#include "binding.h"

#include "decode.h"

/* The names as the caller has them, 16 bytes each, where an alignment of 8 is certain. */
static struct name *names_of(const Py_buffer *view, size_t *count)
{
    struct name *names = (struct name *)malloc((size_t)view->len + 1);
    *count = (size_t)view->len / sizeof *names;
    if (names != NULL)
        memcpy(names, view->buf, *count * sizeof *names);
    return names;
}

static PyObject *module_decode(PyObject *module, PyObject *arguments)
{
    struct columns regions = {0}, entries = {0};
    PyObject *made_regions, *made_entries, *both = NULL;
    enum verdict verdict = NO_MEMORY;
    unsigned long long limit;
    Py_buffer data, named;
    struct name *names;
    size_t count;
    int told;
    (void)module;
    if (!PyArg_ParseTuple(arguments, "y*y*Kp", &data, &named, &limit, &told))
        return NULL;
    names = names_of(&named, &count);
    if (names != NULL) {
        Py_BEGIN_ALLOW_THREADS
        verdict = decode_entries((const char *)data.buf, (size_t)data.len, names, count, limit, told, &regions, &entries);
        Py_END_ALLOW_THREADS
    }
    free(names);
    PyBuffer_Release(&named);
    PyBuffer_Release(&data);
    if (verdict != DECODED) {
        columns_free(&entries);
        return outcome(verdict, &regions);
    }
    made_regions = rows_new(&regions);
    made_entries = rows_new(&entries);
    if (made_regions != NULL && made_entries != NULL)
        both = PyTuple_Pack(2, made_regions, made_entries);
    Py_XDECREF(made_regions);
    Py_XDECREF(made_entries);
    return both;
}

static PyMethodDef methods[] = {
    {"decode", module_decode, METH_VARARGS,
     "Rows of the regions and of the kernel's own entries, or None. From the entries, pairs of address and number of name "
     "as u64 by address, where memory ends, and whether residency is told."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "vmatlas_qnx._native", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__native(void)
{
    PyObject *module = PyModule_Create(&definition);
    if (module != NULL && add_rows(module, "vmatlas_qnx._native.Rows") < 0) {
        Py_DecRef(module);
        module = NULL;
    }
    return module;
}
