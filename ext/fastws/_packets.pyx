"""Packets: a message as it travels between servers, its ready frame behind a header.

    offset  bytes
    0       1       version, 1
    1       1       flags: 1 it has a key; 2 compress was given, 4 it was True; 8 no message
    2       2       length of the topic
    4       2       length of the key
    6       8       epoch of the publishing server
    14      8       its number for this topic
    22      8       when, in milliseconds since 1970
    30      4       length of the frame
    34              topic and key in UTF-8, frame

Integers are big-endian. In: bytes of another server. Out: a `Packet`, or ValueError.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy

cdef enum:
    SUPPORTED = 1
    SIZE = 34
    HAS_KEY = 1
    HAS_COMPRESS = 2
    COMPRESS = 4
    CONTROL = 8

VERSION = SUPPORTED
HEADER_SIZE = SIZE
# Bytes of a topic or a key, in UTF-8; bytes of a frame.
MAX_NAME = 0xFFFF
MAX_FRAME = 64 * 1024 * 1024
# What servers tell each other goes out under this name, with a dot and its epoch behind it for one of them alone.
CONTROL_TOPIC = "$fastws"


cdef class Packet:
    """
    What a packet says.

    Attributes:
        topic, key: names; key is None where there is none.
        epoch, sequence: the publishing server, and its number.
        wall: when, in seconds since 1970.
        frame: not judged yet.
        compress: as for `Server.publish`.
        control: whether it is no message, but what servers tell each other.
    """
    cdef readonly str topic, epoch, key
    cdef readonly uint64_t sequence
    cdef readonly double wall
    cdef readonly bytes frame
    cdef readonly object compress
    cdef readonly bint control


cdef void put(uint8_t *place, uint64_t value, int size) noexcept:
    # The caller has checked that `size` bytes are there.
    cdef int i
    for i in range(size):
        place[i] = <uint8_t>(value >> (8 * (size - 1 - i)) & 0xFF)


cdef uint64_t get(const uint8_t *place, int size) noexcept:
    # The same.
    cdef uint64_t value = 0
    cdef int i
    for i in range(size):
        value = value << 8 | place[i]
    return value


def pack(str topic not None, str epoch not None, uint64_t sequence, double wall, str key, bytes frame not None,
         compress=None, bint control=False):
    """
    Return a packet.

    Args:
        epoch: 16 hexadecimal digits.
        wall: when it was published, in seconds since 1970.
        control: the frame is none, but what servers tell each other.

    Raises: ValueError for what is too long.
    """
    cdef bytes name = topic.encode()
    cdef bytes label = b"" if key is None else key.encode()
    cdef bytes publisher = bytes.fromhex(epoch)
    cdef Py_ssize_t name_size = PyBytes_GET_SIZE(name), key_size = PyBytes_GET_SIZE(label)
    cdef Py_ssize_t frame_size = PyBytes_GET_SIZE(frame)
    cdef bytes packet
    cdef uint8_t *place
    if name_size > MAX_NAME or key_size > MAX_NAME:
        raise ValueError(f"topic and key have {name_size} and {key_size} bytes, limit is {MAX_NAME} with a backplane")
    if frame_size > MAX_FRAME:
        raise ValueError(f"frame has {frame_size} bytes, limit is {MAX_FRAME} with a backplane")
    if len(publisher) != 8:
        raise ValueError(f"epoch is {epoch!r}, expected 16 hexadecimal digits")
    packet = PyBytes_FromStringAndSize(NULL, SIZE + name_size + key_size + frame_size)
    place = <uint8_t *>PyBytes_AS_STRING(packet)  # of that size, and nobody else's yet
    place[0] = SUPPORTED
    place[1] = ((0 if key is None else HAS_KEY) | (CONTROL if control else 0)
                | (0 if compress is None else HAS_COMPRESS | COMPRESS if compress else HAS_COMPRESS))
    put(place + 2, <uint64_t>name_size, 2)
    put(place + 4, <uint64_t>key_size, 2)
    memcpy(place + 6, PyBytes_AS_STRING(publisher), 8)
    put(place + 14, sequence, 8)
    put(place + 22, <uint64_t>(wall * 1000 + 0.5) if 0 < wall < 1e15 else 0, 8)
    put(place + 30, <uint64_t>frame_size, 4)
    memcpy(place + SIZE, PyBytes_AS_STRING(name), <size_t>name_size)
    memcpy(place + SIZE + name_size, PyBytes_AS_STRING(label), <size_t>key_size)
    memcpy(place + SIZE + name_size + key_size, PyBytes_AS_STRING(frame), <size_t>frame_size)
    return packet


def is_message(bytes packet not None):
    """Return whether a packet is a message, and not what servers tell each other, which is not counted."""
    return PyBytes_GET_SIZE(packet) >= SIZE and not packet[1] & CONTROL


def unpack(bytes data not None):
    """
    Return what a packet says. The frame is judged by who delivers it.

    Raises: ValueError for another version, and for lengths that are not those of `data`.
    """
    cdef Packet packet
    cdef const uint8_t *place = <const uint8_t *>PyBytes_AS_STRING(data)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
    cdef Py_ssize_t start, end
    cdef uint8_t flags
    if size < SIZE:
        raise ValueError(f"packet has {size} bytes, a header has {SIZE}")
    if place[0] != SUPPORTED:
        raise ValueError(f"packet is of version {place[0]}, expected {VERSION}")
    start = SIZE + <Py_ssize_t>get(place + 2, 2)
    end = start + <Py_ssize_t>get(place + 4, 2)
    if end + <Py_ssize_t>get(place + 30, 4) != size:
        raise ValueError(f"packet has {size} bytes, its lengths say {end + <Py_ssize_t>get(place + 30, 4)}")
    # From here on `start` and `end` are within it.
    flags = place[1]
    packet = Packet.__new__(Packet)
    packet.topic = data[SIZE:start].decode()
    packet.epoch = data[6:14].hex()
    packet.sequence = get(place + 14, 8)
    packet.wall = <double>get(place + 22, 8) / 1000.0
    packet.key = data[start:end].decode() if flags & HAS_KEY else None
    packet.frame = data[end:]
    packet.compress = bool(flags & COMPRESS) if flags & HAS_COMPRESS else None
    packet.control = flags & CONTROL != 0
    return packet
