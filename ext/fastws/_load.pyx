"""The load generator of `fastws bench`: WebSocket clients in C, on an epoll of their own.

In: a plan. Out: samples of what happened. What it does on the wire, and which sections of RFC 6455 and RFC 7692 that
obeys, is in ext/load/load.h. Nothing here is shared with the server.
"""

import importlib
from time import monotonic

from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport uint64_t
from libc.stdlib cimport free, malloc


cdef extern from "load.h" nogil:
    enum mode:
        ECHO, FANOUT, STORM, IDLE
    enum kind:
        BINARY, ASCII, UTF8, TICKER
    enum:
        MIN_TICKER
        MAX_PAYLOAD
        ERROR_TEXT
        DETAIL_TEXT
        BUCKETS

    struct plan:
        mode mode
        kind kind
        bint any, deflate, server_no_context, offers_deflate, tls, insecure, strict
        unsigned connections, stuck, in_flight, fragments, sources
        double rate, ramp, timeout
        uint64_t seed
        const char *address
        const char *unix_path
        unsigned port
        const char *request
        size_t request_length
        const char *subprotocols
        const char *server_name
        const char *cafile
        const size_t *sizes
        const double *weights
        size_t size_count

    struct error_count:
        char text[ERROR_TEXT]
        uint64_t count

    struct summary:
        uint64_t messages, handshakes, sent_bytes, received_bytes, uncompressed, cpu_ns, waited_ns
        uint64_t late_now, unanswered_now
        unsigned connections_now, stuck_closed_now, error_count
        error_count *errors
        uint64_t *latencies
        uint64_t *handshake_latencies

    struct load:
        pass

    load *load_new(const plan *plan, char *detail)
    void load_free(load *load)
    bint load_run(load *load, double seconds)
    bint load_start(load *load)
    void load_stop(load *load)
    void load_close(load *load, double seconds)
    unsigned load_opened(const load *load)
    const summary *load_summary(load *load)
    void load_forget(load *load)
    const char *load_detail(const load *load)
    uint64_t bucket_floor(size_t bucket)


cdef dict MODES = {"echo": ECHO, "fanout": FANOUT, "storm": STORM, "idle": IDLE}
cdef dict KINDS = {"binary": BINARY, "text": ASCII, "utf8": UTF8, "ticker": TICKER}
cdef double STEP = 0.1  # seconds until a signal is noticed
cdef double CLOSE_SECONDS = 2.0  # for the server's own Close frames
cdef int MAX_CONNECTIONS = 1_000_000
cdef int MAX_IN_FLIGHT = 1_000_000
cdef int MAX_SOURCES = 65_536  # 127.0.0.2 and on
cdef int MAX_FRAGMENTS = 65_536
cdef double MAX_RATE = 1e9
cdef double MAX_SECONDS = 1e6
cdef int MAX_SIZES = 1000
cdef tuple BROWSER = (
    ("Pragma", "no-cache"),
    ("Cache-Control", "no-cache"),
    (
        "User-Agent",
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36",
    ),
    ("Origin", None),  # of the authority
    ("Accept-Encoding", "gzip, deflate, br, zstd"),
    ("Accept-Language", "en-US,en;q=0.9"),
    ("Cookie", "session=0123456789abcdef0123456789abcdef"),
)
cdef set RESERVED = {
    "host", "connection", "upgrade", "sec-websocket-key", "sec-websocket-version", "sec-websocket-extensions",
    "sec-websocket-protocol",
}


class LoadError(Exception):
    """The plan cannot be carried out: what was seen, what is allowed."""


class Sample:
    """
    What has happened since the last `Load.take()`; counts and seconds are of that time alone.

    Attributes:
        seconds: How long that is.
        cpu_seconds: Processor time of `Load.step()` meanwhile.
        waited_seconds: How long `Load.step()` was ready to run and had to wait for a core. A load that waits much
            measures itself.
        messages: Answers, or in fanout deliveries, that came and were right.
        handshakes: Opening handshakes that succeeded.
        sent_bytes, received_bytes: Before TLS, and after it; with the opening handshakes.
        connections: Open now.
        late: Open loop: messages that are due now and not written.
        unanswered: Answers that are to come, or in fanout deliveries.
        uncompressed: Messages that came uncompressed on connections which had agreed on compression.
        stuck_closed: Stuck connections that the server has closed by now.
        latencies: (nanoseconds, count), ascending, to three digits: from the write to the answer or delivery, with a
            rate from when that write should have been; storm: as `handshake_latencies`.
        handshake_latencies: The same, from connect() to the whole response.
        errors: Lost connections, by reason.
    """

    def __init__(self):
        self.seconds = self.cpu_seconds = self.waited_seconds = 0.0
        self.messages = self.handshakes = self.sent_bytes = self.received_bytes = 0
        self.connections = self.late = self.unanswered = self.uncompressed = self.stuck_closed = 0
        self.latencies = []
        self.handshake_latencies = []
        self.errors = {}


