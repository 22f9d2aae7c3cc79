/* Columns as Python has them: objects of the module `array`, filled by C. */
#ifndef VMATLAS_ARRAYS_H
#define VMATLAS_ARRAYS_H

#include "python.h"

#include <stddef.h>

/* Arrays of one zero of each size; an array of n is such a one repeated. Made once, kept for good. */
static PyObject *zero_q, *zero_i, *zero_b;

static int make_zeros(void)
{
    PyObject *module = PyImport_ImportModule("array");
    if (module == NULL)
        return -1;
    if (zero_q == NULL)
        zero_q = PyObject_CallMethod(module, "array", "sy#", "Q", "\0\0\0\0\0\0\0\0", (Py_ssize_t)8);
    if (zero_i == NULL)
        zero_i = PyObject_CallMethod(module, "array", "sy#", "I", "\0\0\0\0", (Py_ssize_t)4);
    if (zero_b == NULL)
        zero_b = PyObject_CallMethod(module, "array", "sy#", "B", "\0", (Py_ssize_t)1);
    Py_DecRef(module);
    return zero_q != NULL && zero_i != NULL && zero_b != NULL ? 0 : -1;
}

/* An array of `count` items and its memory, or NULL. `view` must be released. */
static inline PyObject *array_of(PyObject *zero, size_t count, Py_buffer *view)
{
    PyObject *made = PySequence_Repeat(zero, (Py_ssize_t)count);
    if (made != NULL && PyObject_GetBuffer(made, view, PyBUF_WRITABLE) < 0) {
        Py_DecRef(made);
        made = NULL;
    }
    return made;
}

#endif
