"""What holds for every stream of bytes: the body that Hypothesis and the fuzz target share.

1. Any split of a stream, into the direct buffer or not, held after each message or not, gives the
   same events, output and end; and nothing but those: no exception, no memory beyond the limit.
2. wsproto, an independent implementation, judges the stream alike.
3. What goes out is what a client may receive.
"""

from feeding import cut, feed, outcome, slices
from wsproto.frame_protocol import FrameProtocol, Opcode, ParseFailed

from fastws._recorder import Recorder

BAD_GATEWAY = 1014
KINDS = {Opcode.PING: "ping", Opcode.PONG: "pong"}


class Oracle(FrameProtocol):
    """wsproto, but for close code 1014, which it does not know: IANA registered it after RFC 6455."""

    def _process_close(self, frame):
        if frame.payload[:2] != BAD_GATEWAY.to_bytes(2, "big"):
            return super()._process_close(frame)
        known = super()._process_close(frame._replace(payload=(1013).to_bytes(2, "big") + frame.payload[2:]))
        return known._replace(payload=(BAD_GATEWAY, known.payload[1]))

    def events(self, data):
        """Parse `data` to events as a Recorder has them, a failure without its reason."""
        events = []
        self.receive_bytes(data)
        pieces = self.__dict__.setdefault("pieces", [])
        try:
            for frame in self.received_frames():
                if frame.opcode is Opcode.CLOSE:
                    events.append(("close", int(frame.payload[0]), frame.payload[1]))
                elif frame.opcode in KINDS:
                    events.append((KINDS[frame.opcode], bytes(frame.payload)))
                else:
                    pieces.append(frame.payload)
                    if frame.frame_finished and frame.message_finished:
                        empty = "" if frame.opcode is Opcode.TEXT else b""
                        events.append(("message", empty.join(pieces)))
                        pieces.clear()
        except ParseFailed as failure:
            events.append(("fail", int(failure.code)))
        return events


def agrees_with_wsproto(stream, events):
    """Assert that wsproto sees in `stream` what we did, and fails it where we did."""
    ours = [event[:2] if event[0] == "fail" else event for event in events]
    oracle = Oracle(client=False, extensions=[])
    theirs = oracle.events(stream)
    if ours and ours[-1][0] == "fail" and len(theirs) == len(ours) - 1:
        # It looks at a header when all of it is there, and at a frame's place in its message when
        # the first byte of payload is.
        theirs += oracle.events(bytes(16))[:1]
    assert ours == theirs


def is_what_a_client_may_receive(result):
    """Assert that the output is whole frames, a Close the last of the closing handshake."""
    events = Oracle(client=True, extensions=[]).events(result.output)
    assert all(kind in ("ping", "pong", "close", "message") for kind, *_ in events), events
    closes = [event for event in events if event[0] == "close"]
    assert closes == ([] if result.close_sent is None else [("close", *result.close_sent)])


def check(stream, at, *, max_size=None, text_as="str", close_at=None):
    """
    Assert all that this module says of `stream`.

    Args:
        at: offsets to cut it at.
        max_size, text_as: as Recorder has them.
        close_at: the event whose callback closes the connection; None is none.

    Returns: the Outcome.
    """

    def make(hold=False):
        seen = 0

        def react(_):
            nonlocal seen
            seen += 1
            if close_at is not None and seen == close_at + 1:
                recorder.close(4000, "enough")

        recorder = Recorder(max_size=max_size, text_as=text_as, hold_after_message=hold, on_event=react)
        return recorder

    whole = outcome(feed(make(), [stream]))
    pieces = cut(stream, at)
    assert outcome(feed(make(), pieces)) == whole, "cut"
    assert outcome(feed(make(), pieces, direct=True)) == whole, "cut, direct"
    assert outcome(feed(make(hold=True), [stream])) == whole, "held"
    assert outcome(feed(make(hold=True), pieces, direct=True)) == whole, "held, cut, direct"
    if len(stream) <= 1000:
        assert outcome(feed(make(), slices(stream, 1))) == whole, "byte by byte"
    assert whole.retained <= (len(stream) if max_size is None else min(max_size, len(stream)))
    assert not (whole.failed or whole.close_received) or whole.retained == 0
    ends = [i for i, event in enumerate(whole.events) if event[0] in ("close", "fail")]
    assert ends in ([], [len(whole.events) - 1])
    assert whole.failed == (whole.events[-1:] != [] and whole.events[-1][0] == "fail")
    if close_at is None:
        is_what_a_client_may_receive(whole)
        if max_size is None and text_as == "str":
            agrees_with_wsproto(stream, whole.events)
    return whole
