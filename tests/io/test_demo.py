"""The page of `make demo` in a real browser. Its pictures are kept in build/artifacts/."""

import asyncio
import contextlib
import json
import os
import pathlib
import re
import subprocess
import sys

import browser
import pytest
from peers import LIMIT

import fastws

ROOT = pathlib.Path(__file__).parents[2]
SERVER = ROOT / "examples" / "ticker" / "server.py"
ARTIFACTS = ROOT / "build" / "artifacts"
# A browser takes its time on a machine that does other things as well.
PATIENCE = 3 * LIMIT

LIVE = "document.getElementById('state').textContent === 'Live'"
RECONNECTING = (
    "document.getElementById('state').textContent === 'Reconnecting'"
    " && /^in [0-9]+ s$/.test(document.getElementById('countdown').textContent)"
)
NOTE = "document.getElementById('note').textContent"
TABLE = "document.getElementById('rows').innerText"
PICTURE = "document.getElementById('chart').toDataURL()"
# Every chart has all numbers between its first and its last.
WITHOUT_GAPS = """[...symbols.values()].every(({points}) =>
    points.length && points.every(({sequence}, i) => sequence === points[0].sequence + i))"""


def require():
    """Skip where there is no browser; in CI, where nobody would notice, fail."""
    if browser.find() is None:
        if os.environ.get("CI") == "true":
            pytest.fail(browser.MISSING, pytrace=False)
        pytest.skip(browser.MISSING)


@pytest.fixture(scope="module")
def devtools(tmp_path_factory):
    require()
    with browser.chromium(tmp_path_factory.mktemp("chromium"), PATIENCE) as address:
        yield address


@contextlib.contextmanager
def serving(port=0):
    """Run the demo; give its port, and a function that kills it."""
    command = [sys.executable, str(SERVER), "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:

        def kill():
            process.kill()
            process.wait(LIMIT)

        try:
            yield int(re.search(r"ws://[\d.]+:(\d+)", process.stdout.readline())[1]), kill
        finally:
            kill()


def bounded(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, PATIENCE))


def opened(devtools, port):
    return browser.Page.open(devtools, f"http://127.0.0.1:{port}/")


async def remember(page, **expressions):
    """Evaluate expressions, and keep their values as variables of the page."""
    for name, expression in expressions.items():
        await page.value(f"void (globalThis.{name} = {expression})")


def faults(page):
    """What went wrong, other than that the server could not be reached."""
    return [error for error in page.errors if "WebSocket connection to" not in str(error)]


class Relay:
    """Carries bytes between a port of its own and another; can be cut, and restored."""

    def __init__(self, port):
        self.target = port
        self.port = 0
        self.tasks = set()

    async def restore(self):
        self.server = await asyncio.start_server(self.carry, "127.0.0.1", self.port)
        self.port = self.server.sockets[0].getsockname()[1]

    async def cut(self):
        self.server.close()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def carry(self, reader, writer):
        task = asyncio.current_task()
        self.tasks.add(task)
        try:
            with contextlib.suppress(OSError):
                there, back = await asyncio.open_connection("127.0.0.1", self.target)
                try:
                    await asyncio.gather(pour(reader, back), pour(there, writer))
                finally:
                    back.transport.abort()
        except asyncio.CancelledError:
            # The streams of Python 3.10 and 3.11 would report it as an error of this callback.
            pass
        finally:
            writer.transport.abort()
            self.tasks.discard(task)


async def pour(reader, writer):
    while data := await reader.read(64 * 1024):
        writer.write(data)
        await writer.drain()
    writer.close()


@contextlib.asynccontextmanager
async def relayed(port):
    relay = Relay(port)
    await relay.restore()
    try:
        yield relay
    finally:
        await relay.cut()


