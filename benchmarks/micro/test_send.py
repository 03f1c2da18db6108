"""The way out without a socket: a message in, its frame out, unmasked by a server and masked by a client.

fastws copies the frame twice on its way through the Recorder; a connection at most once. A client needs
4 unpredictable bytes for each frame, RFC 6455 5.3: taking them from the system is in its figures.
"""

import frames
import pytest
from websockets.frames import Frame, Opcode
from wsproto.frame_protocol import FrameProtocol

from fastws._recorder import Recorder

from .payloads import MESSAGES, random_bytes, server_frame


def by_fastws(client):
    recorder = Recorder(client=client)

    def send(message):
        recorder.send(message)
        return recorder.data_to_send()

    return send


def by_websockets(client):
    def send(message):
        if isinstance(message, str):
            return Frame(Opcode.TEXT, message.encode()).serialize(mask=client)
        return Frame(Opcode.BINARY, message).serialize(mask=client)

    return send


def by_wsproto(client):
    protocol = FrameProtocol(client=client, extensions=[])

    def send(message):
        return protocol.send_data(message, fin=True)

    return send


SENDERS = {"fastws": by_fastws, "websockets": by_websockets, "wsproto": by_wsproto}

each_library = pytest.mark.parametrize("library", SENDERS)
each_message = pytest.mark.parametrize("kind", [*MESSAGES, "binary-1m"])


def message_of(kind):
    return MESSAGES[kind] if kind in MESSAGES else random_bytes(1024 * 1024)


@each_library
@each_message
def test_send(benchmark, kind, library):
    benchmark.group = f"send {kind}"
    message = message_of(kind)
    assert benchmark(SENDERS[library](client=False), message) == server_frame(message)


@each_library
@each_message
def test_send_as_client(benchmark, kind, library):
    benchmark.group = f"send as client {kind}"
    message = message_of(kind)
    frame = benchmark(SENDERS[library](client=True), message)
    plain = message.encode() if isinstance(message, str) else message
    # The key is of the sender's choice; with it the frame can be nothing else.
    key = frame[-len(plain) - 4 : -len(plain)]
    opcode = frames.TEXT if isinstance(message, str) else frames.BINARY
    assert frame == frames.frame(opcode, plain, mask=key)
