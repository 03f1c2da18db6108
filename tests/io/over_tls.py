"""
The same tests over TLS: servers of ours get a certificate, and whoever connects to one speaks TLS.

In: servers and clients as tests make them. Out: an event loop whose clients, on transports and on bare
sockets, speak TLS with the ports of such servers. What a test writes and reads stays plaintext, but nothing
can be half closed, and a bare socket that is closed ends without close_notify.
"""

import asyncio
import functools
import socket

import uvloop
from certificates import ByHand, client_context, server_context

import fastws.client
import fastws.server
from fastws.transports import StreamProtocol

server_context, client_context = functools.cache(server_context), functools.cache(client_context)


class Loop(uvloop.Loop):
    """
    An event loop.

    Attributes:
        ports: of the servers that speak TLS.
    """

    def __init__(self):
        super().__init__()
        self.ports = set()
        self.peers = {}

    def is_for_tls(self, sock):
        return sock.family == socket.AF_INET and sock.getpeername()[1] in self.ports

    async def create_connection(self, factory, host=None, port=None, **options):
        sock = options.get("sock")
        ours = getattr(factory, "func", None) is StreamProtocol  # which does TLS above its transport
        is_for_tls = port in self.ports if sock is None else self.is_for_tls(sock)
        if is_for_tls and not ours and options.get("ssl") is None:
            options |= {"ssl": client_context(), "server_hostname": "localhost"}
        return await super().create_connection(factory, host, port, **options)

    async def hand_of(self, sock):
        """Return what speaks TLS on a bare socket, after the handshake; None where the server has none."""
        if sock not in self.peers:
            if not self.is_for_tls(sock):
                return None
            hand = ByHand(sock, client_context())
            hand.loop = super()  # its own bytes are those on the wire
            await hand.shake()
            self.peers[sock] = hand
        return self.peers[sock]

    async def sock_sendall(self, sock, data):
        hand = await self.hand_of(sock)
        await (super().sock_sendall(sock, data) if hand is None else hand.send(data))

    async def sock_recv(self, sock, size):
        hand = await self.hand_of(sock)
        return await (super().sock_recv(sock, size) if hand is None else hand.receive(size))

    async def sock_recv_into(self, sock, buffer):
        data = await self.sock_recv(sock, len(buffer))
        buffer[: len(data)] = data
        return len(data)


def install(monkeypatch):
    """Give TLS to the servers that have none, and to the clients of ours that connect to one."""
    listen, open_client = fastws.server.listen_on, fastws.client.open_client

    async def listen_over_tls(carrier, sock, settings, backlog):
        if sock.family == socket.AF_INET:
            settings.ssl = settings.ssl or server_context()
            asyncio.get_running_loop().ports.add(sock.getsockname()[1])
        return await listen(carrier, sock, settings, backlog)

    def open_over_tls(carrier, sock, settings, handshake, server_hostname=None):
        if settings.ssl is None and asyncio.get_running_loop().is_for_tls(sock):
            settings.ssl, server_hostname = client_context(), "localhost"
        return open_client(carrier, sock, settings, handshake, server_hostname)

    monkeypatch.setattr(fastws.server, "listen_on", listen_over_tls)
    monkeypatch.setattr(fastws.client, "open_client", open_over_tls)
