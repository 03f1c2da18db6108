"""
One process of a load: one `Load`, from the first connection to the last.

    python -m fastws.bench.worker DESCRIPTOR

In: commands, over the descriptor, as `multiprocessing.connection` writes them. Out: samples, likewise. The
process ends with its parent, and hears nothing of Ctrl-C: the parent says when to stop.

    (arguments, core)       comes first: ("ready",)
    "prime"                 ("primed",)
    "open"                  ("opening", Taken) now and then; ("opened", Taken)
    ("measure", at, warmup, duration, interval, drain)
                            ("warm", Taken) where the window begins; ("sample", number, Taken) of
                            each interval; ("draining", Taken) while answers come; ("drained", Taken)
    "stop"                  what is under way ends, and gives its last answer at once
    "close"                 the process ends

Times are `time.monotonic()`, which all processes of a machine share. Instead of any answer: ("failed", text);
instead of the first: ("refused", text), the arguments are no plan that can be carried out.
"""

from __future__ import annotations

import gc
import os
import resource
import sys
import time
from multiprocessing.connection import Connection
from typing import Any

from fastws._load import Load, LoadError
from fastws.bench.figures import Taken

STEP_SECONDS = 0.1
PRIMING = 8  # connections, for what a server's first ones load and allocate once
PATIENCE_SECONDS = 90.0  # for connections of which nothing is heard at all; the load gives them up sooner
DRAIN_SECONDS = 5.0


class Worker:
    """Carries out the commands of one parent."""

    def __init__(self, parent: Connection, arguments: dict[str, Any]) -> None:
        self.parent = parent
        self.arguments = arguments
        self.load = Load(**arguments)
        self.mode = arguments["mode"]
        self.lost = 0
        self.closing = False
        self.holding = False

    def run(self) -> None:
        """Obey until told to close, or until the parent has gone."""
        self.parent.send(("ready",))
        while not self.closing and (command := self.next_command()) != "close":
            match command:
                case "prime":
                    self.prime()
                case "open":
                    self.open()
                case ("measure", at, warmup, duration, interval, drain):
                    self.measure(at, at + warmup, duration, interval, drain)
                case "stop":
                    pass  # what it was meant for had ended
        self.load.close()

    def next_command(self) -> Any:
        """Wait for the parent; connections that are open meanwhile answer Pings."""
        while self.holding and not self.parent.poll():
            self.load.step(STEP_SECONDS)
        return self.parent.recv()

    def prime(self) -> None:
        """Open a few connections, and close them."""
        number = min(PRIMING, self.arguments["connections"])
        more = {"mode": "idle", "connections": number, "stuck": 0, "ramp": 0.0, "rate": None}
        load = Load(**{**self.arguments, **more})
        until = time.monotonic() + PATIENCE_SECONDS
        while load.opened() < number and not load.take().errors and time.monotonic() < until:
            load.step(0.02)
        load.close()
        self.parent.send(("primed",))

    def open(self) -> None:
        """Open all connections; those that fail are counted, and are no reason to stop."""
        patience = PATIENCE_SECONDS + self.arguments["ramp"]
        settled, heard = 0, time.monotonic()
        self.holding = True
        while time.monotonic() < heard + patience and not self.told_to_stop():
            self.load.step(STEP_SECONDS)
            taken = self.take()
            # Of stuck connections only those that the server has filled.
            if self.load.opened() + self.lost != settled:
                settled, heard = self.load.opened() + self.lost, time.monotonic()
            if settled >= self.arguments["connections"]:
                self.parent.send(("opened", taken))
                return
            self.parent.send(("opening", taken))
        self.parent.send(("opened", self.take()))

    def measure(self, at: float, begin: float, duration: float, interval: float, drain: float) -> None:
        """Load the server from `at` on; what happens from `begin` on counts."""
        if self.mode == "storm":
            time.sleep(max(at - time.monotonic(), 0))
        else:
            self.step_until(at)
        sending = self.mode in ("echo", "fanout")
        if sending:
            self.load.start()
        stopped = self.step_until(begin)
        self.parent.send(("warm", self.take()))
        number = 0
        while not stopped and number * interval < duration - 1e-9:
            stopped = self.step_until(begin + min((number + 1) * interval, duration))
            taken = self.take()
            self.parent.send(("sample", number, taken))
            number += 1
            # Nobody is left to measure.
            stopped = stopped or (self.mode != "storm" and not taken.connections)
        if sending:
            self.load.stop()
            # Who stands still is waited for as well: the longest latencies are those of its answers.
            # Where anything is expected they cannot be told from what comes unasked: quiet for `drain`
            # seconds, nothing more is coming.
            compared = self.arguments["expected"] != "any"
            until = time.monotonic() + DRAIN_SECONDS
            while True:
                self.load.step(drain)
                taken = self.take()
                over = not (taken.unanswered if compared else taken.messages)
                if over or time.monotonic() >= until or self.told_to_stop():
                    break
                self.parent.send(("draining", taken))
        else:
            taken = self.take()
        self.parent.send(("drained", taken))

    def step_until(self, then: float) -> bool:
        """Run the load until that time; return whether it was stopped before."""
        while (left := then - time.monotonic()) > 0:
            if self.told_to_stop():
                return True
            self.load.step(min(left, STEP_SECONDS))
        return False

    def told_to_stop(self) -> bool:
        """Tell whether the parent wants no more."""
        if not self.parent.poll():
            return False
        self.closing = self.parent.recv() == "close"
        return True

    def take(self) -> Taken:
        """Return what has happened since the last time."""
        taken = Taken.of(self.load.take())
        self.lost += sum(taken.errors.values())
        return taken


def allow_many_files(connections: int) -> None:
    """
    Raise the limit on open files as far as it goes.

    Raises: LoadError where that is too few.
    """
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard != resource.RLIM_INFINITY and connections + 64 > hard:
        raise LoadError(
            f"{connections} connections in one process, its limit on open files allows {hard - 64}: "
            "take more --processes, or raise it (ulimit -Hn)"
        )


def main() -> None:
    """Serve the parent at the other end of the descriptor that is the first argument."""
    parent: Connection[Any, Any] = Connection(int(sys.argv[1]))
    try:
        arguments, core = parent.recv()
        try:
            if core is not None:
                os.sched_setaffinity(0, {core})
            allow_many_files(arguments["connections"])
            worker = Worker(parent, arguments)
        except (LoadError, ValueError, OverflowError) as error:
            parent.send(("refused", str(error)))
            return
        # Nothing here makes circles, and a collection would be a pause in what is measured.
        gc.disable()
        try:
            worker.run()
        except LoadError as error:
            parent.send(("failed", str(error)))
    except (EOFError, OSError):
        # The parent has gone: nobody is left to tell.
        sys.exit(1)


if __name__ == "__main__":
    main()
