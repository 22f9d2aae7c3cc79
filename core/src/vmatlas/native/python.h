/* Python's header as every extension module here takes it: the limited API of 3.11, so one build serves all versions. It
 * stands before all others in a file. */
#ifndef VMATLAS_PYTHON_H
#define VMATLAS_PYTHON_H

#define Py_LIMITED_API 0x030B0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#endif
