/* The extension vmatlas_linux_procfs._native: decodes bytes, reads and decodes a file in one go, compares a file. */
#include "binding.h"

#include "decode.h"
#include "holes.h"
#include "rollups.h"
#include "scratch.h"
#include "text_file.h"

enum { ROOM = SCRATCH_ROOM, FIRST = 1 << 14 };

#define VSYSCALL UINT64_C(0xffffffffff600000) /* on x86-64: what a text ends with that is whole */

/* What becomes of a text while it is read. */
struct decoding {
    int is_smaps;
    size_t most;
    struct columns *columns;
    struct keys *keys;
    enum verdict verdict;
    struct holes holes;
};

/* Memory in a hole: the text is torn, or the map has changed since. The long way tells which regions those are. But for memory that
 * another thread's reading of our own map made. */
static int notice_unlisted(struct holes *holes, const struct procmap_query *answer, const char *name)
{
    (void)holes;
    return answer->vma_name_size == sizeof SCRATCH_LABEL && memcmp(name, SCRATCH_LABEL, sizeof SCRATCH_LABEL) == 0 ? 0 : EAGAIN;
}

/* Asks about the holes between the rows from `known` on. */
static enum verdict ask_about_holes(struct decoding *decoding, size_t known)
{
    for (; known < decoding->columns->count; known++)
        if (holes_region(&decoding->holes, decoding->columns->rows[known].start, decoding->columns->rows[known].end) != 0)
            return NOT_MINE;
    return DECODED;
}

static int ends_with_vsyscall(const struct columns *columns)
{
    const struct row *row = &columns->rows[columns->count - 1];
    const struct text *fact = &columns->facts.all[row->fact];
    return row->start == VSYSCALL && fact->size >= 10 &&
           memcmp(columns->facts.bytes + fact->at + fact->size - 10, "[vsyscall]", 10) == 0;
}

static ssize_t decode_piece(struct text_file *text, const char *piece, size_t size, int is_end)
{
    struct decoding *decoding = text->taker;
    struct columns *columns = decoding->columns;
    size_t used = 0, known = columns->count;
    if (columns->release != NULL && !scratch_has_room(columns))
        return TEXT_STOP;
    /* The first piece of smaps must show all the keys of a region. */
    if (decoding->is_smaps && columns->count == 0 && size < FIRST && !is_end)
        return 0;
    decoding->verdict = decoding->is_smaps ? decode_smaps(piece, size, is_end, columns, decoding->keys, &used)
                                           : decode_maps(piece, size, columns, &used);
    if (decoding->verdict == DECODED && (columns->count > decoding->most || (is_end && used < size)))
        decoding->verdict = NOT_MINE;
    if (decoding->verdict == DECODED)
        decoding->verdict = ask_about_holes(decoding, known);
    text->is_sure = columns->count > 0 && ends_with_vsyscall(columns);
    return decoding->verdict == DECODED ? (ssize_t)used : TEXT_STOP;
}

/* What to read: a descriptor of the text, one of maps to ask about holes, and how many regions at most. */
struct asked {
    int file, maps, is_smaps;
    size_t most;
};

static enum verdict read_into(const struct asked *asked, char *room, struct columns *columns, struct keys *keys)
{
    struct decoding decoding = {asked->is_smaps, asked->most, columns, keys, NOT_MINE, {.maps = asked->maps, .put = notice_unlisted}};
    struct text_file text = {asked->file, room, ROOM, decode_piece, &decoding, 0, 0};
    enum text_end end = read_text_file(&text);
    if (end == TEXT_STOPPED)
        return decoding.verdict;
    return end == TEXT_WHOLE && columns->count > 0 && holes_end(&decoding.holes) == 0 ? DECODED : NOT_MINE;
}

static enum verdict read_and_decode(const struct asked *asked, struct columns *columns, struct keys *keys)
{
    char *room = (char *)malloc(ROOM);
    enum verdict verdict = room == NULL ? NO_MEMORY : read_into(asked, room, columns, keys);
    free(room);
    return verdict;
}

/* Its name is all that begins with a slash: MAJOR:MINOR INODE NAME. */
static int is_scratch(const char *fact, size_t size)
{
    const char *name = (const char *)memchr(fact, '/', size);
    return name != NULL && (size_t)(fact + size - name) == sizeof SCRATCH_LABEL - 1 &&
           memcmp(name, SCRATCH_LABEL, sizeof SCRATCH_LABEL - 1) == 0;
}

/* Our own map. While it is read no memory is made and none is given back. */
static enum verdict read_self_and_decode(const struct asked *asked, struct columns *columns, struct keys *keys)
{
    enum verdict verdict;
    *columns = scratch_columns();
    if (columns->memory == NULL)
        return NOT_MINE;
    verdict = read_into(asked, (char *)columns->memory, columns, keys);
    scratch_cut(columns, is_scratch);
    return verdict == DECODED && (columns->count == 0 || columns->count > asked->most) ? NOT_MINE : verdict;
}

