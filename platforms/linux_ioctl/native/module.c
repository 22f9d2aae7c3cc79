/* The extension vmatlas_linux_ioctl._native: decodes records, walks a map into columns or into records, and answers questions
 * about single addresses.
 * What is unusual (another errno than "nothing there", regions out of order) it leaves to its twin in Python. */
#include "binding.h"

#include "asker.h"
#include "decode.h"
#include "map.h"
#include "walk.h"

static PyObject *module_decode(PyObject *module, PyObject *data)
{
    struct columns columns = {0};
    enum verdict verdict;
    Py_buffer view;
    (void)module;
    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0)
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    verdict = decode_records((const char *)view.buf, (size_t)view.len, &columns);
    Py_END_ALLOW_THREADS
    PyBuffer_Release(&view);
    return outcome(verdict, &columns);
}

static PyObject *module_walk(PyObject *module, PyObject *arguments)
{
    struct map_question question;
    struct columns columns = {0};
    unsigned long long flags, address;
    Py_ssize_t limit, most;
    enum verdict verdict;
    (void)module;
    if (!PyArg_ParseTuple(arguments, "iKKnnIp", &question.maps, &flags, &address, &limit, &most, &question.threads,
                          &question.only_idle))
        return NULL;
    question.flags = flags;
    question.address = address;
    question.limit = (size_t)limit;
    question.most = (size_t)most;
    Py_BEGIN_ALLOW_THREADS
    verdict = walk_map(&question, &columns);
    Py_END_ALLOW_THREADS
    return outcome(verdict, &columns);
}

/* Bytes that grow. */
struct bytes {
    char *all;
    size_t size, room;
};

static int bytes_add(struct bytes *bytes, const void *more, size_t size)
{
    if (bytes->room - bytes->size < size) {
        size_t room = bytes->room * 2 + size + 4096;
        char *all = (char *)realloc(bytes->all, room);
        if (all == NULL)
            return ENOMEM;
        bytes->all = all;
        bytes->room = room;
    }
    if (size > 0)
        memcpy(bytes->all + bytes->size, more, size);
    bytes->size += size;
    return 0;
}

/* The answers as the kernel gave them: records, and their names and build ids. 0; ENOMEM; or another errno for what is not plain. */
static int keep_answers(struct walk *walk, size_t limit, struct bytes *records, struct bytes *texts)
{
    uint64_t end = 0;
    do {
        int error = walk_next(walk);
        if (error == ENOENT)
            break;
        if (error == 0 && (walk->is_unnamed || walk->answer.vma_start < end))
            error = EAGAIN;
        end = walk->answer.vma_end;
        if (error == 0)
            error = bytes_add(records, &walk->answer, sizeof walk->answer);
        if (error == 0)
            error = bytes_add(texts, walk->name, walk->answer.vma_name_size);
        if (error == 0)
            error = bytes_add(texts, walk->build_id, walk->answer.build_id_size);
        if (error != 0)
            return error;
    } while (records->size / sizeof walk->answer != limit);
    return records->size > 0 ? 0 : ENOENT;
}

static PyObject *module_records(PyObject *module, PyObject *arguments)
{
    char name[NAME_ROOM], build_id[BUILD_ID_ROOM];
    struct bytes records = {0}, texts = {0};
    struct walk walk = {0};
    unsigned long long flags, address;
    int with_build_ids, error;
    PyObject *made = NULL;
    Py_ssize_t limit;
    (void)module;
    if (!PyArg_ParseTuple(arguments, "iKKnp", &walk.maps, &flags, &address, &limit, &with_build_ids))
        return NULL;
    walk.flags = flags;
    walk.address = address;
    walk.name = name;
    walk.build_id = with_build_ids ? build_id : NULL;
    Py_BEGIN_ALLOW_THREADS
    error = keep_answers(&walk, (size_t)limit, &records, &texts);
    Py_END_ALLOW_THREADS
    if (error == 0)
        made = Py_BuildValue("(y#y#)", records.all, (Py_ssize_t)records.size, texts.size > 0 ? texts.all : "",
                             (Py_ssize_t)texts.size);
    free(records.all);
    free(texts.all);
    if (error == ENOMEM)
        return PyErr_NoMemory();
    if (error == 0)
        return made;
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"decode", module_decode, METH_O, "Rows from the stream `vmas`, or None."},
    {"walk", module_walk, METH_VARARGS,
     "Rows from a descriptor, or None: (maps, flags, address, limit, most regions or 0, threads, only idle ones?)."},
    {"records", module_records, METH_VARARGS,
     "The records and the texts behind them, from a descriptor, or None: (maps, flags, address, limit, build ids?)."},
    {"asker", asker_new, METH_VARARGS, "An Asker: (maps, region type, model of a fact)."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "vmatlas_linux_ioctl._native", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__native(void)
{
    PyObject *module = PyModule_Create(&definition);
    if (module == NULL)
        return NULL;
    if (add_rows(module, "vmatlas_linux_ioctl._native.Rows") < 0 || add_asker(module) < 0) {
        Py_DecRef(module);
        module = NULL;
    }
    return module;
}