cdef number(name, value, least, most):
    # NaN is not between anything.
    if not least <= value <= most:
        raise LoadError(f"{name} is {value}, allowed is {least} to {most}")
    return value


cdef choice(name, value, allowed):
    if value not in allowed:
        raise LoadError(f"{name} is {value!r}, allowed is {', '.join(allowed)}")
    return value


cdef bytes one_line(name, value, bint spaces=True):
    # A part of the request, which must not end the line that it is on.
    data = value.encode()
    if [byte for byte in data if byte < 0x20 or byte == 0x7F or (byte == 0x20 and not spaces)]:
        raise LoadError(f"{name} is {value!r}, allowed is one line{'' if spaces else ' without spaces'}")
    return data


cdef bytes request_of(authority, path, headers, subprotocols, extensions, plain, tls):
    # The opening request, RFC 6455 4.1, without its Sec-WebSocket-Key field and the empty line.
    if not path.startswith("/"):
        raise LoadError(f"path is {path!r}, allowed is what begins with /")
    named = {name.lower() for name, _ in headers}
    for name in sorted(named & RESERVED):
        raise LoadError(f"headers has {name}, which the opening handshake sets")
    fields = [("Host", authority), ("Connection", "Upgrade"), ("Upgrade", "websocket")]
    if not plain:
        origin = f"{'https' if tls else 'http'}://{authority}"
        fields += [(name, value or origin) for name, value in BROWSER if name.lower() not in named]
    fields += headers
    if subprotocols:
        fields.append(("Sec-WebSocket-Protocol", ", ".join(subprotocols)))
    if extensions:
        fields.append(("Sec-WebSocket-Extensions", extensions))
    fields.append(("Sec-WebSocket-Version", "13"))
    lines = [b"GET %b HTTP/1.1" % one_line("path", path, spaces=False)]
    for name, value in fields:
        if not name or ":" in name:
            raise LoadError(f"headers has the name {name!r}, allowed is an HTTP field name")
        lines.append(b"%b: %b" % (one_line("headers", name, spaces=False), one_line("headers", value)))
    return b"\r\n".join(lines) + b"\r\n"


cdef list counts_of(const uint64_t *buckets):
    cdef list found = []
    cdef int i
    for i in range(BUCKETS):
        if buckets[i]:
            found.append((bucket_floor(i), buckets[i]))
    return found


