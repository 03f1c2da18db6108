"""Inboxes: messages on their way to a coroutine that takes them one by one.

In: messages, as they are parsed. Out: the same, in order. How many there may be is the
connection's to judge.
"""

from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.object cimport PyObject
from cpython.ref cimport Py_XDECREF, Py_XINCREF
from libc.stdint cimport uint32_t


cdef enum:
    FIRST_ROOM = 4


cdef int inbox_put(Inbox **place, object item) except -1:
    cdef Inbox *box = place[0]
    cdef PyObject **bigger
    cdef uint32_t i
    if box == NULL:
        box = <Inbox *>PyMem_Malloc(sizeof(Inbox))
        if box == NULL:
            raise MemoryError
        box.items = <PyObject **>PyMem_Malloc(FIRST_ROOM * sizeof(PyObject *))
        if box.items == NULL:
            PyMem_Free(box)
            raise MemoryError
        box.room = FIRST_ROOM
        box.head = box.count = 0
        place[0] = box
    elif box.count == box.room:
        bigger = <PyObject **>PyMem_Malloc(2 * <size_t>box.room * sizeof(PyObject *))
        if bigger == NULL:
            raise MemoryError
        for i in range(box.count):
            bigger[i] = box.items[(box.head + i) & (box.room - 1)]
        PyMem_Free(box.items)
        box.items = bigger
        box.head = 0
        box.room *= 2
    Py_XINCREF(<PyObject *>item)
    box.items[(box.head + box.count) & (box.room - 1)] = <PyObject *>item
    box.count += 1
    return 0


cdef PyObject *inbox_take(Inbox *box) noexcept:
    cdef PyObject *item = box.items[box.head]
    box.head = (box.head + 1) & (box.room - 1)
    box.count -= 1
    return item


cdef void inbox_free(Inbox *box) noexcept:
    if box == NULL:
        return
    while box.count:
        Py_XDECREF(inbox_take(box))
    PyMem_Free(box.items)
    PyMem_Free(box)
