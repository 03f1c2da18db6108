"""What the README and the examples say, done."""

import asyncio
import contextlib
import html.parser
import json
import pathlib
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request

import pytest
import websockets

import fastws

ROOT = pathlib.Path(__file__).parents[1]
LIMIT = 20  # seconds for what should take less than one
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

# A block that serves: on a free port, which it prints.
FREE_PORT = """
import fastws, fastws.running
class serve(fastws.serve):
    async def _serve(self):
        server = await super()._serve()
        print(server.sockets[0].getsockname()[1], flush=True)
        return server
fastws.serve = fastws.running.serve = serve
"""


@contextlib.contextmanager
def running(*args):
    """Run a program of ours that prints a line with its port; give that."""
    command = [sys.executable, *args]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            port = re.search(r"(\d+)/?(?: |$)", process.stdout.readline())
            assert port is not None
            yield process, int(port[1])
        finally:
            process.kill()


async def echoes(port):
    async with websockets.connect(f"ws://127.0.0.1:{port}") as client:
        await client.send("x")
        assert await client.recv() == "x"
        await client.send(b"\xff")
        assert await client.recv() == b"\xff"


def bounded(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, LIMIT))


def stops_with_0(process):
    process.send_signal(signal.SIGINT)
    return process.wait(LIMIT) == 0


def test_readme_has_the_blocks_that_are_tested_here():
    assert len(BLOCKS) == 4


def test_the_echo_server_of_the_readme_answers_and_is_the_example():
    code = BLOCKS[0]
    assert code in (ROOT / "examples" / "echo.py").read_text()
    assert code.count("8765") == 1
    with running("-c", FREE_PORT + code.replace("8765", "0")) as (process, port):
        bounded(echoes(port))
        assert stops_with_0(process)


def test_the_server_of_the_readme_inside_a_program_answers():
    code = BLOCKS[1]
    assert code.count("8765") == 1
    lines = code.replace("8765", "0").splitlines()
    program = "async def main():\n" + "\n".join("    " + line for line in lines)
    program += "\nimport asyncio\nfrom examples.echo import Echo\nasyncio.run(main())\n"
    with running("-c", FREE_PORT + program) as (_, port):
        bounded(echoes(port))


def test_the_coroutine_handler_and_the_client_of_the_readme_talk():
    server, client = BLOCKS[2:]
    program = server.replace("8765", "0") + "\nimport asyncio\nasyncio.run(main())\n"
    with running("-c", FREE_PORT + program) as (_, port):
        done = subprocess.run(
            [sys.executable, "-c", client.replace("8765", str(port))],
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=True,
        )
    assert done.stdout == "hello\n"


def test_the_docstring_of_the_package_runs():
    code = re.search(
        r"(?:^    .*\n|^\n)+", fastws.__doc__[fastws.__doc__.index("    import") :], re.MULTILINE
    )[0]
    code = re.sub(r"^    ", "", code, flags=re.MULTILINE)
    assert "8765" in code
    with running("-c", FREE_PORT + code.replace("8765", "0")) as (_, port):
        bounded(echoes(port))