async def published(port, more):
    """Wait until the server has published so many more prices of each symbol."""
    first, last = {}, {}
    async with fastws.connect(f"ws://127.0.0.1:{port}/", proxy=None) as ws:
        await ws.send(json.dumps({"op": "subscribe", "topic": "prices.*"}))
        while not first or any(last[topic] < first[topic] + more for topic in first):
            message = json.loads(await ws.recv())
            if "data" in message:
                last[message["topic"]] = message["sequence"]
                first.setdefault(message["topic"], message["sequence"])


@pytest.mark.parametrize(("ci", "outcome"), [("true", pytest.fail.Exception), ("", pytest.skip.Exception)])
def test_a_browser_that_is_missing_is_named_and_a_failure_in_ci(monkeypatch, ci, outcome):
    monkeypatch.setenv("CI", ci)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(outcome, match="Debian: chromium"):
        require()


def test_prices_and_chart_move_and_nothing_is_wrong(devtools):
    async def main():
        with serving() as (port, _):
            async with opened(devtools, port) as page:
                await page.until(LIVE)
                await page.until("document.querySelectorAll('#rows tr').length === 5")
                await page.until("chosen.points.length > 2")
                await remember(page, table=TABLE, picture=PICTURE, length="chosen.points.length")
                await page.until(f"{TABLE} !== table && {PICTURE} !== picture")
                await page.until("chosen.points.length > length")
                await page.until("parseInt(document.getElementById('rate').textContent) > 0")
                row = await page.value("document.querySelector('#rows tr').innerText")
                assert re.fullmatch(r"BTC-USD\s+\d{2,3},\d{3}\.\d\d\s+[▲▼] \d+\.\d\d %", row)
                assert page.errors == []
                assert page.requests == [f"http://127.0.0.1:{port}/"]

    bounded(main())


def test_a_newcomer_sees_what_was_before(devtools):
    async def main():
        with serving() as (port, _):
            await published(port, 3)
            async with opened(devtools, port) as page:
                await page.until("symbols.size === 5")
                await page.until("[...symbols.values()].every(({points}) => points[0].sequence === 1)")
                await page.until("[...symbols.values()].every(({points}) => points.length > 3)")
                assert await page.value(WITHOUT_GAPS)
                assert page.errors == []

    bounded(main())


def test_another_symbol_is_chosen_with_its_button(devtools):
    async def main():
        with serving() as (port, _):
            async with opened(devtools, port) as page:
                await page.until("symbols.size === 5")
                await page.value("document.querySelectorAll('#rows button')[3].click()")
                await page.until("document.getElementById('chosen').textContent === 'EUR-USD'")
                pressed = "[...document.querySelectorAll('#rows button')].map(b => b.ariaPressed)"
                assert await page.value(pressed) == ["false", "false", "false", "true", "false"]
                assert page.errors == []

    bounded(main())


def test_a_connection_that_was_lost_comes_back_with_what_was_missed(devtools):
    async def main():
        with serving() as (port, _):
            async with relayed(port) as relay, opened(devtools, relay.port) as page:
                await page.until("symbols.size === 5")
                await page.until(f"{LIVE} && chosen.points.length > 2")
                await relay.cut()
                await page.until(RECONNECTING)
                await remember(page, last="chosen.last", began="chosen.points[0].sequence")
                await published(port, 3)
                assert await page.value("chosen.last === last")
                await relay.restore()
                await page.until(LIVE)
                await page.until(f"{NOTE}.startsWith('Reconnected')")
                assert int(re.search(r"recovered: (\d+)\.", await page.value(NOTE))[1]) > 0
                await page.until("chosen.last > last + 3")
                assert await page.value(f"{WITHOUT_GAPS} && chosen.points[0].sequence === began")
                assert faults(page) == []

    bounded(main())


def test_a_server_that_was_restarted_starts_the_chart_anew(devtools):
    async def main():
        with serving() as (port, kill):
            async with opened(devtools, port) as page:
                await page.until("symbols.size === 5")
                await page.until(f"{LIVE} && chosen.last > 4")
                await remember(page, first="epoch")
                kill()
                await page.until(RECONNECTING)
                with serving(port):
                    await page.until(LIVE)
                    await page.until(f"{NOTE}.includes('starts anew')")
                    await page.until("epoch !== first")
                    await page.until("chosen.points.length > 2 && chosen.points[0].sequence === 1")
                    assert await page.value(WITHOUT_GAPS)
                    assert faults(page) == []

    bounded(main())


