/* See asker.h. */
#include "asker.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "decode.h"
#include "walk.h"

/* Regions are made after models: what a region with the same fact is, all but its bounds and offset, as `model_of` (in Python)
 * told when the fact was first met. */
enum { START, END, OFFSET = 4, SLOTS = 256, MOST_UNTOLD = 8 };

/* A descriptor of maps belongs to the memory that the process had when it was opened. What exec leaves behind says so, but not
 * where others have it as well (vfork, CLONE_VM): that memory lives on, and would be told for ever. So maps is opened anew,
 * but not for each question, which would cost five times what the question does: an answer is at most so many nanoseconds old. */
enum { FRESH = 100 * 1000 };

struct slot {
    uint64_t hash;
    size_t size;
    char *fact;
    PyObject *model; /* None, or a tuple of one tuple of ours, the fields of a region, to which nobody else refers */
};

/* A descriptor that is closed when nobody uses it any more: the asker that has it, and each question on its way. */
struct held {
    int descriptor;
    unsigned users;
    uint64_t since; /* when it was about to be opened: nanoseconds of the monotonic clock */
};

typedef struct {
    PyObject_HEAD
    PyObject *model_of; /* fact -> Region, or None where only the file system can tell */
    PyObject *region;   /* the type */
    PyObject *long_way; /* what `ask` hands a question on to that is not its own; NULL: nobody yet */
    struct slot *slots;
    uint64_t untold[MOST_UNTOLD][2]; /* where there may be something that the ioctl never tells */
    struct held *maps;      /* NULL: closed */
    struct held *directory; /* of the process in /proc; NULL: closed, or maps is never opened anew */
    int is_making, is_stale;
} Asker;

static newfunc new_tuple;
static PyTypeObject *asker_type;

static uint64_t now(void)
{
    struct timespec time;
    (void)clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000U + (uint64_t)time.tv_nsec;
}

/* Takes over the descriptor; closed and NULL where there is no memory for it. */
static struct held *hold(int descriptor, uint64_t since)
{
    struct held *held = descriptor < 0 ? NULL : (struct held *)malloc(sizeof *held);
    if (held == NULL && descriptor >= 0)
        (void)close(descriptor);
    if (held != NULL) {
        held->descriptor = descriptor;
        held->users = 1;
        held->since = since;
    }
    return held;
}

static void let_go(struct held *held)
{
    if (held != NULL && --held->users == 0) {
        (void)close(held->descriptor);
        free(held);
    }
}

static void asker_shut(Asker *asker)
{
    struct held *maps = asker->maps, *directory = asker->directory;
    asker->maps = asker->directory = NULL;
    let_go(maps);
    let_go(directory);
}

static void asker_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    Asker *asker = (Asker *)self;
    asker_shut(asker);
    for (int i = 0; asker->slots != NULL && i < SLOTS; i++) {
        free(asker->slots[i].fact);
        Py_DecRef(asker->slots[i].model);
    }
    free(asker->slots);
    Py_DecRef(asker->model_of);
    Py_DecRef(asker->region);
    Py_DecRef(asker->long_way);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DecRef((PyObject *)type);
}

static PyObject *asker_close(PyObject *self, PyObject *none)
{
    (void)none;
    asker_shut((Asker *)self);
    Py_RETURN_NONE;
}

static PyObject *not_mine(void)
{
    Py_IncRef(Py_NotImplemented);
    return Py_NotImplemented;
}

/* The fields of a region in a tuple of our own, that tuple in another. */
static PyObject *model_after(PyObject *region)
{
    Py_ssize_t count = PyTuple_Size(region);
    PyObject *fields = count < 0 ? NULL : PyTuple_New(count), *model;
    for (Py_ssize_t i = 0; fields != NULL && i < count; i++) {
        PyObject *item = PyTuple_GetItem(region, i);
        Py_IncRef(item);
        (void)PyTuple_SetItem(fields, i, item);
    }
    model = fields == NULL ? NULL : PyTuple_New(1);
    if (model == NULL)
        Py_DecRef(fields);
    else
        (void)PyTuple_SetItem(model, 0, fields);
    return model;
}

