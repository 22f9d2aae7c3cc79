/* Answers about single addresses of one process, each in one call, by a descriptor of its own: the type Asker. */
#ifndef VMATLAS_LINUX_IOCTL_ASKER_H
#define VMATLAS_LINUX_IOCTL_ASKER_H

#include "python.h"

/* Adds the type to the module. 0, or -1 with an exception. */
int add_asker(PyObject *module);

/* asker(descriptor, region type, model_of): keeps a descriptor of its own of the same file. */
PyObject *asker_new(PyObject *module, PyObject *arguments);

#endif