static PyObject *key_list(const struct keys *keys)
{
    PyObject *list = PyList_New((Py_ssize_t)keys->count);
    for (unsigned i = 0; list != NULL && i < keys->count; i++) {
        PyObject *key = PyUnicode_FromStringAndSize(keys->all[i].text, (Py_ssize_t)keys->all[i].size - 1);
        if (key == NULL || PyList_SetItem(list, (Py_ssize_t)i, key) < 0) {
            Py_DecRef(list);
            return NULL;
        }
    }
    return list;
}

/* Rows alone for maps, with the keys for smaps. */
static PyObject *answer(enum verdict verdict, struct columns *columns, int is_smaps, const struct keys *keys)
{
    PyObject *rows = outcome(verdict, columns), *list, *both;
    if (!is_smaps || rows == NULL || rows == Py_None)
        return rows;
    list = key_list(keys);
    both = list == NULL ? NULL : PyTuple_Pack(2, rows, list);
    Py_DecRef(rows);
    Py_DecRef(list);
    return both;
}

static PyObject *decode(PyObject *text, int is_smaps)
{
    struct columns columns = {0};
    struct keys *keys = (struct keys *)PyMem_Calloc(1, sizeof *keys);
    enum verdict verdict;
    size_t used;
    Py_buffer view;
    PyObject *made;
    if (keys == NULL)
        return PyErr_NoMemory();
    if (PyObject_GetBuffer(text, &view, PyBUF_SIMPLE) < 0) {
        PyMem_Free(keys);
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    if (is_smaps)
        verdict = decode_smaps((const char *)view.buf, (size_t)view.len, 1, &columns, keys, &used);
    else
        verdict = decode_maps((const char *)view.buf, (size_t)view.len, &columns, &used);
    if (verdict == DECODED && (used != (size_t)view.len || columns.count == 0))
        verdict = NOT_MINE;
    Py_END_ALLOW_THREADS
    PyBuffer_Release(&view);
    made = answer(verdict, &columns, is_smaps, keys);
    PyMem_Free(keys);
    return made;
}

static PyObject *module_decode_maps(PyObject *module, PyObject *text)
{
    (void)module;
    return decode(text, 0);
}

static PyObject *module_decode_smaps(PyObject *module, PyObject *text)
{
    (void)module;
    return decode(text, 1);
}

static PyObject *read_by(enum verdict (*way)(const struct asked *, struct columns *, struct keys *), PyObject *arguments)
{
    struct columns columns = {0};
    struct asked asked;
    struct keys keys; /* not of malloc(3): the map that is read may be ours, and musl maps a page for what is that large */
    enum verdict verdict;
    Py_ssize_t most;
    if (!PyArg_ParseTuple(arguments, "iipn", &asked.file, &asked.maps, &asked.is_smaps, &most))
        return NULL;
    asked.most = most > 0 ? (size_t)most : SIZE_MAX;
    keys.count = 0;
    keys.flags = -1;
    Py_BEGIN_ALLOW_THREADS
    verdict = way(&asked, &columns, &keys);
    Py_END_ALLOW_THREADS
    return answer(verdict, &columns, asked.is_smaps, &keys);
}

static PyObject *module_read(PyObject *module, PyObject *arguments)
{
    (void)module;
    return read_by(read_and_decode, arguments);
}

static PyObject *module_read_self(PyObject *module, PyObject *arguments)
{
    (void)module;
    return read_by(read_self_and_decode, arguments);
}

/* Answers about memory in the holes of a text, one after another, each with its name. */
struct unlisted {
    char *all;
    size_t size;
};

static int keep_unlisted(struct holes *holes, const struct procmap_query *answer, const char *name)
{
    struct unlisted *unlisted = holes->taker;
    size_t size = unlisted->size + sizeof *answer + answer->vma_name_size;
    char *all = (char *)realloc(unlisted->all, size);
    if (all == NULL)
        return ENOMEM;
    memcpy(all + unlisted->size, answer, sizeof *answer);
    memcpy(all + unlisted->size + sizeof *answer, name, answer->vma_name_size);
    unlisted->all = all;
    unlisted->size = size;
    return 0;
}

static PyObject *module_unlisted(PyObject *module, PyObject *arguments)
{
    struct unlisted unlisted = {NULL, 0};
    struct holes holes = {.put = keep_unlisted, .taker = &unlisted};
    Py_buffer view;
    PyObject *made = NULL;
    int error;
    (void)module;
    if (!PyArg_ParseTuple(arguments, "iy*", &holes.maps, &view))
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    error = holes_text(&holes, (const char *)view.buf, (size_t)view.len);
    if (error == 0 && view.len > 0)
        error = holes_end(&holes);
    Py_END_ALLOW_THREADS
    PyBuffer_Release(&view);
    if (error == 0)
        made = PyBytes_FromStringAndSize(unlisted.all == NULL ? "" : unlisted.all, (Py_ssize_t)unlisted.size);
    free(unlisted.all);
    if (error != 0) {
        errno = error;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    return made;
}

/* What a file must still read like. */
struct known {
    const char *at;
    size_t left;
};

static ssize_t compare_piece(struct text_file *text, const char *piece, size_t size, int is_end)
{
    struct known *known = text->taker;
    (void)is_end;
    if (size > known->left || memcmp(piece, known->at, size) != 0)
        return TEXT_STOP;
    known->at += size;
    known->left -= size;
    return (ssize_t)size;
}

/* Whether a file reads just like some bytes, from its start to its end. */
static int reads_like(int file, const char *bytes, size_t size)
{
    char room[8192];
    struct known known = {bytes, size};
    const int is_sure = 1; /* what reads like a whole text is whole */
    struct text_file text = {file, room, sizeof room, compare_piece, &known, is_sure, 0};
    return read_text_file(&text) == TEXT_WHOLE && known.left == 0;
}

static PyObject *module_reads_like(PyObject *module, PyObject *arguments)
{
    Py_buffer view;
    int file, same;
    (void)module;
    if (!PyArg_ParseTuple(arguments, "iy*", &file, &view))
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    same = reads_like(file, (const char *)view.buf, (size_t)view.len);
    Py_END_ALLOW_THREADS
    PyBuffer_Release(&view);
    return PyBool_FromLong(same);
}

static PyObject *text_or_none(const struct piece *piece)
{
    if (piece->size > 0)
        return PyBytes_FromStringAndSize(piece->bytes, (Py_ssize_t)piece->size);
    Py_IncRef(Py_None);
    return Py_None;
}

/* The keys in one and the numbers; what is unusual as it is. */
static PyObject *totals_or_text(const struct piece *text)
{
    struct totals totals;
    PyObject *keys, *numbers, *made = NULL;
    parse_rollup(text, &totals);
    if (totals.count == 0)
        return text_or_none(text);
    keys = PyBytes_FromStringAndSize(totals.keys, (Py_ssize_t)totals.keys_size);
    numbers = PyTuple_New((Py_ssize_t)totals.count);
    for (unsigned i = 0; numbers != NULL && i < totals.count; i++) {
        PyObject *number = PyLong_FromUnsignedLongLong(totals.numbers[i]);
        if (number == NULL || PyTuple_SetItem(numbers, (Py_ssize_t)i, number) < 0) {
            Py_DecRef(numbers);
            numbers = NULL;
        }
    }
    if (keys != NULL && numbers != NULL)
        made = PyTuple_Pack(2, keys, numbers);
    if (keys != NULL)
        Py_DecRef(keys);
    if (numbers != NULL)
        Py_DecRef(numbers);
    return made;
}

static PyObject *rollup_tuple(const struct rollup *rollup)
{
    PyObject *parts[] = {totals_or_text(&rollup->text), text_or_none(&rollup->stat), PyLong_FromLong(rollup->lines),
                         PyLong_FromLong(rollup->error)};
    PyObject *made = NULL;
    if (parts[0] != NULL && parts[1] != NULL && parts[2] != NULL && parts[3] != NULL)
        made = PyTuple_Pack(4, parts[0], parts[1], parts[2], parts[3]);
    for (int i = 0; i < 4; i++)
        if (parts[i] != NULL)
            Py_DecRef(parts[i]);
    return made;
}

static PyObject *module_rollups(PyObject *module, PyObject *arguments)
{
    struct rollup rollup;
    Py_buffer view;
    size_t count;
    int described, counted;
    PyObject *list;
    (void)module;
    if (!PyArg_ParseTuple(arguments, "y*pp", &view, &described, &counted))
        return NULL;
    count = (size_t)view.len / sizeof(int);
    list = PyList_New((Py_ssize_t)count);
    for (size_t i = 0; list != NULL && i < count; i++) {
        PyObject *each;
        Py_BEGIN_ALLOW_THREADS
        read_rollup(((const int *)view.buf)[i], described, counted, &rollup);
        Py_END_ALLOW_THREADS
        each = rollup_tuple(&rollup);
        if (each == NULL || PyList_SetItem(list, (Py_ssize_t)i, each) < 0) {
            Py_DecRef(list);
            list = NULL;
        }
    }
    PyBuffer_Release(&view);
    return list;
}

static PyMethodDef methods[] = {
    {"decode_maps", module_decode_maps, METH_O, "Rows from the text of maps, or None."},
    {"decode_smaps", module_decode_smaps, METH_O, "Rows and keys from the text of smaps, or None."},
    {"read", module_read, METH_VARARGS, "The same from a descriptor: (file, maps or -1, is_smaps, most regions or 0)."},
    {"read_self", module_read_self, METH_VARARGS, "The same of our own map, without what reading it takes."},
    {"unlisted", module_unlisted, METH_VARARGS, "What is mapped in the holes of a text: (maps, text). Raises OSError."},
    {"reads_like", module_reads_like, METH_VARARGS, "Whether a descriptor's file reads just like some bytes."},
    {"rollups", module_rollups, METH_VARARGS, "Totals, stat, lines of maps of processes: (pids, described, counted)."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "vmatlas_linux_procfs._native", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__native(void)
{
    PyObject *module = PyModule_Create(&definition);
    if (module != NULL && add_rows(module, "vmatlas_linux_procfs._native.Rows") < 0) {
        Py_DecRef(module);
        module = NULL;
    }
    return module;
}