/* A borrowed reference to the model of a fact, or NULL with an exception. */
static PyObject *find_model(Asker *asker, const struct fact_text *fact, size_t size)
{
    uint64_t hash = text_hash((const char *)fact, size, 0);
    struct slot *slot = &asker->slots[hash % SLOTS], old;
    PyObject *bytes, *told, *model;
    char *copy;
    if (slot->model != NULL && slot->hash == hash && slot->size == size && memcmp(slot->fact, fact, size) == 0)
        return slot->model;
    bytes = PyBytes_FromStringAndSize((const char *)fact, (Py_ssize_t)size);
    told = bytes == NULL ? NULL : PyObject_CallFunctionObjArgs(asker->model_of, bytes, NULL);
    Py_DecRef(bytes);
    if (told == NULL)
        return NULL;
    model = told;
    if (told != Py_None) {
        model = model_after(told);
        Py_DecRef(told);
    }
    copy = (char *)malloc(size);
    if (model == NULL || copy == NULL) {
        Py_DecRef(model);
        free(copy);
        return model == NULL ? NULL : PyErr_NoMemory();
    }
    memcpy(copy, fact, size);
    old = *slot; /* as it is now: other threads may have asked while Python told us */
    slot->hash = hash;
    slot->size = size;
    slot->fact = copy;
    slot->model = model;
    free(old.fact);
    Py_DecRef(old.model);
    return model;
}

/* Steals a reference to `value`, which may be NULL with an exception. */
static int set_field(PyObject *fields, Py_ssize_t which, PyObject *value)
{
    return value == NULL ? -1 : PyTuple_SetItem(fields, which, value);
}

/* A new reference to the region of an answer; NotImplemented; or NULL with an exception. */
static PyObject *region_of(Asker *asker, const struct walk *walk, struct fact_text *fact)
{
    const struct procmap_query *answer = &walk->answer;
    size_t size = finish_fact(answer, fact);
    PyObject *model, *fields, *made = NULL;
    if (size == 0 || walk->is_unnamed)
        return not_mine();
    model = find_model(asker, fact, size);
    if (model == NULL)
        return NULL;
    /* A collection of garbage may run any code while a region is made, a question to this very handle as well. */
    if (model == Py_None || asker->is_making)
        return not_mine();
    Py_IncRef(model);
    asker->is_making = 1;
    fields = PyTuple_GetItem(model, 0);
    if (set_field(fields, START, PyLong_FromUnsignedLongLong(answer->vma_start)) == 0 &&
        set_field(fields, END, PyLong_FromUnsignedLongLong(answer->vma_end)) == 0 &&
        (PyTuple_GetItem(fields, OFFSET) == Py_None ||
         set_field(fields, OFFSET, PyLong_FromUnsignedLongLong(answer->vma_offset)) == 0))
        made = new_tuple((PyTypeObject *)asker->region, model, NULL);
    asker->is_making = 0;
    Py_DecRef(model);
    return made;
}

/* A question about the name as well, which goes where it belongs. */
static struct walk question(uint64_t flags, uint64_t address, struct fact_text *fact)
{
    struct walk walk = {-1, flags, address, 0, fact->name, NULL, {0}, 0};
    return walk;
}

/* What is mounted over a file of the folder is not followed: it would tell of another process. */
static int open_maps(int directory)
{
    struct open_how how = {O_RDONLY | O_CLOEXEC, 0, RESOLVE_NO_XDEV};
    int opened = (int)syscall(SYS_openat2, directory, "maps", &how, sizeof how);
    if (opened < 0 && (errno == ENOSYS || errno == EPERM)) /* a filter of system calls that is older than this one */
        opened = openat(directory, "maps", O_RDONLY | O_CLOEXEC);
    return opened;
}

