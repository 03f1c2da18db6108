"""The load generator over TLS."""

import asyncio

import pytest
import trustme
from certificates import authority, server_context
from loading import (
    Run,
    background,
    by_hand,
    error_of,
    frame,
    loading,
    ours,
    read_message,
    response_to,
    started,
    theirs,
)

from fastws._load import LoadError


@pytest.fixture(params=[ours, theirs])
def echo(request):
    return request.param


@pytest.fixture
def cafile(tmp_path):
    path = tmp_path / "authority.pem"
    authority().cert_pem.write_to_path(path)
    return str(path)


def test_tls_with_a_certificate_for_the_name(echo, cafile):
    options = {"ssl": server_context("localhost")}
    with echo(**options) as server:
        plan = {"tls": True, "server_name": "localhost", "cafile": cafile, "sizes": [(64, 1), (100_000, 1)]}
        with started(server.port, connections=3, in_flight=5, **plan) as run:
            assert run.until(lambda run: run.messages >= 300).errors == {}


def test_tls_with_a_certificate_for_the_address(cafile):
    plan = {"tls": True, "server_name": "127.0.0.1", "cafile": cafile}
    with theirs(ssl=server_context("127.0.0.1")) as server, started(server.port, **plan) as run:
        assert run.until(lambda run: run.messages >= 10).errors == {}


def test_tls_unverified():
    plan = {"tls": True, "insecure": True}
    with theirs(ssl=server_context("localhost")) as server, started(server.port, **plan) as run:
        assert run.until(lambda run: run.messages >= 10).errors == {}


def test_more_records_than_are_read_in_a_turn():
    """What libssl has taken from the socket makes no descriptor readable; these all fit into its buffer."""
    number = 200

    async def script(reader, writer):
        while True:
            # A record each, sent together.
            writer.writelines([frame(*await read_message(reader)) for _ in range(number)])

    plan = {"tls": True, "insecure": True, "sizes": [(16, 1)], "in_flight": number, "timeout": 2}
    with by_hand(script, ssl=server_context("localhost")) as server, started(server.port, **plan) as run:
        assert run.until(lambda run: run.messages >= 5 * number or run.errors).errors == {}


def test_a_storm_over_tls(cafile):
    with ours(ssl=server_context("localhost")) as server:
        load = loading(
            server.port, mode="storm", connections=4, tls=True, server_name="localhost", cafile=cafile
        )
        run = Run(load).until(lambda run: run.handshakes >= 20)
        load.close()
        assert run.errors == {}


def tls_echo(context):
    async def start(_shared):
        async def serve(reader, writer):
            try:
                writer.write(response_to(await reader.readuntil(b"\r\n\r\n")))
                await reader.read()
            except (OSError, asyncio.IncompleteReadError):
                pass
            writer.close()

        return await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)

    return background(start)


def test_a_certificate_must_be_vouched_for(tmp_path):
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(other)
    with tls_echo(server_context("localhost")) as server:
        error = error_of(server.port, tls=True, server_name="localhost", cafile=str(other))
        assert error.startswith("TLS: ")
        assert "issuer" in error or "certificate" in error


def test_a_certificate_must_be_for_the_name(tmp_path):
    ours = tmp_path / "ours.pem"
    authority().cert_pem.write_to_path(ours)
    with tls_echo(server_context("localhost")) as server:
        error = error_of(server.port, tls=True, server_name="example.com", cafile=str(ours))
        assert error == "TLS: hostname mismatch"


def test_a_server_that_does_not_speak_tls():
    async def start(_shared):
        async def serve(reader, writer):
            await reader.read(1)
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            writer.close()

        return await asyncio.start_server(serve, "127.0.0.1", 0)

    with background(start) as server:
        assert error_of(server.port, tls=True, insecure=True).startswith(("TLS: ", "reset"))


def test_a_cafile_that_is_none(tmp_path):
    with pytest.raises(LoadError, match=r"none\.pem: no certificates can be read there"):
        loading(1, tls=True, cafile=str(tmp_path / "none.pem"))
