/* A search in one call from Python: what it is asked is taken out of objects, and what it found is put
 * into objects, without Python between. It does what squash.kernels.searching does through ctypes. */
#include <string.h>

#include "python_abi.h"
#define SQ_VARIANT portable
#include "squash_kernels.h"

#if defined(__linux__)

/* The operations of some variant. */
typedef __typeof__(&sq_search_portable) search_op;
typedef __typeof__(&sq_ask_portable) ask_op;

/* The arguments: an operation, the table, a room for searches, a form or 0, all by their addresses; the
 * query, float32 or float64 [d], and the least and the most that its values' squares may add up to, or
 * infinity for any; and the share of all rows that may pass. For `ask` also the room that programs
 * of its ranges begin with, its filter's intervals, and at which byte of the room these lie; the ranges
 * and the prices, by their addresses.
 *
 * It returns a tuple (rows, counts, whether by lists) where a form is given and the rows found are the
 * answer, else what the operation returned; None where the query is not such. */
enum {
    OPERATION,
    TABLE,
    ROOM,
    FORM,
    QUERY,
    SQUARE_LEAST,
    SQUARE_MOST,
    OVERALL,
    SEARCH_ARGUMENTS,
    PROGRAM = SEARCH_ARGUMENTS,
    INTERVALS,
    INTERVALS_AT,
    RANGES,
    PRICES,
    ASK_ARGUMENTS
};

enum { LANES = 8, CHUNK = 256 };

/* The sum of squares of n numbers, in eight lanes. */
static double squares_of(const double *x, int64_t n) {
    double sums[LANES] = {0};
    for (int64_t i = 0; i < n; i++) sums[i % LANES] += x[i] * x[i];
    double sum = 0;
    for (int i = 0; i < LANES; i++) sum += sums[i];
    return sum;
}

/* Writes n numbers, float32 or float64, to `to` as float32; returns the sum of their squares. */
static double narrow(const char *from, size_t item_bytes, int64_t n, float *to) {
    double sum = 0;
    for (int64_t first = 0; first < n; first += CHUNK) {
        const int64_t count = n - first < CHUNK ? n - first : CHUNK;
        const char *at = from + (size_t)first * item_bytes;
        double wide[CHUNK];
        if (item_bytes == sizeof(float)) {
            memcpy(to + first, at, (size_t)count * sizeof(float));
            for (int64_t i = 0; i < count; i++) wide[i] = (double)to[first + i];
        } else {
            memcpy(wide, at, (size_t)count * sizeof(double));
            for (int64_t i = 0; i < count; i++) to[first + i] = (float)wide[i];
        }
        sum += squares_of(wide, count);
    }
    return sum;
}

/* Takes the query; 0 where it is not what the arguments say. */
static int take_query(const sq_search *asked, PyObject *query, double least, double most) {
    Py_buffer held;
    const int64_t n = asked->vector_dimension;
    if (PyObject_GetBuffer(query, &held, PyBUF_ND | PyBUF_FORMAT) < 0) {
        PyErr_Clear();
        return 0;
    }
    const char kind = held.format ? held.format[0] : 0;
    const size_t bytes = kind == 'f' ? sizeof(float) : kind == 'd' ? sizeof(double) : 0;
    int taken = bytes && !held.format[1] && held.itemsize == (Py_ssize_t)bytes;
    taken = taken && held.ndim == 1 && held.shape[0] == n;
    if (taken) {
        const double square = narrow(held.buf, bytes, n, (float *)asked->query);
        taken = most == __builtin_inf() || (square >= least && square <= most);
    }
    PyBuffer_Release(&held);
    return taken;
}

/* Copies what an object holds to `at`, in which there are `room` bytes; -1 after an error. */
static int take(PyObject *object, void *at, Py_ssize_t room) {
    Py_buffer held;
    if (PyObject_GetBuffer(object, &held, PyBUF_SIMPLE) < 0) return -1;
    const int fits = held.len <= room;
    if (fits) memcpy(at, held.buf, (size_t)held.len);
    else PyErr_BadArgument();
    PyBuffer_Release(&held);
    return fits ? 0 : -1;
}