/* Opens maps anew where it is time to. 0 or the errno, never ENOENT. Other threads run meanwhile. */
static int renew(Asker *asker)
{
    struct held *directory = asker->directory, *renewed;
    uint64_t since = now();
    int opened, error;
    if (directory == NULL || since - asker->maps->since < FRESH)
        return 0;
    directory->users++;
    Py_BEGIN_ALLOW_THREADS
    opened = open_maps(directory->descriptor);
    error = opened < 0 ? errno : 0;
    Py_END_ALLOW_THREADS
    let_go(directory);
    if (error != 0)
        return error == ENOENT ? ESRCH : error;
    renewed = hold(opened, since);
    if (renewed == NULL)
        return ENOMEM;
    if (asker->maps == NULL || asker->maps->since > since) { /* closed, or renewed by a thread that began later */
        let_go(renewed);
        return asker->maps == NULL ? EBADF : 0;
    }
    let_go(asker->maps);
    asker->maps = renewed;
    return 0;
}

/* The descriptor to ask by, to be let go of; NULL where there is none. */
static struct held *ready(Asker *asker)
{
    if (asker->maps == NULL || renew(asker) != 0) {
        asker->is_stale = 1;
        return NULL;
    }
    asker->maps->users++;
    return asker->maps;
}

/* 0 or the errno. Other threads run meanwhile. */
static int ask(Asker *asker, const struct held *maps, struct walk *walk)
{
    int error;
    walk->maps = maps->descriptor;
    Py_BEGIN_ALLOW_THREADS
    error = walk_ask(walk);
    Py_END_ALLOW_THREADS
    if (error != 0 && error != ENOENT)
        asker->is_stale = 1;
    return error;
}

static int is_untold(const Asker *asker, uint64_t address)
{
    for (int i = 0; i < MOST_UNTOLD; i++)
        if (address >= asker->untold[i][0] && address < asker->untold[i][1])
            return 1;
    return 0;
}

/* Whether it is a whole number of 64 bits. */
static int address_of(PyObject *number, uint64_t *address)
{
    if (!PyLong_CheckExact(number))
        return 0;
    *address = PyLong_AsUnsignedLongLong(number);
    if (*address == UINT64_MAX && PyErr_Occurred() != NULL) {
        PyErr_Clear();
        return 0;
    }
    return 1;
}

static PyObject *asker_find(PyObject *self, PyObject *number)
{
    struct fact_text fact;
    struct held *maps;
    struct walk walk;
    uint64_t address;
    int error;
    if (!address_of(number, &address) || (maps = ready((Asker *)self)) == NULL)
        return not_mine();
    walk = question(0, address, &fact);
    error = ask((Asker *)self, maps, &walk);
    let_go(maps);
    if (error == ENOENT && !is_untold((Asker *)self, address))
        Py_RETURN_NONE;
    return error != 0 ? not_mine() : region_of((Asker *)self, &walk, &fact);
}

/* The same question by the long way: arguments and keywords as they came. */
static PyObject *ask_the_long_way(const Asker *asker, PyObject *const *arguments, Py_ssize_t count, PyObject *names)
{
    Py_ssize_t named = names == NULL ? 0 : PyTuple_Size(names);
    PyObject *by_place = PyTuple_New(count), *by_name = PyDict_New(), *answer = NULL, *way = asker->long_way;
    int failed = by_place == NULL || by_name == NULL || way == NULL;
    for (Py_ssize_t i = 0; !failed && i < count; i++) {
        Py_IncRef(arguments[i]);
        failed = PyTuple_SetItem(by_place, i, arguments[i]) < 0;
    }
    for (Py_ssize_t i = 0; !failed && i < named; i++)
        failed = PyDict_SetItem(by_name, PyTuple_GetItem(names, i), arguments[count + i]) < 0;
    if (way == NULL) {
        PyErr_SetString(PyExc_TypeError, "there is no long way to ask");
    } else if (!failed) {
        Py_IncRef(way); /* the question may make the asker forget it */
        answer = PyObject_Call(way, by_place, by_name);
        Py_DecRef(way);
    }
    Py_DecRef(by_place);
    Py_DecRef(by_name);
    return answer;
}

