"""TLS for tests: an authority of their own, contexts, and clients that say just what a test wants."""

import asyncio
import contextlib
import functools
import socket
import ssl

import trustme
from peers import HANDSHAKE, LIMIT, port_of


@functools.cache
def authority():
    return trustme.CA()


@functools.cache
def certificate(*names):
    return authority().issue_cert(*names)


def server_context(*names, clients=False):
    """Return a context for "localhost" and 127.0.0.1, or for `names`; `clients` need a certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate(*(names or ("localhost", "127.0.0.1"))).configure_cert(context)
    if clients:
        context.verify_mode = ssl.CERT_REQUIRED
        authority().configure_trust(context)
    return context


def client_context(version=None):
    """Return a context that trusts our authority only."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority().configure_trust(context)
    if version is not None:
        context.minimum_version = context.maximum_version = version
    return context


def write_certificate(folder, name="localhost"):
    """Write a certificate and its key; return the paths of both."""
    one = authority().issue_cert(name)
    chain, key = folder / "chain.pem", folder / "key.pem"
    chain.write_bytes(b"".join(part.bytes() for part in one.cert_chain_pems))
    key.write_bytes(one.private_key_pem.bytes())
    return chain, key


def issue(folder):
    """Write a certificate, and its key, in the place of those before; return it as DER."""
    chain, _ = write_certificate(folder)
    return ssl.PEM_cert_to_DER_cert(chain.read_text())


def certificate_of(port):
    """Return the certificate of the server at a port, as DER."""
    return ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate(("127.0.0.1", port), timeout=LIMIT))


def uri_of(server):
    return f"wss://localhost:{port_of(server)}"


class ByHand:
    """A TLS client whose records go through the test's hands; `sock` is the TCP connection."""

    def __init__(self, sock, context):
        self.sock = sock
        self.loop = asyncio.get_running_loop()
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")
        self.piece = None  # bytes to send at a time; None: all

    async def leave(self):
        """Send what there is to send."""
        data = self.outgoing.read()
        step = self.piece or max(len(data), 1)
        for start in range(0, len(data), step):
            await self.loop.sock_sendall(self.sock, data[start : start + step])
            if self.piece is not None:
                await asyncio.sleep(0)  # so that the server has them one by one

    async def until(self, function, *args):
        """Call a method of the SSLObject until it needs nothing more from the peer."""
        while True:
            try:
                result = function(*args)
            except ssl.SSLWantReadError:
                await self.leave()
                data = await self.loop.sock_recv(self.sock, 65536)
                if data:
                    self.incoming.write(data)
                else:
                    self.incoming.write_eof()
            else:
                await self.leave()
                return result

    async def shake(self):
        await self.until(self.tls.do_handshake)

    async def send(self, data):
        self.tls.write(data)
        await self.leave()

    async def receive(self, size):
        """Read up to so many bytes; none once the peer has sent close_notify."""
        return await self.until(self.tls.read, min(size, 65536))  # it makes room for so many

    async def read(self, size):
        data = b""
        while len(data) < size:
            piece = await self.until(self.tls.read, size - len(data))
            if not piece:
                raise EOFError(data)
            data += piece
        return data

    async def head(self):
        data = b""
        while not data.endswith(b"\r\n\r\n"):
            data += await self.read(1)
        return data

    async def open(self):
        """Do both handshakes."""
        await self.shake()
        await self.send(HANDSHAKE)
        assert (await self.head()).startswith(b"HTTP/1.1 101 ")


@contextlib.asynccontextmanager
async def by_hand(server, context=None, room=None):
    """Connect a client whose handshake has not begun; `room`: in its kernel, for what it does not read."""
    with socket.socket() as sock:
        if room is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port_of(server)))
        yield ByHand(sock, context or client_context())
