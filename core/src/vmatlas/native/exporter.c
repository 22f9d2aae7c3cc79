/* The extension vmatlas.operations._native: memoryviews over memory that is not Python's, and how many are left.
 *
 * An exporter stands behind each memoryview that is handed out, as its `obj`. It keeps the owner of the memory alive for
 * as long as somebody has the bytes, and counts who has. Python can neither make one nor change one, and once all have
 * let go of the bytes it gives them to nobody any more: they may be unmapped by then.
 */
#include "python.h"

/* How many have the bytes of one stretch of memory: all, and those who may write. Python asks (see `exports_methods`). */
typedef struct {
    PyObject_HEAD
    Py_ssize_t all, writable;
} Exports;

typedef struct {
    PyObject_HEAD
    Exports *exports; /* NULL: nobody is given anything any more */
    PyObject *owner;
    void *address;
    Py_ssize_t length, given; /* given: to how many, now */
    int writable;
} Exporter;

static PyTypeObject *exporter_type;

/* ---- the exporter ---- */

/* Nobody has the bytes, and nobody gets them. The owner may go with this, and unmap them. */
static void end(Exporter *exporter)
{
    PyObject *exports = (PyObject *)exporter->exports, *owner = exporter->owner;
    exporter->exports = NULL;
    exporter->owner = NULL;
    Py_DecRef(owner);
    Py_DecRef(exports);
}

static int exporter_give(PyObject *self, Py_buffer *view, int flags)
{
    Exporter *exporter = (Exporter *)self;
    view->obj = NULL;
    if (exporter->exports == NULL) {
        PyErr_SetString(PyExc_BufferError, "the buffer has been released: ask the mapping for another");
        return -1;
    }
    if (PyBuffer_FillInfo(view, self, exporter->address, exporter->length, !exporter->writable, flags) < 0)
        return -1;
    exporter->given++;
    exporter->exports->all++;
    exporter->exports->writable += exporter->writable;
    return 0;
}

static void exporter_take_back(PyObject *self, Py_buffer *view)
{
    Exporter *exporter = (Exporter *)self;
    (void)view;
    exporter->exports->all--;
    exporter->exports->writable -= exporter->writable;
    if (--exporter->given == 0)
        end(exporter);
}

static int exporter_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(((Exporter *)self)->owner);
    return 0;
}

/* The collector clears what nobody can reach, after all finalizers. A view may still be there, and is still counted. */
static int exporter_clear(PyObject *self)
{
    Exporter *exporter = (Exporter *)self;
    PyObject *owner = exporter->owner;
    exporter->owner = NULL;
    Py_DecRef(owner);
    return 0;
}

static void exporter_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    end((Exporter *)self);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DecRef((PyObject *)type);
}

static PyType_Slot exporter_slots[] = {
    {Py_tp_doc, "What stands behind a buffer of a mapping. It gives its bytes while a view of them is left."},
    {Py_tp_dealloc, exporter_dealloc},
    {Py_tp_traverse, exporter_traverse},
    {Py_tp_clear, exporter_clear},
    {Py_bf_getbuffer, exporter_give},
    {Py_bf_releasebuffer, exporter_take_back},
    {0, NULL},
};

static PyType_Spec exporter_spec = {
    "vmatlas.operations._native.Exporter", sizeof(Exporter), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    exporter_slots};

/* ---- the exports ---- */

/* show(owner, address, length, writable): the exporter and its first view in one, so that no exporter is ever seen that
 * nobody has the bytes of. */
static PyObject *exports_show(PyObject *self, PyObject *arguments)
{
    allocfunc allocate = (allocfunc)PyType_GetSlot(exporter_type, Py_tp_alloc);
    PyObject *owner, *number, *view;
    Exporter *exporter;
    Py_ssize_t length;
    void *address;
    int writable;
    if (!PyArg_ParseTuple(arguments, "OO!np", &owner, &PyLong_Type, &number, &length, &writable))
        return NULL;
    address = PyLong_AsVoidPtr(number);
    if (PyErr_Occurred() != NULL)
        return NULL;
    if (address == NULL || length < 0) {
        PyErr_SetString(PyExc_ValueError, "no memory lies there");
        return NULL;
    }
    exporter = (Exporter *)allocate(exporter_type, 0);
    if (exporter == NULL)
        return NULL;
    Py_IncRef(self);
    Py_IncRef(owner);
    exporter->exports = (Exports *)self;
    exporter->owner = owner;
    exporter->address = address;
    exporter->length = length;
    exporter->writable = writable;
    view = PyMemoryView_FromObject((PyObject *)exporter);
    Py_DecRef((PyObject *)exporter);
    return view;
}

static PyObject *exports_counts(PyObject *self, PyObject *none)
{
    (void)none;
    return Py_BuildValue("nn", ((Exports *)self)->all, ((Exports *)self)->writable);
}

static void exports_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DecRef((PyObject *)type);
}

static PyMethodDef exports_methods[] = {
    {"show", exports_show, METH_VARARGS, "A memoryview: (owner, address, length, writable)."},
    {"counts", exports_counts, METH_NOARGS, "How many views are left, and how many of them may write."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot exports_slots[] = {
    {Py_tp_doc, "The memoryviews of one stretch of memory."},
    {Py_tp_new, PyType_GenericNew},
    {Py_tp_dealloc, exports_dealloc},
    {Py_tp_methods, exports_methods},
    {0, NULL},
};

static PyType_Spec exports_spec = {"vmatlas.operations._native.Exports", sizeof(Exports), 0,
                                   Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE, exports_slots};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "vmatlas.operations._native", NULL, -1, NULL, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__native(void)
{
    PyObject *exports_type = PyType_FromSpec(&exports_spec), *module = NULL;
    if (exports_type != NULL && (exporter_type = (PyTypeObject *)PyType_FromSpec(&exporter_spec)) != NULL)
        module = PyModule_Create(&definition);
    if (module != NULL && PyModule_AddObjectRef(module, "Exports", exports_type) < 0) {
        Py_DecRef(module);
        module = NULL;
    }
    Py_DecRef(exports_type);
    return module;
}
