"""Outboxes: frames on their way to one peer, in order, and what is left of a partial write.

In: encoded frames. Out: `iovec`s for one sendmsg, and the count of what it took. A large
payload, or a frame that many peers get, is referenced and never copied; small ones are
copied side by side, so that a batch of answers leaves as one piece.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.object cimport PyObject
from cpython.ref cimport Py_XDECREF, Py_XINCREF
from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcpy, memmove


cdef extern from "Python.h":
    int PyUnicode_Compare(object, object) noexcept  # with two str it cannot fail

cdef enum:
    # A payload up to this size is copied: that costs less than an entry and an iovec.
    COPY_LIMIT = 2048
    SMALL_CHUNK = 480          # with its head one block of pymalloc's largest class
    MEDIUM_CHUNK = 2048
    LARGE_CHUNK = 16 * 1024
    FIRST_ENTRIES = 4
    SPARE_OUTBOXES = 256
    SPARE_CHUNKS = 16


# Kept for the next connection that sends: in the ordinary case each is used for a few
# microseconds. Guarded by the GIL, like everything here.
cdef Outbox *spare_outboxes[SPARE_OUTBOXES]
cdef int spare_outbox_count = 0
cdef Chunk *spare_chunks[SPARE_CHUNKS]
cdef int spare_chunk_count = 0


cdef Outbox *outbox_new() except NULL:
    global spare_outbox_count
    cdef Outbox *box
    if spare_outbox_count:
        spare_outbox_count -= 1
        return spare_outboxes[spare_outbox_count]
    box = <Outbox *>PyMem_Malloc(sizeof(Outbox))
    if box == NULL:
        raise MemoryError
    box.entries = <Entry *>PyMem_Malloc(FIRST_ENTRIES * sizeof(Entry))
    if box.entries == NULL:
        PyMem_Free(box)
        raise MemoryError
    box.size = box.sent = 0
    box.first = box.end = 0
    box.room = FIRST_ENTRIES
    box.pong_size = 0
    return box


cdef void outbox_free(Outbox *box) noexcept:
    global spare_outbox_count
    cdef uint32_t i
    for i in range(box.first, box.end):
        entry_free(&box.entries[i])
    if box.room == FIRST_ENTRIES and spare_outbox_count < SPARE_OUTBOXES:
        box.size = box.sent = 0
        box.first = box.end = 0
        box.pong_size = 0
        spare_outboxes[spare_outbox_count] = box
        spare_outbox_count += 1
        return
    PyMem_Free(box.entries)
    PyMem_Free(box)


cdef inline void entry_free(Entry *entry) noexcept:
    if entry.chunk != NULL:
        chunk_free(entry.chunk)
    else:
        Py_XDECREF(entry.owner)
        Py_XDECREF(entry.key)


cdef inline uint8_t *chunk_data(Chunk *chunk) noexcept:
    return <uint8_t *>(chunk + 1)


cdef Chunk *chunk_new(size_t size) except NULL:
    global spare_chunk_count
    cdef Chunk *chunk
    if size == LARGE_CHUNK and spare_chunk_count:
        spare_chunk_count -= 1
        chunk = spare_chunks[spare_chunk_count]
    else:
        chunk = <Chunk *>PyMem_Malloc(sizeof(Chunk) + size)
        if chunk == NULL:
            raise MemoryError
        chunk.room = <uint32_t>size
    chunk.used = 0
    return chunk


cdef void chunk_free(Chunk *chunk) noexcept:
    global spare_chunk_count
    if chunk.room == LARGE_CHUNK and spare_chunk_count < SPARE_CHUNKS:
        spare_chunks[spare_chunk_count] = chunk
        spare_chunk_count += 1
    else:
        PyMem_Free(chunk)


cdef Entry *entry_new(Outbox *box) except NULL:
    cdef Entry *entries
    cdef Entry *entry
    if box.end == box.room:
        if box.first > box.room // 2:
            memmove(box.entries, box.entries + box.first, (box.end - box.first) * sizeof(Entry))
            box.end -= box.first
            box.first = 0
        else:
            entries = <Entry *>PyMem_Realloc(box.entries, 2 * <size_t>box.room * sizeof(Entry))
            if entries == NULL:
                raise MemoryError
            box.entries = entries
            box.room *= 2
    entry = &box.entries[box.end]
    entry.owner = NULL
    entry.chunk = NULL
    entry.header_size = 0
    entry.shared = 0
    entry.topic = NULL
    entry.key = NULL
    return entry


cdef inline size_t next_chunk(Entry *last, size_t total, bint roomy) noexcept:
    if roomy or total > MEDIUM_CHUNK:
        return LARGE_CHUNK
    if last == NULL or last.chunk == NULL:
        return SMALL_CHUNK if total <= SMALL_CHUNK else MEDIUM_CHUNK
    return MEDIUM_CHUNK if last.chunk.room == SMALL_CHUNK else LARGE_CHUNK


cdef int outbox_append(Outbox *box, const uint8_t *header, unsigned header_size, const uint8_t *data,
                       size_t size, PyObject *owner, bint copy, bint roomy) except -1:
    cdef Entry *entry
    cdef Chunk *chunk
    cdef uint8_t *end
    cdef size_t total = header_size + size
    if copy and size <= COPY_LIMIT:
        # box.end > box.first: the last entry is ours to extend while it waits.
        entry = &box.entries[box.end - 1] if box.end > box.first else NULL
        if entry == NULL or entry.chunk == NULL or entry.chunk.room - entry.chunk.used < total:
            # Each chunk is larger than the one before: a peer that gets many frames gets few
            # chunks, and a thousand that get ten each do not get a thousand large ones.
            chunk = chunk_new(next_chunk(entry, total, roomy))
            try:
                entry = entry_new(box)
            except MemoryError:
                chunk_free(chunk)
                raise
            entry.chunk = chunk
            entry.data = chunk_data(chunk)
            entry.size = 0
            box.end += 1
        end = chunk_data(entry.chunk) + entry.chunk.used
        if header_size:
            memcpy(end, header, header_size)
        if size:
            memcpy(end + header_size, data, size)
        entry.chunk.used += <uint32_t>total
        entry.size += total
    else:
        entry = entry_new(box)
        if header_size:
            memcpy(entry.header, header, header_size)
        entry.header_size = <uint8_t>header_size
        entry.data = data
        entry.size = size
        entry.owner = owner
        Py_XINCREF(owner)
        box.end += 1
    box.size += total
    return 0


cdef int outbox_overtake(Outbox *box, const uint8_t *frame, unsigned size) except -1:
    cdef Chunk *chunk = chunk_new(size)
    cdef uint32_t place
    cdef Entry *entry
    try:
        entry_new(box)
    except MemoryError:
        chunk_free(chunk)
        raise
    place = box.first + (1 if box.sent else 0)
    memmove(&box.entries[place + 1], &box.entries[place], (box.end - place) * sizeof(Entry))
    box.end += 1
    memcpy(chunk_data(chunk), frame, size)
    chunk.used = size
    entry = &box.entries[place]
    entry.owner = NULL
    entry.chunk = chunk
    entry.data = chunk_data(chunk)
    entry.size = size
    entry.header_size = 0
    entry.shared = 0
    entry.topic = NULL
    entry.key = NULL
    box.size += size
    return 0


cdef void outbox_pong(Outbox *box, const uint8_t *frame, unsigned size) noexcept:
    memcpy(box.pong, frame, size)
    box.pong_size = <uint8_t>size


cdef int outbox_place_pong(Outbox *box) except -1:
    if box.pong_size:
        outbox_overtake(box, box.pong, box.pong_size)
        box.pong_size = 0
    return 0


cdef int outbox_publish(Outbox *box, bytes frame, void *topic, str key) except -1:
    cdef Entry *entry
    outbox_append(box, NULL, 0, <const uint8_t *>PyBytes_AS_STRING(frame), <size_t>PyBytes_GET_SIZE(frame),
                  <PyObject *>frame, False, False)
    entry = &box.entries[box.end - 1]
    entry.topic = topic
    if key is not None:
        entry.key = <PyObject *>key
        Py_XINCREF(entry.key)
    return 0


cdef int outbox_share(Outbox *box, bytes run, const uint8_t *data, size_t size) except -1:
    cdef Entry *entry
    if box.end > box.first:
        entry = &box.entries[box.end - 1]
        if not entry.shared or entry.owner != <PyObject *>run or entry.data + entry.size != data:
            return outbox_append(box, NULL, 0, data, size, <PyObject *>run, True, False)
        entry.size += size
    else:
        entry = entry_new(box)
        entry.owner = <PyObject *>run
        Py_XINCREF(entry.owner)
        entry.data = data
        entry.size = size
        entry.shared = 1
        box.end += 1
    box.size += size
    return 0


cdef bint outbox_conflate(Outbox *box, bytes frame, void *topic, str key) noexcept:
    cdef uint32_t i
    cdef Entry *entry
    cdef PyObject *old
    # Of the first entry a part may have left.
    for i in range(box.first + (1 if box.sent else 0), box.end):
        entry = &box.entries[i]
        if entry.topic == topic and entry.key != NULL and PyUnicode_Compare(<object>entry.key, key) == 0:
            old = entry.owner
            box.size -= entry.size
            entry.owner = <PyObject *>frame
            Py_XINCREF(entry.owner)
            entry.data = <const uint8_t *>PyBytes_AS_STRING(frame)
            entry.size = <size_t>PyBytes_GET_SIZE(frame)
            box.size += entry.size
            Py_XDECREF(old)
            return True
    return False


cdef bint outbox_drop_oldest(Outbox *box, void *topic) noexcept:
    cdef uint32_t i
    cdef Entry *entry
    for i in range(box.first + (1 if box.sent else 0), box.end):
        entry = &box.entries[i]
        if entry.topic == topic:
            box.size -= entry.size
            entry_free(entry)
            box.end -= 1
            memmove(entry, entry + 1, (box.end - i) * sizeof(Entry))
            return True
    return False


cdef int outbox_vectors(Outbox *box, iovec *vectors, int limit) noexcept:
    cdef uint32_t i
    cdef int count = 0
    cdef size_t skip = box.sent
    cdef Entry *entry
    for i in range(box.first, box.end):
        if count + 2 > limit:
            break
        entry = &box.entries[i]
        if skip < entry.header_size:
            vectors[count].iov_base = entry.header + skip
            vectors[count].iov_len = entry.header_size - skip
            count += 1
            skip = 0
        else:
            skip -= entry.header_size
        if entry.size > skip:
            vectors[count].iov_base = <void *>(entry.data + skip)
            vectors[count].iov_len = entry.size - skip
            count += 1
        skip = 0
    return count


cdef void outbox_sent(Outbox *box, size_t size) noexcept:
    cdef Entry *entry
    cdef size_t total
    box.size -= size
    size += box.sent
    while box.first < box.end:
        entry = &box.entries[box.first]
        total = entry.header_size + entry.size
        if size < total:
            break
        size -= total
        entry_free(entry)
        box.first += 1
    box.sent = size
    if box.first == box.end:
        box.first = box.end = 0


cdef size_t outbox_take(Outbox *box, uint8_t *target, size_t room) noexcept:
    cdef iovec[2] vectors  # what one entry has
    cdef size_t taken = 0, part
    while taken < room and box.size:
        outbox_vectors(box, vectors, 2)
        part = min(vectors[0].iov_len, room - taken)
        memcpy(target + taken, vectors[0].iov_base, part)
        taken += part
        outbox_sent(box, part)
    return taken


cdef void outbox_settle(Outbox *box) noexcept:
    cdef uint32_t i
    cdef Entry *entry
    cdef Chunk *chunk
    for i in range(box.first, box.end):
        entry = &box.entries[i]
        if not entry.shared and (entry.chunk == NULL or entry.chunk.room != LARGE_CHUNK
                                 or entry.chunk.used > LARGE_CHUNK // 2):
            continue
        chunk = <Chunk *>PyMem_Malloc(sizeof(Chunk) + entry.size)
        if chunk == NULL:
            return
        chunk.room = chunk.used = <uint32_t>entry.size
        memcpy(chunk_data(chunk), entry.data, entry.size)
        entry_free(entry)
        entry.owner = NULL
        entry.shared = 0
        entry.chunk = chunk
        entry.data = chunk_data(chunk)