/* A filter's program as it is before it is bound, in memory of its own; NULL after an error. */
static uint8_t *program_of(PyObject *const *arguments) {
    Py_buffer form;
    const Py_ssize_t at = (Py_ssize_t)(intptr_t)PyLong_AsVoidPtr(arguments[INTERVALS_AT]);
    if (PyObject_GetBuffer(arguments[PROGRAM], &form, PyBUF_SIMPLE) < 0) return NULL;
    const Py_ssize_t bytes = form.len;
    uint8_t *program = bytes > 0 ? PyMem_Malloc((size_t)bytes) : NULL;
    if (program) memcpy(program, form.buf, (size_t)bytes);
    PyBuffer_Release(&form);
    if (!program) {
        PyErr_NoMemory();
        return NULL;
    }
    if (at >= 0 && at <= bytes && take(arguments[INTERVALS], program + at, bytes - at) == 0)
        return program;
    if (!PyErr_Occurred()) PyErr_BadArgument();
    PyMem_Free(program);
    return NULL;
}

static void fill(PyObject *object, int64_t place, PyObject *value) {
    memcpy((char *)object + place, &value, sizeof value);
}

/* An object of a row's key and distance, all else None; NULL after an error. */
static PyObject *object_of(const sq_form *form, const char *key, int64_t bytes, double distance) {
    PyObject *text = PyUnicode_DecodeUTF8(key, bytes, NULL);
    PyObject *number = text ? PyFloat_FromDouble(distance) : NULL;
    PyObject *made = number ? PyType_GenericAlloc(form->type, 0) : NULL;
    if (!made) {
        if (number) Py_DecRef(number);
        if (text) Py_DecRef(text);
        return NULL;
    }
    fill(made, form->key, text);
    fill(made, form->distance, number);
    for (int64_t i = 0; i < form->nones; i++) {
        Py_IncRef(&_Py_NoneStruct);
        fill(made, form->none[i], &_Py_NoneStruct);
    }
    return made;
}

/* Objects of all rows found; NULL after an error. */
static PyObject *objects_of(const sq_search *asked, const sq_form *form, int64_t found) {
    const char *key = (const char *)asked->key_room;
    const char *end = key + asked->counts[SQ_KEY_BYTES];
    PyObject *made = PyTuple_New(found);
    for (int64_t i = 0; made && i < found; i++) {
        const char *stop = memchr(key, '\n', (size_t)(end - key));
        PyObject *one = stop ? object_of(form, key, stop - key, asked->near_distance[i]) : NULL;
        if (one) {
            PyTuple_SetItem(made, i, one);
            key = stop + 1;
        } else {
            Py_DecRef(made);
            made = NULL;
        }
    }
    return made;
}

/* Where the record of a row found begins, and how long it is without what follows it; 0 where there is
 * none, or none that ends as records do. */
static int64_t record_of(const sq_search *asked, int64_t place, const uint8_t **record) {
    static const char ends[][5] = {"}],", "}]]", "}]]["};
    const int64_t partition = asked->near_partition[place], row = asked->near_row[place];
    if (partition < 0 || partition >= asked->record_partitions) return 0;
    const sq_records *of = asked->records + partition;
    if (row < 0 || row >= of->rows) return 0;
    const int64_t begin = of->begins[row], next = of->begins[row + 1];
    /* The last of all ends as if another page followed. */
    const int64_t end = next == of->bytes + 1 ? of->bytes : next;
    if (begin < 0 || begin > end || end > of->bytes) return 0;
    *record = of->data + begin;
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        const int64_t bytes = (int64_t)strlen(ends[i]);
        if (end - begin >= bytes && !memcmp(of->data + end - bytes, ends[i], (size_t)bytes))
            return end - begin - (bytes - 2);
    }
    return 0;
}

/* The records of all rows found, as the text of a list of JSON; NULL if there is no such, or after an
 * error. */
static PyObject *text_of(const sq_search *asked, int64_t found) {
    const uint8_t *record;
    int64_t bytes = 1;
    for (int64_t i = 0; i < found; i++) {
        const int64_t one = record_of(asked, i, &record);
        if (!one) return NULL;
        bytes += one + 1;
    }
    char *text = PyMem_Malloc((size_t)bytes), *at = text;
    if (!text) return PyErr_NoMemory();
    for (int64_t i = 0; i < found; i++) {
        const int64_t one = record_of(asked, i, &record);
        *at++ = i ? ',' : '[';
        memcpy(at, record, (size_t)one);
        at += one;
    }
    *at++ = ']';
    PyObject *made = PyUnicode_DecodeUTF8(text, at - text, NULL);
    PyMem_Free(text);
    return made;
}

