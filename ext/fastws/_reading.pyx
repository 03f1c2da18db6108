"""Reading: what sockets have, to their connections; and what a connection could not take at first.

In: readiness, from turns. Out: bytes received, ends and losses, in batches: all that one `recv` gave
is parsed and answered before anything is sent.
"""

cimport cython
from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport uint8_t, uint32_t

from fastws._carrying cimport take_batch
from fastws._encrypting cimport HANDSHAKE_SIZE, HEADROOM, SCRATCH_SIZE, Encrypting
from fastws._endpoint cimport OPENING, RUNNING, Endpoint
from fastws._tls cimport Tls
from fastws._writing cimport Writing

cdef extern from *:
    """
    #include <sys/epoll.h>
    #include <sys/socket.h>
    """
    uint32_t EPOLLIN, EPOLLOUT, EPOLLERR, EPOLLHUP
    int MSG_PEEK
    ssize_t recv(int, void *, size_t, int) nogil

cdef class Reading(Writing):
    """See above."""

    @cython.nonecheck(False)
    cdef int ready(self, Endpoint connection, uint32_t events) except -1:
        """Do what a connection's descriptor is ready for."""
        if events & EPOLLIN:
            if connection.held:
                # Taken away only now: most handlers are done before more arrives.
                self.set_interest(connection, connection.interest & ~EPOLLIN)
                if events & (EPOLLERR | EPOLLHUP):
                    return self.drop(connection)
            elif connection.rest != NULL:
                # It comes before anything that is received now.
                self.resume_now(connection)
            elif connection.phase == OPENING and connection.tls is None and not self.has_time_to_shake():
                self.put_off(connection)
            else:
                self.read(connection)
        elif events & (EPOLLERR | EPOLLHUP):
            # These cannot be masked, and would spin.
            return self.drop(connection)
        if events & EPOLLOUT and connection.fd >= 0:
            self.send_some(connection)
        return 0

    @cython.nonecheck(False)
    cdef int read(self, Endpoint connection) except -1:
        cdef size_t room = 0
        cdef uint8_t *target = NULL
        cdef ssize_t size
        cdef bint direct = False
        if connection.tls is not None:
            return self.read_encrypted(connection, connection.tls)
        if connection.phase == RUNNING and connection.in_frame:
            try:
                target = connection.direct_buffer(&room)
            except MemoryError as error:
                connection.crashed(error, None)
                connection.after_input()
                return 0
        if target == NULL:
            target = self.scratch
            room = SCRATCH_SIZE
        else:
            direct = True
        size = recv(connection.fd, target, room, 0)
        if size > 0:
            connection.received_at = self.now
            take_batch(self, connection, target, size, direct)
            self.end_batch(connection)
        elif size == 0:
            connection.end_received()
        elif errno != EAGAIN and errno != EINTR:
            self.drop(connection)
        return 0

    cdef int put_off(self, Endpoint connection) except -1:
        """Let a handshake wait for its turn."""
        # With EPOLLIN its socket would be found again and again, before others.
        self.set_interest(connection, connection.interest & ~EPOLLIN)
        self.shaking.append(connection)
        return 0

    # ------------------------------------------------------------------ TLS

    @cython.nonecheck(False)
    cdef int read_encrypted(self, Endpoint connection, Tls tls) except -1:
        cdef uint8_t *source = self.scratch + HEADROOM
        cdef ssize_t size
        if not tls.ready and tls.failure is None:
            if tls.header_first is not None:
                return self.read_header(connection)
            return self.shake(connection) if self.has_time_to_shake() else self.put_off(connection)
        size = recv(connection.fd, source, SCRATCH_SIZE, 0)
        if size > 0:
            connection.received_at = self.now
            if tls.closed or tls.failure is not None:
                # Past our last word: it is counted, and thrown away.
                return connection.bytes_received(source, size)
            return self.take_encrypted(connection, tls, source, size)
        if size == 0:
            # Without a close_notify: nothing depends on that, frames say where a message ends.
            return connection.end_received()
        if errno != EAGAIN and errno != EINTR:
            self.drop(connection)
        return 0

    cdef int read_header(self, Endpoint connection) except -1:
        """Take what a proxy says first, and not a byte of what is behind it, which is read as ever."""
        cdef ssize_t size = recv(connection.fd, self.scratch, HANDSHAKE_SIZE, MSG_PEEK)
        cdef Py_ssize_t used
        if size == 0:
            return connection.end_received()
        if size < 0:
            return 0 if errno == EAGAIN or errno == EINTR else self.drop(connection)
        used = connection.header_received(self.scratch[:size])
        if connection.fd >= 0:
            recv(connection.fd, self.scratch, <size_t>used, 0)
        return 0

    cdef int shake_again(self, Endpoint connection) except -1:
        self.receive_again(connection)
        if connection.tls is not None:
            return self.shake(connection)
        # It may have opened while it waited, and then has a rest that comes before what is received now.
        return self.read(connection) if connection.phase == OPENING else 0

    cdef int shake(self, Endpoint connection) except -1:
        """Take a step of the handshake with what has come."""
        cdef ssize_t size = recv(connection.fd, self.scratch, HANDSHAKE_SIZE, 0)
        if size == 0:
            return connection.end_received()
        if size < 0:
            return 0 if errno == EAGAIN or errno == EINTR else self.drop(connection)
        return self.shake_with(connection, connection.tls, self.scratch, size)

    # ------------------------------------------------------------------ input again

    cdef int receive_again(self, Endpoint connection) except -1:
        return self.set_interest(connection, connection.interest | EPOLLIN)

    def resume_now(self, Endpoint connection):
        """Internal: see Encrypting; it runs outside of turns."""
        Encrypting.resume_now(self, connection)
        if self.lost:
            self.need_pass()
        self.raise_pending()