cdef class Load:
    """
    One load generator: WebSocket clients in one thread, on an epoll of their own, in C.

    Args:
        address: Numeric IPv4 or IPv6 address of the target, with `port`.
        unix: Path of a Unix socket; `address` and `port` are not used then.
        authority: What the Host field says.
        path: Of the request, with its query.
        headers: More fields of the request; they replace those of a browser that have their names.
        subprotocols: Offered, in this order; the server may choose one of them or none.
        mode: "echo", each connection has its messages answered; "fanout", the first one's messages come to all;
            "storm", connections are opened, upgraded and reset, and begin anew; "idle", they are held.
        connections: How many, of which a storm has as many under way at a time.
        in_flight: Messages written at once, before their answers are waited for. Not used with a rate.
        rate: Messages a second, written when their time has come whether the earlier ones are answered or not;
            those of lost connections fall to the others. None: the next when the last are answered.
        kind: "binary", "text" (ASCII), "utf8" (code points of 1 byte, half of them, and 2 to 4), "ticker" (JSON).
        sizes: Payload bytes, and how often each comes in proportion to the others.
        fragments: Frames for each message.
        deflate: permessage-deflate must be agreed on, and each message is compressed; the server may answer with its
            context taken over, or not: `server_no_context` insists that it does not. In fanout, where it does, one
            connection in 16 inflates what comes, and of the others frames are checked.
        tls: Speak TLS; `server_name` must be in the certificate, which the system's store or `cafile` must vouch for,
            unless `insecure`.
        sources: Addresses from 127.0.0.2 on to connect from, where the target is in 127.0.0.0/8. One has 28,000 ports.
        stuck: Fanout: this many of the connections read nothing after the opening handshake. The server is sent
            enough to fill them before they count as open.
        ramp: Seconds over which connections are opened. 0: as fast as they open, 128 at a time.
        plain_request: The fields that RFC 6455 requires, not those of a browser as well. A storm's browser offers
            permessage-deflate.
        expected: "echo", answers equal the messages, in any number of frames; "any", whatever comes is counted.
        seed: Of payloads, masking keys and Sec-WebSocket-Keys.
        strict: The first error is raised by `step`.
        timeout: Seconds in which a connection that waits for something must receive a byte.

    Raises:
        LoadError: The plan is not one that can be carried out, or the process may not open so many files.
    """
    cdef load *load
    cdef bint busy
    cdef double taken_at

    def __init__(
        self,
        *,
        str address,
        int port=0,
        str unix=None,
        str authority,
        str path="/",
        headers=(),
        subprotocols=(),
        str mode="echo",
        connections=1,
        in_flight=1,
        rate=None,
        str kind="binary",
        sizes=((64, 1.0),),
        fragments=1,
        bint deflate=False,
        bint server_no_context=False,
        bint tls=False,
        str server_name=None,
        str cafile=None,
        bint insecure=False,
        sources=1,
        stuck=0,
        ramp=0.0,
        bint plain_request=False,
        str expected="echo",
        uint64_t seed=0,
        bint strict=False,
        timeout=20.0,
    ):
        cdef plan given
        cdef char detail[DETAIL_TEXT]
        cdef size_t *size_of = NULL
        cdef double *weight_of = NULL
        cdef size_t i
        if self.load != NULL:
            raise LoadError("a Load is made once")
        given.mode = MODES[choice("mode", mode, MODES)]
        given.kind = KINDS[choice("kind", kind, KINDS)]
        given.any = choice("expected", expected, ("echo", "any")) == "any"
        given.deflate = deflate
        given.server_no_context = server_no_context
        given.offers_deflate = mode == "storm" and not plain_request
        given.tls = tls
        given.insecure = insecure
        given.strict = strict
        given.connections = number("connections", connections, 1, MAX_CONNECTIONS)
        given.in_flight = number("in_flight", in_flight, 1, MAX_IN_FLIGHT)
        given.fragments = number("fragments", fragments, 1, MAX_FRAGMENTS)
        given.sources = number("sources", sources, 1, MAX_SOURCES)
        given.stuck = number("stuck", stuck, 0, connections - 1 if mode == "fanout" else 0)
        given.rate = 0 if rate is None else number("rate", rate, 1e-3, MAX_RATE)
        given.ramp = number("ramp", ramp, 0, MAX_SECONDS)
        given.timeout = number("timeout", timeout, 0.001, MAX_SECONDS)
        given.seed = seed
        if rate is not None and mode not in ("echo", "fanout"):
            raise LoadError(f"rate is {rate}, allowed is None with mode {mode!r}")
        if server_no_context and not deflate:
            raise LoadError("server_no_context is True, allowed with deflate alone")
        sizes = [(number("sizes", size, 0, MAX_PAYLOAD), number("weight", weight, 1e-9, 1e9)) for size, weight in sizes]
        number("the count of sizes", len(sizes), 1, MAX_SIZES)
        if kind == "ticker":
            number("sizes with kind 'ticker'", min(sizes)[0], MIN_TICKER, MAX_PAYLOAD)
        extensions = None
        if deflate:
            extensions = "permessage-deflate; client_no_context_takeover"
            if server_no_context:
                extensions += "; server_no_context_takeover"
        elif given.offers_deflate:
            extensions = "permessage-deflate; client_max_window_bits"
        request = request_of(authority, path, list(headers), list(subprotocols), extensions, plain_request, tls)
        offered = b",%b," % b",".join([one_line("subprotocols", name, spaces=False) for name in subprotocols])
        if tls:
            # Its libssl is in the process then, wherever this Python has it from.
            importlib.import_module("ssl")
            if server_name is None:
                server_name = authority.rpartition(":")[0].strip("[]") if unix is None else authority
        address_bytes = one_line("address", address)
        unix_bytes = None if unix is None else unix.encode("utf-8", "surrogateescape")
        name_bytes = None if server_name is None else one_line("server_name", server_name, spaces=False)
        cafile_bytes = None if cafile is None else cafile.encode("utf-8", "surrogateescape")
        given.address = NULL
        given.unix_path = NULL
        if unix is None:
            given.address = address_bytes
        else:
            given.unix_path = unix_bytes
        given.port = number("port", port, 1 if unix is None else 0, 65535)
        given.request = request
        given.request_length = len(request)
        given.subprotocols = offered
        given.server_name = NULL
        if name_bytes is not None:
            given.server_name = name_bytes
        given.cafile = NULL
        if cafile_bytes is not None:
            given.cafile = cafile_bytes
        given.size_count = len(sizes)
        size_of = <size_t *>malloc(given.size_count * sizeof(size_t))
        weight_of = <double *>malloc(given.size_count * sizeof(double))
        try:
            if size_of == NULL or weight_of == NULL:
                raise MemoryError
            for i, (size, weight) in enumerate(sizes):
                size_of[i] = size
                weight_of[i] = weight
            given.sizes = size_of
            given.weights = weight_of
            detail[0] = 0
            with nogil:
                self.load = load_new(&given, detail)
        finally:
            free(size_of)
            free(weight_of)
        if self.load == NULL:
            raise LoadError((<bytes>detail).decode("utf-8", "replace"))
        self.taken_at = monotonic()

    def __dealloc__(self):
        load_free(self.load)

    cdef int check(self) except -1:
        if self.load == NULL:
            raise LoadError("this Load was not made")
        if self.busy:
            raise LoadError("another thread is in step() or close()")
        return 0

    cdef int fail(self) except -1:
        raise LoadError((<bytes>load_detail(self.load)).decode("utf-8", "replace"))

    def step(self, double seconds):
        """
        Run the loop for that long, without the GIL.

        Raises:
            LoadError: It cannot go on; or, strict, the first error.
            KeyboardInterrupt: And whatever else a signal's handler raises, within 0.1 seconds.
        """
        cdef double end, left
        cdef bint right
        self.check()
        number("seconds", seconds, 0, MAX_SECONDS)
        end = monotonic() + seconds
        while True:
            left = end - monotonic()
            left = 0 if left < 0 else STEP if left > STEP else left
            self.busy = True
            with nogil:
                right = load_run(self.load, left)
            self.busy = False
            if not right:
                self.fail()
            PyErr_CheckSignals()
            if monotonic() >= end:
                return

    def opened(self):
        """Return how many connections are open, the stuck ones when they are full."""
        self.check()
        return load_opened(self.load)

    def start(self):
        """
        Begin to send (echo, fanout); before it connections are only opened. A storm begins without it.

        Raises:
            LoadError: The second time; in fanout, while connections are being opened or filled.
        """
        self.check()
        if not load_start(self.load):
            self.fail()

    def stop(self):
        """Send nothing new and open nothing; what is under way may finish in further steps."""
        self.check()
        load_stop(self.load)

    def close(self):
        """Close all connections: Close frames with 1000, and 2 seconds for the server's; a storm's are reset."""
        self.check()
        self.busy = True
        with nogil:
            load_close(self.load, CLOSE_SECONDS)
        self.busy = False

    def take(self):
        """Return what has happened since the last call, or since this Load was made."""
        cdef const summary *now
        cdef unsigned i
        self.check()
        now = load_summary(self.load)
        sample = Sample()
        at = monotonic()
        sample.seconds, self.taken_at = at - self.taken_at, at
        sample.cpu_seconds = now.cpu_ns / 1e9
        sample.waited_seconds = now.waited_ns / 1e9
        sample.messages = now.messages
        sample.handshakes = now.handshakes
        sample.sent_bytes = now.sent_bytes
        sample.received_bytes = now.received_bytes
        sample.connections = now.connections_now
        sample.late = now.late_now
        sample.unanswered = now.unanswered_now
        sample.uncompressed = now.uncompressed
        sample.stuck_closed = now.stuck_closed_now
        sample.latencies = counts_of(now.latencies)
        sample.handshake_latencies = counts_of(now.handshake_latencies)
        for i in range(now.error_count):
            sample.errors[(<bytes>now.errors[i].text).decode("utf-8", "replace")] = now.errors[i].count
        load_forget(self.load)
        return sample
