/* What the entry uses of Python: declared here, of its stable ABI (PEP 384), so that a build wants no
 * headers of any Python's, and one shared object serves all of them.
 *
 * All of it is weak: where the process has no Python, or hides it, there is NULL in its place. */
#ifndef SQUASH_PYTHON_ABI_H
#define SQUASH_PYTHON_ABI_H

#include <stddef.h>
#include <stdint.h>

#define SQ_PYTHON extern __attribute__((weak, visibility("default")))

typedef ptrdiff_t Py_ssize_t;
typedef struct { void *unknown; } PyObject; /* only its address is used */
typedef struct PyThreadState PyThreadState;

typedef struct {
    void *buf;
    PyObject *obj;
    Py_ssize_t len;
    Py_ssize_t itemsize;
    int readonly;
    int ndim;
    char *format;
    Py_ssize_t *shape;
    Py_ssize_t *strides;
    Py_ssize_t *suboffsets;
    void *internal;
} Py_buffer;

typedef struct {
    const char *ml_name;
    PyObject *(*ml_meth)(PyObject *, PyObject *const *, Py_ssize_t);
    int ml_flags;
    const char *ml_doc;
} PyMethodDef;

enum { METH_FASTCALL = 0x80, PyBUF_SIMPLE = 0, PyBUF_FORMAT = 4, PyBUF_ND = 8 };

SQ_PYTHON PyObject _Py_NoneStruct;
SQ_PYTHON PyObject *PyBytes_FromStringAndSize(const char *, Py_ssize_t);
SQ_PYTHON void PyBuffer_Release(Py_buffer *);
SQ_PYTHON PyObject *PyCFunction_NewEx(PyMethodDef *, PyObject *, PyObject *);
SQ_PYTHON int PyErr_BadArgument(void);
SQ_PYTHON void PyErr_Clear(void);
SQ_PYTHON PyObject *PyErr_NoMemory(void);
SQ_PYTHON PyObject *PyErr_Occurred(void);
SQ_PYTHON void PyEval_RestoreThread(PyThreadState *);
SQ_PYTHON PyThreadState *PyEval_SaveThread(void);
SQ_PYTHON double PyFloat_AsDouble(PyObject *);
SQ_PYTHON PyObject *PyFloat_FromDouble(double);
SQ_PYTHON void *PyLong_AsVoidPtr(PyObject *);
SQ_PYTHON PyObject *PyLong_FromLongLong(long long);
SQ_PYTHON void PyMem_Free(void *);
SQ_PYTHON void *PyMem_Malloc(size_t);
SQ_PYTHON int PyObject_GetBuffer(PyObject *, Py_buffer *, int);
SQ_PYTHON PyObject *PyTuple_New(Py_ssize_t);
SQ_PYTHON int PyTuple_SetItem(PyObject *, Py_ssize_t, PyObject *);
SQ_PYTHON PyObject *PyType_GenericAlloc(PyObject *, Py_ssize_t);
SQ_PYTHON PyObject *PyUnicode_DecodeUTF8(const char *, Py_ssize_t, const char *);
SQ_PYTHON void Py_DecRef(PyObject *);
SQ_PYTHON void Py_IncRef(PyObject *);

#endif