/* ask(address, ...): like `find`, for one address and nothing else; all other questions go the long way. */
static PyObject *asker_ask(PyObject *self, PyObject *const *arguments, Py_ssize_t count, PyObject *names)
{
    if (count == 1 && (names == NULL || PyTuple_Size(names) == 0)) {
        PyObject *found = asker_find(self, arguments[0]);
        if (found != Py_NotImplemented)
            return found;
        Py_DecRef(found);
    }
    return ask_the_long_way((Asker *)self, arguments, count, names);
}

static PyObject *asker_hand_on_to(PyObject *self, PyObject *long_way)
{
    PyObject *old = ((Asker *)self)->long_way;
    Py_IncRef(long_way);
    ((Asker *)self)->long_way = long_way;
    Py_DecRef(old);
    Py_RETURN_NONE;
}

struct wanted {
    uint64_t address;
    size_t place;
};

static int by_address(const void *one, const void *other)
{
    uint64_t a = ((const struct wanted *)one)->address, b = ((const struct wanted *)other)->address;
    return a < b ? -1 : a > b;
}

/* Asks from the lowest address up, so that addresses in one region, or in one gap, are one question. */
static PyObject *find_sorted(Asker *asker, const struct held *maps, const struct wanted *wanted, size_t count)
{
    PyObject *found = PyList_New((Py_ssize_t)count), *region = Py_None;
    uint64_t start = 0, end = 0; /* of `region`; below `start` there is nothing that was not looked at */
    struct fact_text fact;
    struct walk walk = question(COVERING_OR_NEXT, 0, &fact);
    Py_IncRef(region);
    for (size_t i = 0; found != NULL && i < count; i++) {
        PyObject *item;
        if (i == 0 || wanted[i].address >= end) {
            int error;
            walk.address = wanted[i].address;
            error = ask(asker, maps, &walk);
            Py_DecRef(region);
            region = Py_None;
            Py_IncRef(region);
            start = end = UINT64_MAX; /* nothing from here on */
            if (error == 0) {
                PyObject *made = region_of(asker, &walk, &fact);
                if (made == NULL || made == Py_NotImplemented) {
                    Py_DecRef(region);
                    Py_DecRef(found);
                    return made;
                }
                Py_DecRef(region);
                region = made;
                start = walk.answer.vma_start;
                end = walk.answer.vma_end;
            } else if (error != ENOENT) {
                Py_DecRef(region);
                Py_DecRef(found);
                return not_mine();
            }
        }
        item = wanted[i].address >= start ? region : Py_None;
        Py_IncRef(item);
        (void)PyList_SetItem(found, (Py_ssize_t)wanted[i].place, item);
    }
    Py_DecRef(region);
    return found;
}

/* `numbers`: an array of 64-bit addresses. */
static PyObject *asker_find_many(PyObject *self, PyObject *numbers)
{
    struct wanted *wanted;
    PyObject *found = NULL;
    Py_buffer view;
    size_t count;
    int some_untold = 0;
    if (PyObject_GetBuffer(numbers, &view, PyBUF_SIMPLE) < 0)
        return NULL;
    count = (size_t)view.len / sizeof(uint64_t);
    wanted = (struct wanted *)malloc((count + 1) * sizeof *wanted);
    if (wanted == NULL)
        (void)PyErr_NoMemory();
    for (size_t i = 0; wanted != NULL && i < count; i++) {
        wanted[i].address = ((const uint64_t *)view.buf)[i];
        wanted[i].place = i;
        some_untold |= is_untold((Asker *)self, wanted[i].address);
    }
    PyBuffer_Release(&view);
    if (wanted != NULL) {
        struct held *maps = some_untold ? NULL : ready((Asker *)self); /* one for all: they are of one memory */
        qsort(wanted, count, sizeof *wanted, by_address);
        found = maps == NULL ? not_mine() : find_sorted((Asker *)self, maps, wanted, count);
        let_go(maps);
    }
    free(wanted);
    return found;
}

