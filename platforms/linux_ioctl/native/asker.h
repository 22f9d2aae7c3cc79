/* Answers about single addresses of one process, each in one call, by descriptors of its own: the type Asker. */
#ifndef VMATLAS_LINUX_IOCTL_ASKER_H
#define VMATLAS_LINUX_IOCTL_ASKER_H

#include "python.h"

/* Adds the type to the module. 0, or -1 with an exception. */
int add_asker(PyObject *module);

/* asker(descriptor of maps, of the folder of the process or -1, region type, model_of, untold): keeps descriptors of its own
 * of the same files. With the folder, maps is opened anew as time goes by: see FRESH. */
PyObject *asker_new(PyObject *module, PyObject *arguments);

#endif