def test_the_command_of_the_readme_serves():
    (line,) = re.findall(r"^    fastws (serve .*)$", README, re.MULTILINE)
    assert line.count("8765") == 1
    args = line.replace("8765", "0").split()
    with subprocess.Popen(
        [sys.executable, "-m", "fastws", *args], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            bounded(echoes(int(re.search(r"ws://[\d.]+:(\d+)", process.stdout.readline())[1])))
        finally:
            process.kill()


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_make_targets_that_are_named_exist(name):
    text = (ROOT / name).read_text()
    named = set(re.findall(r"(?:^    |`)make ([a-z-]+)", text, re.MULTILINE))
    assert named
    assert named <= TARGETS


def test_links_of_the_readme_lead_to_files():
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_callbacks_and_members_that_the_readme_names_exist():
    for name in re.findall(r"`(on_\w+)\(", README):
        assert callable(getattr(fastws.Handler, name))
    members = re.search(r"A connection has (.*?), and takes attributes", README, re.DOTALL)[1]
    names = re.findall(r"`(\w+)`", members)
    assert len(names) > 10
    assert [name for name in names if not hasattr(fastws.Connection, name)] == []


# ---------------------------------------------------------------- the examples


def test_the_echo_example_answers():
    program = "import runpy; runpy.run_path('examples/echo.py', run_name='__main__')"
    patch = FREE_PORT + "run = fastws.run\nfastws.run = lambda handler, host, port: run(handler, host, 0)\n"
    with running("-c", patch + program) as (process, port):
        bounded(echoes(port))
        assert stops_with_0(process)


class Page(html.parser.HTMLParser):
    """Notes what a page refers to, and its title."""

    def __init__(self):
        super().__init__()
        self.tags, self.references, self.text = [], [], {}

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.references += [
            value for name, value in attrs if name in ("src", "href", "srcset", "data", "action")
        ]

    def handle_data(self, data):
        self.text.setdefault(self.tags[-1] if self.tags else "", data)


def get(port, path):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPErrorProcessor())
    try:
        with opener.open(f"http://127.0.0.1:{port}{path}", timeout=LIMIT) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


def test_the_ticker_serves_its_page_and_its_prices_on_one_port():
    async def prices(port):
        """Subscribe to one topic that there is not, and to all that there are; return what comes."""
        async with websockets.connect(f"ws://127.0.0.1:{port}/") as client:
            for topic in ("other", "prices.*"):
                await client.send(json.dumps({"op": "subscribe", "topic": topic}))
            refused = json.loads(await client.recv())
            got = []
            while len(got) < 12:
                message = json.loads(await client.recv())
                if "data" in message:
                    got.append(message)
            return refused, got

    with running("examples/ticker/server.py", "--port", "0") as (process, port):
        status, headers, body = get(port, "/")
        assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
        assert get(port, "/health")[::2] == (200, b"ok\n")
        assert get(port, "/nothing")[0] == 404
        refused, got = bounded(prices(port))
        assert refused == {"op": "error", "error": "not allowed: other"}
        # The last price of each symbol, retained; then those that follow.
        assert len({message["topic"] for message in got[:5]}) == 5
        assert {message["topic"] for message in got[5:]} <= {message["topic"] for message in got[:5]}
        for message in got:
            assert message["sequence"] > 0
            assert float(message["data"]["price"]) > 0
            assert isinstance(message["data"]["change"], float)
        assert stops_with_0(process)

    text = body.decode()
    page = Page()
    page.feed(text)
    assert page.text["title"].strip()
    assert {"table", "script"} <= set(page.tags)
    # Self-contained: it opens where there is no other network.
    assert [reference for reference in page.references if not reference.startswith("data:")] == []
    assert not re.search(r"""(?:https?:)?//[\w-]+\.\w|@import|url\(|\bfetch\(|\bimport\b""", text)
    # What the script looks up is in the page.
    names = re.findall(r'\$\("(\w+)"\)', text)
    assert names
    for name in names:
        assert f'id="{name}"' in text


def test_the_examples_of_topics_publish_and_relay():
    async def first_of(port, message=None):
        async with websockets.connect(f"ws://127.0.0.1:{port}") as client:
            if message is not None:
                await client.send(message)
            return await client.recv()

    with running("examples/topics/task.py", "0") as (task, port):
        assert re.fullmatch(r"btc \d+\.\d\d", bounded(first_of(port, "prices.btc")))
        assert stops_with_0(task)
    with running("examples/topics/thread.py", "0") as (thread, port):
        assert re.fullmatch(r"\d\d:\d\d:\d\d", bounded(first_of(port)))
        with running("examples/topics/relay.py", f"ws://127.0.0.1:{port}", "0") as (relay, relayed):
            assert re.fullmatch(r"\d\d:\d\d:\d\d", bounded(first_of(relayed)))
            assert stops_with_0(relay)
        assert stops_with_0(thread)