def test_numbers_that_a_restarted_server_has_passed_are_not_taken_for_a_continuation(devtools):
    async def main():
        with serving() as (port, kill):
            async with relayed(port) as relay, opened(devtools, relay.port) as page:
                await page.until("symbols.size === 5")
                await page.until(f"{LIVE} && chosen.points.length")
                await remember(page, first="epoch", last="chosen.last")
                await relay.cut()
                kill()
                await page.until(RECONNECTING)
                with serving() as (again, _):
                    await published(again, await page.value("chosen.last") + 2)
                    relay.target = again
                    await relay.restore()
                    await page.until(f"{LIVE} && {NOTE}.includes('starts anew')")
                    await page.until("epoch !== first && chosen.points[0].sequence === 1")
                    await page.until("chosen.last > last")
                    assert await page.value(WITHOUT_GAPS)
                    assert faults(page) == []

    bounded(main())


def test_messages_are_compressed_both_ways(devtools):
    async def main():
        with serving() as (port, _):
            async with opened(devtools, port) as page:
                # Chromium compresses all that it sends; the server what has 100 bytes.
                await page.until(f"{LIVE} && chosen.points.length > 2")
                assert (await page.value("socket.extensions")).startswith("permessage-deflate")
                assert page.errors == []

    bounded(main())


def test_nothing_is_drawn_while_the_page_is_hidden(devtools):
    hide = """Object.defineProperty(document, 'hidden', {configurable: true, value: %s});
        document.dispatchEvent(new Event('visibilitychange'))"""

    async def main():
        with serving() as (port, _):
            async with opened(devtools, port) as page:
                await page.until("symbols.size === 5 && chosen.points.length > 2")
                await page.value(hide % "true")
                # A frame that was asked for before is drawn still.
                await page.until("frame === 0")
                await remember(page, table=TABLE, picture=PICTURE, length="chosen.points.length")
                await page.until("chosen.points.length > length + 2")
                assert await page.value(f"{TABLE} === table && {PICTURE} === picture")
                await page.value(hide % "false")
                await page.until(f"{TABLE} !== table && {PICTURE} !== picture")
                assert page.errors == []

    bounded(main())


def test_what_the_server_names_is_text(devtools):
    async def main():
        with serving() as (port, _):
            async with opened(devtools, port) as page:
                await page.until("symbols.size === 5")
                await page.value("void addSymbol('prices.<img src=nowhere>', 0)")
                await page.value("note('<img src=nowhere>')")
                assert await page.value("document.querySelectorAll('img').length") == 0
                assert "<img src=nowhere>" in await page.value(TABLE)
                assert page.errors == []

    bounded(main())


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize(
    ("name", "width", "height", "scale"), [("desktop", 1280, 720, 1), ("phone", 360, 740, 3)]
)
def test_the_page_fits_its_screen_and_has_a_picture(devtools, name, width, height, scale, dark):
    async def main():
        with serving() as (port, _):
            async with opened(devtools, port) as page:
                await page.look(width, height, scale, dark)
                await page.until("symbols.size === 5 && chosen.points.length > 7")
                canvas = "document.getElementById('chart')"
                await page.until(f"{canvas}.width === {canvas}.clientWidth * {scale}")
                assert await page.value("document.documentElement.scrollWidth") <= width
                ARTIFACTS.mkdir(parents=True, exist_ok=True)
                picture = ARTIFACTS / f"demo-{name}-{'dark' if dark else 'light'}.png"
                await page.screenshot(picture)
                assert picture.read_bytes().startswith(b"\x89PNG")
                assert page.errors == []

    bounded(main())