/* A tuple that takes some parts over; NULL, and they are let go, if one of them is. */
static PyObject *together(PyObject **parts, int count) {
    int whole = 1;
    for (int i = 0; i < count; i++) whole &= parts[i] != NULL;
    PyObject *made = whole ? PyTuple_New(count) : NULL;
    for (int i = 0; i < count; i++) {
        if (made) PyTuple_SetItem(made, i, parts[i]);
        else if (parts[i]) Py_DecRef(parts[i]);
    }
    return made;
}

/* How far the rows found are. */
static PyObject *distances_of(const sq_search *asked, int64_t found) {
    PyObject *made = PyTuple_New(found);
    for (int64_t i = 0; made && i < found; i++) {
        PyObject *one = PyFloat_FromDouble(asked->near_distance[i]);
        if (one) {
            PyTuple_SetItem(made, i, one);
        } else {
            Py_DecRef(made);
            made = NULL;
        }
    }
    return made;
}

/* What the rows found are given as: objects, or the text of their records and how far they are; NULL
 * where that cannot be, or after an error. */
static PyObject *rows_of(const sq_search *asked, const sq_form *form, int64_t found) {
    const int64_t bytes = asked->counts[SQ_KEY_BYTES];
    if (form->type) {
        const int known = bytes > 0 && bytes <= asked->key_room_bytes;
        return known ? objects_of(asked, form, found) : NULL;
    }
    PyObject *parts[2] = {text_of(asked, found), NULL};
    if (parts[0]) parts[1] = distances_of(asked, found);
    return together(parts, 2);
}

/* What was found, (rows, counts, whether by lists); NULL as of `rows_of`. */
static PyObject *settled(const sq_search *asked, const sq_form *form, int64_t found) {
    const Py_ssize_t bytes = SQ_COUNTS * (Py_ssize_t)sizeof *asked->counts;
    PyObject *parts[3] = {rows_of(asked, form, found), NULL, NULL};
    if (parts[0]) parts[1] = PyBytes_FromStringAndSize((const char *)asked->counts, bytes);
    if (parts[1]) parts[2] = PyLong_FromLongLong(asked->counts[SQ_LISTED]);
    return together(parts, 3);
}

static PyObject *entry(PyObject *self, PyObject *const *arguments, Py_ssize_t count) {
    (void)self;
    if (count != SEARCH_ARGUMENTS && count != ASK_ARGUMENTS) {
        PyErr_BadArgument();
        return NULL;
    }
    const void *operation = PyLong_AsVoidPtr(arguments[OPERATION]);
    const sq_table *table = PyLong_AsVoidPtr(arguments[TABLE]);
    sq_search *asked = PyLong_AsVoidPtr(arguments[ROOM]);
    const sq_form *form = PyLong_AsVoidPtr(arguments[FORM]);
    const sq_ranges *ranges = NULL;
    const sq_prices *prices = NULL;
    uint8_t *program = NULL;
    const double least = PyFloat_AsDouble(arguments[SQUARE_LEAST]);
    const double most = PyFloat_AsDouble(arguments[SQUARE_MOST]);
    const double overall = PyFloat_AsDouble(arguments[OVERALL]);
    if (PyErr_Occurred()) return NULL;
    if (!take_query(asked, arguments[QUERY], least, most)) {
        Py_IncRef(&_Py_NoneStruct);
        return &_Py_NoneStruct;
    }
    asked->walk.overall = overall;
    if (count == ASK_ARGUMENTS) {
        ranges = PyLong_AsVoidPtr(arguments[RANGES]);
        prices = PyLong_AsVoidPtr(arguments[PRICES]);
        program = program_of(arguments);
    }
    if (PyErr_Occurred()) {
        PyMem_Free(program);
        return NULL;
    }
    int64_t found;
    PyThreadState *state = PyEval_SaveThread();
    if (program) found = ((ask_op)operation)(table, asked, ranges, prices, program);
    else found = ((search_op)operation)(table, asked);
    PyEval_RestoreThread(state);
    PyMem_Free(program);
    if (form && asked->records && found > 0 && asked->counts[SQ_SINGLE]) {
        PyObject *all = settled(asked, form, found);
        if (all) return all;
        /* What is no UTF-8 is told of by who reads it as JSON, row by row. */
        PyErr_Clear();
    }
    return PyLong_FromLongLong(found);
}

void *sq_entry(void) {
    static PyMethodDef made = {"entry", entry, METH_FASTCALL, NULL};
    return PyCFunction_NewEx ? PyCFunction_NewEx(&made, NULL, NULL) : NULL;
}

#else

void *sq_entry(void) { return NULL; }

#endif