PyObject *asker_new(PyObject *module, PyObject *arguments)
{
    allocfunc allocate = (allocfunc)PyType_GetSlot(asker_type, Py_tp_alloc);
    PyObject *region, *model_of;
    Py_buffer untold;
    Asker *made;
    int maps, directory;
    (void)module;
    if (!PyArg_ParseTuple(arguments, "iiO!Oy*", &maps, &directory, &PyType_Type, &region, &model_of, &untold))
        return NULL;
    if (!PyType_IsSubtype((PyTypeObject *)region, &PyTuple_Type) || (size_t)untold.len > sizeof made->untold) {
        PyBuffer_Release(&untold);
        PyErr_SetString(PyExc_TypeError, "regions are tuples, and few ranges are untold");
        return NULL;
    }
    made = (Asker *)allocate(asker_type, 0);
    if (made != NULL)
        memcpy(made->untold, untold.buf, (size_t)untold.len);
    PyBuffer_Release(&untold);
    if (made == NULL)
        return NULL;
    made->slots = (struct slot *)calloc(SLOTS, sizeof *made->slots);
    Py_IncRef(region);
    Py_IncRef(model_of);
    made->region = region;
    made->model_of = model_of;
    if (made->slots == NULL) {
        Py_DecRef((PyObject *)made);
        return PyErr_NoMemory();
    }
    made->maps = hold(fcntl(maps, F_DUPFD_CLOEXEC, 0), now());
    if (directory >= 0)
        made->directory = hold(fcntl(directory, F_DUPFD_CLOEXEC, 0), 0);
    if (made->maps == NULL || (directory >= 0 && made->directory == NULL)) {
        Py_DecRef((PyObject *)made);
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    return (PyObject *)made;
}

static PyObject *asker_is_stale(PyObject *self, PyObject *none)
{
    (void)none;
    return PyBool_FromLong(((Asker *)self)->is_stale);
}

static PyMethodDef asker_methods[] = {
    {"find", asker_find, METH_O, "The region that covers an address, None, or NotImplemented."},
    {"ask", (PyCFunction)(void (*)(void))asker_ask, METH_FASTCALL | METH_KEYWORDS,
     "ask($self, address, /, *, or_next=False, where=None, **criteria)\n--\n\n"
     "The region that covers the address: see vmatlas.Process.find."},
    {"hand_on_to", asker_hand_on_to, METH_O, "What `ask` hands those questions on to that are not its own."},
    {"find_many", asker_find_many, METH_O, "The same for an array of addresses."},
    {"is_stale", asker_is_stale, METH_NOARGS, "Whether the memory that it asks about is gone: exec, or the end."},
    {"close", asker_close, METH_NOARGS, "Closes its descriptors. Safe to call twice."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot asker_slots[] = {{Py_tp_dealloc, asker_dealloc}, {Py_tp_methods, asker_methods}, {0, NULL}};

static PyType_Spec asker_spec = {"vmatlas_linux_ioctl._native.Asker", sizeof(Asker), 0,
                                 Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, asker_slots};

int add_asker(PyObject *module)
{
    asker_type = (PyTypeObject *)PyType_FromSpec(&asker_spec);
    new_tuple = (newfunc)PyType_GetSlot(&PyTuple_Type, Py_tp_new);
    return asker_type == NULL ? -1 : PyModule_AddObjectRef(module, "Asker", (PyObject *)asker_type);
}
