"""Data messages: masked bytes to `str` and `bytes`, and back, RFC 6455 5.4, 5.6 and 8.1.

In: the payloads of data frames, in any pieces. Out: one object a message. A message that
arrives whole becomes its object in one copy; one that does not is gathered in a bytes
object that grows with what has arrived, never with what was announced.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_CheckBuffer, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from cpython.ref cimport Py_XDECREF
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memmove, memset

from fastws._frames cimport WS_BINARY, WS_TEXT
from fastws._kernels cimport active, ws_utf8

cdef extern from "Python.h":
    PyObject *_PyBytes_FromStringAndSize "PyBytes_FromStringAndSize"(const char *, Py_ssize_t) except NULL
    int _PyBytes_Resize(PyObject **, Py_ssize_t) except -1
    char *_PyBytes_AS_STRING "PyBytes_AS_STRING"(PyObject *)
    Py_ssize_t _PyBytes_GET_SIZE "PyBytes_GET_SIZE"(PyObject *)
    object PyUnicode_New(Py_ssize_t size, unsigned maxchar)
    void *PyUnicode_DATA(object)
    const char *PyUnicode_AsUTF8AndSize(object, Py_ssize_t *) except NULL
    bint PyUnicode_IS_ASCII(object)
    int PyUnicode_KIND(object)
    Py_ssize_t PyUnicode_GET_LENGTH(object)
    int PyUnicode_1BYTE_KIND, PyUnicode_2BYTE_KIND

# CPython's codecs take several times as long for text that mixes scripts.
cdef extern from "ws_unicode.h" nogil:
    size_t ws_utf8_measure(const uint8_t *src, size_t size, uint32_t *max_class) noexcept
    void ws_utf8_to_ucs1(const uint8_t *src, size_t size, uint8_t *dst) noexcept
    void ws_utf8_to_ucs2(const uint8_t *src, size_t size, uint16_t *dst) noexcept
    void ws_utf8_to_ucs4(const uint8_t *src, size_t size, uint32_t *dst) noexcept
    size_t ws_ucs1_utf8_size(const uint8_t *src, size_t count) noexcept
    size_t ws_ucs2_utf8_size(const uint16_t *src, size_t count) noexcept
    size_t ws_ucs4_utf8_size(const uint32_t *src, size_t count) noexcept
    int ws_ucs1_to_utf8(const uint8_t *src, size_t count, uint8_t *dst, size_t size) noexcept
    int ws_ucs2_to_utf8(const uint16_t *src, size_t count, uint8_t *dst, size_t size) noexcept
    int ws_ucs4_to_utf8(const uint32_t *src, size_t count, uint8_t *dst, size_t size) noexcept


cdef enum:
    # The smallest buffer for an unfinished message, in bytes.
    MIN_BUFFER = 256
    # A message of which so much has come is worth room for more than twice that: pages that
    # are not written to take no memory, and the copies of a buffer that doubles are saved.
    LARGE = 64 * 1024
    LARGE_GROWTH = 16


cdef Known known
known.text = NULL


cdef inline object text_of(const uint8_t *src, size_t size, bint non_ascii):
    # src holds valid UTF-8.
    cdef object text
    cdef uint32_t largest
    cdef size_t count
    if non_ascii:
        count = ws_utf8_measure(src, size, &largest)
        text = PyUnicode_New(<Py_ssize_t>count, largest)
        if largest <= 0xFF:
            ws_utf8_to_ucs1(src, size, <uint8_t *>PyUnicode_DATA(text))
        elif largest <= 0xFFFF:
            ws_utf8_to_ucs2(src, size, <uint16_t *>PyUnicode_DATA(text))
        else:
            ws_utf8_to_ucs4(src, size, <uint32_t *>PyUnicode_DATA(text))
        return text
    text = PyUnicode_New(<Py_ssize_t>size, 127)
    memcpy(PyUnicode_DATA(text), src, size)
    return text


cdef object message_of(uint8_t opcode, const uint8_t *src, size_t size, bint as_bytes, bint *valid):
    cdef ws_utf8 utf8
    cdef object data
    valid[0] = True
    if opcode == WS_TEXT:
        utf8.dfa = utf8.non_ascii = 0
        if active.validate(&utf8, src, size) != size or utf8.dfa != 0:
            valid[0] = False
            return None
        if not as_bytes:
            data = text_of(src, size, utf8.non_ascii)
            if utf8.non_ascii:
                known.text = <PyObject *>data
                known.data = src
                known.size = size
            return data
    data = PyBytes_FromStringAndSize(<const char *>src, <Py_ssize_t>size)
    if opcode == WS_TEXT:
        known.text = <PyObject *>data
    return data


cdef object parse_message(uint8_t opcode, uint8_t *src, size_t size, const uint8_t *key, bint as_bytes,
                          bint *valid):
    cdef ws_utf8 utf8
    cdef object data
    valid[0] = True
    if opcode == WS_BINARY:
        data = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>size)
        active.unmask(<uint8_t *>PyBytes_AS_STRING(data), src, size, key, 0)
        return data
    utf8.dfa = utf8.non_ascii = 0
    if as_bytes:
        data = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>size)
        if (active.unmask_validate(&utf8, <uint8_t *>PyBytes_AS_STRING(data), src, size, key, 0) == size
                and utf8.dfa == 0):
            known.text = <PyObject *>data
            return data
    elif active.unmask_validate(&utf8, src, src, size, key, 0) == size and utf8.dfa == 0:
        data = text_of(src, size, utf8.non_ascii)
        if utf8.non_ascii:
            known.text = <PyObject *>data
            known.data = src
            known.size = size
        return data
    valid[0] = False
    return None


cdef int reserve(Message *message, size_t wanted, uint64_t frame_end, bint last) except -1:
    """
    Make room for `wanted` more bytes.

    The buffer at least doubles, so that appending is linear however small the pieces, and a peer
    that announces much and sends little holds at most twice what it sent, in memory that is
    written to. The last frame's end is the message's, so there it becomes no larger than that.
    """
    cdef uint64_t need = message.size + wanted
    cdef uint64_t room
    if message.buffer != NULL and <uint64_t>_PyBytes_GET_SIZE(message.buffer) >= need:
        return 0
    if last and need >= LARGE:
        room = LARGE_GROWTH * need
    elif message.buffer == NULL:
        room = need if need > MIN_BUFFER else MIN_BUFFER
    else:
        room = 2 * need
    if last and room > frame_end:
        room = frame_end
    if message.buffer == NULL:
        message.buffer = _PyBytes_FromStringAndSize(NULL, <Py_ssize_t>room)
    else:
        try:
            _PyBytes_Resize(&message.buffer, <Py_ssize_t>room)
        except MemoryError:
            # _PyBytes_Resize has freed the buffer.
            message.buffer = NULL
            message.size = 0
            raise
    return 0


cdef int message_append(Message *message, const uint8_t *src, size_t size, const uint8_t *key, unsigned phase,
                        uint64_t frame_end, bint last) except -1:
    cdef uint8_t *tail
    if size == 0:
        return 0
    reserve(message, size, frame_end, last)
    tail = <uint8_t *>_PyBytes_AS_STRING(message.buffer) + message.size
    message.size += size
    if message.opcode == WS_BINARY:
        active.unmask(tail, src, size, key, phase)
    elif active.unmask_validate(&message.utf8, tail, src, size, key, phase) != size:
        return INVALID_TEXT
    return 0


cdef uint8_t *message_tail(Message *message, size_t wanted, uint64_t frame_end, bint last,
                           size_t *room) except NULL:
    cdef size_t free
    reserve(message, 1, frame_end, last)
    free = <size_t>_PyBytes_GET_SIZE(message.buffer) - message.size
    room[0] = wanted if wanted < free else free
    return <uint8_t *>_PyBytes_AS_STRING(message.buffer) + message.size


cdef uint8_t *message_room(Message *message, size_t wanted, uint64_t max_size, size_t *room) except NULL:
    cdef size_t free = 0
    cdef uint64_t left = max_size - message.handed - message.size
    if message.buffer != NULL:
        free = <size_t>_PyBytes_GET_SIZE(message.buffer) - message.size
    if free < MIN_BUFFER and free <= left:
        wanted = max(wanted, <size_t>MIN_BUFFER)
        if left < wanted:
            wanted = <size_t>left + 1
        reserve(message, wanted, message.size + min(left, <uint64_t>1 << 62) + 1, True)
        free = <size_t>_PyBytes_GET_SIZE(message.buffer) - message.size
    room[0] = free
    return <uint8_t *>_PyBytes_AS_STRING(message.buffer) + message.size


cdef int message_received(Message *message, size_t size, const uint8_t *key, unsigned phase) noexcept:
    cdef uint8_t *tail = <uint8_t *>_PyBytes_AS_STRING(message.buffer) + message.size
    message.size += size
    if message.opcode == WS_BINARY:
        active.unmask(tail, tail, size, key, phase)
    elif active.unmask_validate(&message.utf8, tail, tail, size, key, phase) != size:
        return INVALID_TEXT
    return 0


cdef object message_finish(Message *message, bint as_bytes, bint *valid):
    cdef object data
    cdef bint text = message.opcode == WS_TEXT
    valid[0] = not text or message.utf8.dfa == 0
    if not valid[0]:
        message_drop(message)
        return None
    if message.buffer == NULL:
        message_drop(message)
        return "" if text and not as_bytes else b""
    if text and not as_bytes:
        try:
            return text_of(<const uint8_t *>_PyBytes_AS_STRING(message.buffer), message.size,
                           message.utf8.non_ascii)
        finally:
            message_drop(message)
    if <size_t>_PyBytes_GET_SIZE(message.buffer) != message.size:
        try:
            _PyBytes_Resize(&message.buffer, <Py_ssize_t>message.size)
        except MemoryError:
            message.buffer = NULL
            message_drop(message)
            raise
    data = <object>message.buffer  # a second reference; message_drop gives up the first
    message_drop(message)
    return data


cdef object message_take(Message *message, bint as_bytes):
    cdef bint as_str = message.opcode == WS_TEXT and not as_bytes
    cdef const uint8_t *data
    cdef size_t size = message.size
    cdef size_t whole = size
    cdef object taken
    if message.buffer == NULL:
        return "" if as_str else b""
    data = <const uint8_t *>_PyBytes_AS_STRING(message.buffer)
    if as_str:
        if message.utf8.dfa != 0:
            # At most three bytes of a character have come: back to its first.
            whole -= 1
            while whole and data[whole] & 0xC0 == 0x80:
                whole -= 1
        taken = text_of(data, whole, message.utf8.non_ascii)
    else:
        taken = PyBytes_FromStringAndSize(<const char *>data, <Py_ssize_t>size)
    message.handed += whole
    message.size = size - whole
    if message.size:
        memmove(_PyBytes_AS_STRING(message.buffer), data + whole, message.size)
    else:
        Py_XDECREF(message.buffer)
        message.buffer = NULL
    return taken


cdef void message_drop(Message *message) noexcept:
    Py_XDECREF(message.buffer)
    memset(message, 0, sizeof(Message))


cdef object encode_message(object message, object text, Payload *payload):
    cdef Py_ssize_t size
    cdef ws_utf8 utf8
    cdef object data
    if isinstance(message, str):
        payload.opcode = WS_TEXT if text is None or text else WS_BINARY
        if not PyUnicode_IS_ASCII(message):
            if <PyObject *>message == known.text:
                data = PyBytes_FromStringAndSize(<const char *>known.data, <Py_ssize_t>known.size)
            else:
                data = utf8_of(message)
            payload.data = <const uint8_t *>PyBytes_AS_STRING(data)
            payload.size = <size_t>PyBytes_GET_SIZE(data)
            return data
        payload.data = <const uint8_t *>PyUnicode_AsUTF8AndSize(message, &size)
        payload.size = <size_t>size
        return message
    data = message if isinstance(message, bytes) else snapshot(message)
    payload.data = <const uint8_t *>PyBytes_AS_STRING(data)
    payload.size = <size_t>PyBytes_GET_SIZE(data)
    payload.opcode = WS_BINARY
    if text:
        payload.opcode = WS_TEXT
        if <PyObject *>data == known.text:
            return data
        utf8.dfa = utf8.non_ascii = 0
        if active.validate(&utf8, payload.data, payload.size) != payload.size or utf8.dfa != 0:
            data.decode()  # raises, and says where
    return data


cdef bytes utf8_of(object text):
    cdef void *points = PyUnicode_DATA(text)
    cdef size_t count = <size_t>PyUnicode_GET_LENGTH(text)
    cdef size_t size
    cdef bytes data
    cdef uint8_t *target
    cdef int wrong
    cdef int kind = PyUnicode_KIND(text)
    if kind == PyUnicode_1BYTE_KIND:
        size = ws_ucs1_utf8_size(<const uint8_t *>points, count)
    elif kind == PyUnicode_2BYTE_KIND:
        size = ws_ucs2_utf8_size(<const uint16_t *>points, count)
    else:
        size = ws_ucs4_utf8_size(<const uint32_t *>points, count)
    data = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>size)
    target = <uint8_t *>PyBytes_AS_STRING(data)
    if kind == PyUnicode_1BYTE_KIND:
        wrong = ws_ucs1_to_utf8(<const uint8_t *>points, count, target, size)
    elif kind == PyUnicode_2BYTE_KIND:
        wrong = ws_ucs2_to_utf8(<const uint16_t *>points, count, target, size)
    else:
        wrong = ws_ucs4_to_utf8(<const uint32_t *>points, count, target, size)
    # A lone surrogate has no UTF-8 form; the codec says where it is.
    return text.encode() if wrong else data


cdef bytes snapshot(object message):
    # The caller may change its buffer once send() has returned, so the bytes are copied.
    cdef Py_buffer view
    if not PyObject_CheckBuffer(message):
        raise TypeError(f"message is {type(message).__name__}, expected str, bytes or another buffer")
    try:
        PyObject_GetBuffer(message, &view, PyBUF_SIMPLE)
    except BufferError as error:
        raise TypeError(f"message is a {type(message).__name__} whose bytes are not contiguous") from error
    try:
        return PyBytes_FromStringAndSize(<char *>view.buf, view.len)
    finally:
        PyBuffer_Release(&view)
