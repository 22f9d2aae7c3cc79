/* The extension vmatlas_freebsd._native: decodes the records of KERN_PROC_VMMAP, on any host. */
#include "binding.h"

#include "decode.h"

static PyObject *module_decode_vmmap(PyObject *module, PyObject *arguments)
{
    struct columns columns = {0};
    unsigned long long page_size;
    enum verdict verdict;
    Py_buffer view;
    (void)module;
    if (!PyArg_ParseTuple(arguments, "y*K", &view, &page_size))
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    verdict = decode_vmmap((const char *)view.buf, (size_t)view.len, page_size, &columns);
    Py_END_ALLOW_THREADS
    PyBuffer_Release(&view);
    return outcome(verdict, &columns);
}

static PyMethodDef methods[] = {
    {"decode_vmmap", module_decode_vmmap, METH_VARARGS, "Rows from the stream `vmmap` and the page size, or None."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "vmatlas_freebsd._native", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__native(void)
{
    PyObject *module = PyModule_Create(&definition);
    if (module != NULL && add_rows(module, "vmatlas_freebsd._native.Rows") < 0) {
        Py_DecRef(module);
        module = NULL;
    }
    return module;
}
