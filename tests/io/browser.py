"""
A headless Chromium, driven by its DevTools protocol over `fastws.connect`.

What a page logs as an error, throws or cannot load is in `Page.errors`.
"""

import asyncio
import base64
import contextlib
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import time

import fastws

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MISSING = "there is no Chromium: these tests drive one (Debian: chromium)"


def find():
    """Return the path of a Chromium, None where there is none."""
    return next(filter(None, map(shutil.which, NAMES)), None)


@contextlib.contextmanager
def chromium(profile, limit):
    """Run Chromium with a directory for its profile; give the address of its DevTools."""
    command = [
        *(find(), "--headless=new", "--remote-debugging-port=0", f"--user-data-dir={profile}"),
        # A container may have a small /dev/shm, and no GPU; nothing may go out to the network.
        *("--disable-dev-shm-usage", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
        *("--disable-component-update", "--disable-sync", "--no-proxy-server", "--hide-scrollbars"),
        # Its sandbox does not work for root.
        *(["--no-sandbox"] if os.geteuid() == 0 else []),
        "about:blank",
    ]
    # The sanitizers' libraries, if any, are for Python only.
    env = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    log = open(os.path.join(profile, "stderr"), "w+b")  # noqa: SIM115
    # In a session of its own, so that its many processes end together.
    process = subprocess.Popen(command, stdout=log, stderr=log, env=env, start_new_session=True)
    try:
        yield listening(process, log, limit)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(limit)
        log.close()


def listening(process, log, limit):
    end = time.monotonic() + limit
    while time.monotonic() < end:
        told = os.pread(log.fileno(), 2**16, 0).decode(errors="replace")
        found = re.search(r"DevTools listening on (ws://\S+)", told)
        if found:
            return found[1]
        if process.poll() is not None:
            break
        time.sleep(0.02)
    raise RuntimeError(f"Chromium does not start, status {process.poll()}: {told}")


class Page:
    """A tab of its own, in a context of its own."""

    def __init__(self, ws):
        self.ws = ws
        self.errors = []
        self.requests = []  # addresses
        self._ids = itertools.count(1)
        self._answers = {}
        self._session = None

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, address, url):
        # A screenshot is one message.
        async with fastws.connect(address, proxy=None, max_size=64 * 2**20, ping_interval=None) as ws:
            page = cls(ws)
            reading = asyncio.create_task(page._read())
            try:
                target = (await page.call("Target.createTarget", url="about:blank"))["targetId"]
                attached = await page.call("Target.attachToTarget", targetId=target, flatten=True)
                page._session = attached["sessionId"]
                for domain in ("Runtime", "Log", "Network", "Page"):
                    await page.call(f"{domain}.enable")
                await page.call("Page.navigate", url=url)
                await page.until("document.readyState === 'complete'")
                yield page
                await page.call("Page.close")
            finally:
                reading.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await reading

    async def _read(self):
        async for text in self.ws:
            message = json.loads(text)
            if "id" in message:
                self._answers.pop(message["id"]).set_result(message)
            else:
                self._note(message["method"], message["params"])

    def _note(self, event, params):
        if event == "Runtime.exceptionThrown":
            self.errors.append(params["exceptionDetails"])
        elif event == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.errors.append(params["args"])
        elif event == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.errors.append(params["entry"])
        elif event == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])

    async def call(self, method, **params):
        """Call a method of the protocol; return its result."""
        number = next(self._ids)
        command = {"id": number, "method": method, "params": params}
        if self._session is not None:
            command["sessionId"] = self._session
        self._answers[number] = answer = asyncio.get_running_loop().create_future()
        await self.ws.send(json.dumps(command))
        message = await answer
        assert "error" not in message, (method, message["error"])
        return message["result"]

    async def value(self, expression):
        """Evaluate JavaScript in the page; return what JSON can say of it."""
        got = await self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in got, (expression, got["exceptionDetails"])
        return got["result"].get("value")

    async def until(self, expression):
        """Wait until an expression is true; the caller bounds the time."""
        while not await self.value(expression):
            await asyncio.sleep(0.02)

    async def look(self, width, height, scale=1, dark=False):
        """Set the size in CSS pixels, the pixels for each of them, and the colour scheme."""
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=False,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.call("Emulation.setEmulatedMedia", features=[scheme])

    async def screenshot(self, path):
        picture = await self.call("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(picture["data"]))
