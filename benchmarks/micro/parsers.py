"""
fastws and others, each as one function: the pieces of a stream in, its messages out.

Each has the side that it is on: a server is sent masked frames, a client unmasked ones.
"""

import asyncio
import types

from aiohttp._websocket.reader import WebSocketDataQueue, WebSocketReader
from websockets.frames import Opcode
from websockets.protocol import Protocol, Side
from wsproto.frame_protocol import FrameProtocol

from fastws._recorder import Recorder

NO_LIMIT = 2**30


def fastws(client=False, *, text_as="str", direct=False):
    recorder = Recorder(text_as=text_as, client=client)
    events = recorder.events

    def receive(pieces):
        for piece in pieces:
            # What a connection does: into the message, when a large one is under way.
            taken = recorder.receive_direct(piece) if direct else 0
            while taken and taken < len(piece):
                piece = piece[taken:]
                taken = recorder.receive_direct(piece)
            if not taken:
                recorder.receive_data(piece)
        messages = [event[1] for event in events]
        events.clear()
        return messages

    return receive


def wsproto(client=False):
    protocol = FrameProtocol(client=client, extensions=[])

    def receive(pieces):
        messages, parts = [], []
        for piece in pieces:
            protocol.receive_bytes(piece)
            for frame in protocol.received_frames():
                parts.append(frame.payload)
                if frame.message_finished:
                    messages.append(parts[0] if len(parts) == 1 else parts[0][:0].join(parts))
                    parts = []
        return messages

    return receive


def websockets(client=False):
    protocol = Protocol(Side.CLIENT if client else Side.SERVER, max_size=None)

    def receive(pieces):
        for piece in pieces:
            protocol.receive_data(piece)
        return [
            frame.data.decode() if frame.opcode is Opcode.TEXT else bytes(frame.data)
            for frame in protocol.events_received()
        ]

    return receive


def aiohttp(client=False):
    # One reader for both sides: it takes masked frames and others.
    loop = asyncio.new_event_loop()
    loop.close()  # nothing waits on it: what is read is there
    queue = WebSocketDataQueue(types.SimpleNamespace(_reading_paused=False), NO_LIMIT // 4, loop=loop)
    reader = WebSocketReader(queue, NO_LIMIT, compress=False, decode_text=True)

    def receive(pieces):
        messages = []
        for piece in pieces:
            reader.feed_data(piece)
            while queue._buffer:
                try:
                    queue.read().send(None)
                except StopIteration as done:
                    messages.append(done.value.data)
        return messages

    return receive


PARSERS = {make.__name__: make for make in (fastws, wsproto, websockets, aiohttp)}
