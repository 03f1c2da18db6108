"""
A load on the terminal: while it runs, and its figures afterwards.

In: what a `Watcher` is told, and the document of `report`. Out: rich's drawing on a terminal, plain lines
elsewhere.
"""

from __future__ import annotations

import time
from types import TracebackType
from typing import IO, Any

from rich.box import SIMPLE
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fastws.bench.conducting import Watcher
from fastws.bench.figures import Point
from fastws.bench.plan import Plan
from fastws.bench.rows import duration, sections, verdicts

DRAW_SECONDS = 0.25
BAR = 40
BLOCKS = "▁▂▃▄▅▆▇█"
LABEL_WIDTH = 24


class Screen(Watcher):
    """
    Draws how a load goes, on a terminal; elsewhere it draws nothing.

    There is no thread behind it: it draws when the conductor has nothing to do.
    """

    def __init__(self, plan: Plan, where: str, file: IO[str]) -> None:
        self.plan = plan
        self.where = where
        self.console = Console(file=file)
        self.live = Live(console=self.console, auto_refresh=False, transient=True)
        self.phase = "opening"
        self.connections = 0
        self.begin = self.end = 0.0
        self.rates: list[float] = []
        self.errors = 0
        self.last: Point | None = None
        self.drawn = 0.0

    def __enter__(self) -> Screen:
        if self.console.is_terminal:
            self.live.start()
            self.draw()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.live.stop()

    def opening(self, connections: int) -> None:
        self.connections = connections

    def measuring(self, begin: float, end: float) -> None:
        self.begin, self.end = begin, end

    def point(self, point: Point) -> None:
        self.last = point
        self.connections = point.connections
        self.rates.append(point.rate)
        self.errors += point.errors

    def draining(self) -> None:
        self.phase = "draining"

    def tick(self) -> None:
        if self.live.is_started and time.monotonic() >= self.drawn + DRAW_SECONDS:
            self.draw()

    def draw(self) -> None:
        """Draw what is known now."""
        self.live.update(self.picture(time.monotonic()), refresh=True)
        self.drawn = time.monotonic()

    def picture(self, now: float) -> RenderableType:
        """Return what there is to see."""
        line = Table.grid(padding=(0, 1))
        if not self.end:
            line.add_row(
                "opening",
                ProgressBar(total=self.plan.connections, completed=self.connections, width=BAR),
                f"{self.connections:,} of {self.plan.connections:,} connections",
            )
            return Group(Text(self.where, style="bold"), line)
        if self.phase == "draining":
            line.add_row("draining", ProgressBar(total=1, completed=1, width=BAR), "")
        elif now < self.begin:
            line.add_row(
                "warming up", ProgressBar(pulse=True, width=BAR), f"{self.begin - now:.1f} s to the window"
            )
        else:
            done = min(now - self.begin, self.plan.duration)
            line.add_row(
                "measuring",
                ProgressBar(total=self.plan.duration, completed=done, width=BAR),
                f"{done:.1f} of {self.plan.duration:g} s",
            )
        return Group(Text(self.where, style="bold"), line, *self.figures())

    def figures(self) -> list[RenderableType]:
        """Return the last interval's figures, and the rate so far."""
        if self.last is None:
            return []
        last = self.last
        parts = [f"[bold]{last.rate:,.0f}[/] {self.plan.units}/s"] if self.plan.mode != "idle" else []
        parts += [
            f"{name} {duration(value)}" for name, value in (("p50", last.p50), ("p99", last.p99)) if value
        ]
        parts.append(f"{last.connections:,} connections")
        if last.server_cpu is not None:
            parts.append(f"server {last.server_cpu:.0%}")
        if self.errors:
            parts.append(f"[red]{self.errors:,} errors[/]")
        lines: list[RenderableType] = [Text.from_markup("  ".join(parts))]
        if len(self.rates) > 1 and self.plan.mode != "idle":
            lines.append(Text(sparkline(self.rates), style="cyan"))
        return lines


def sparkline(values: list[float], width: int = 72) -> str:
    """Return the last values as blocks, from 0 to the highest of them."""
    values = values[-width:]
    highest = max(values) or 1.0
    return "".join(BLOCKS[min(int(value / highest * len(BLOCKS)), len(BLOCKS) - 1)] for value in values)


def show(document: dict[str, Any], file: IO[str]) -> None:
    """Print the figures: as a table on a terminal, elsewhere as plain lines."""
    console = Console(file=file, highlight=False)
    if not console.is_terminal:
        file.write(plain(document))
        return
    table = Table(box=SIMPLE, show_header=False, padding=(0, 1))
    table.add_column(style="dim")
    table.add_column()
    for title, rows in sections(document):
        table.add_row(f"[bold not dim]{title}[/]", "")
        for name, value in rows:
            table.add_row(f"  {escape(name)}", escape(value))
        table.add_section()
    console.print(table)
    for failed, text in verdicts(document):
        style = "[bold red]failed[/]" if failed else "[yellow]warning[/]"
        console.print(f" {style} {escape(text)}")


def plain(document: dict[str, Any]) -> str:
    """Return the figures as lines of text."""
    lines = []
    for title, rows in sections(document):
        lines.append(title)
        lines += [f"  {name:{LABEL_WIDTH}} {value}" for name, value in rows]
    lines += [f"{'failed' if failed else 'warning'}: {text}" for failed, text in verdicts(document)]
    return "\n".join(lines) + "\n"
