"""
Charts as inline SVG, which takes its colours from the page's style sheet.

In: lines of (x, y) points and two axes. Out: an svg element. Classes: `grid`, `axis`, `line a` and `line b`,
`area`, and `hit`, a band that is seen, with its title, where the pointer is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

LEFT, RIGHT, TOP = 70, 16, 14
TICKS = 5
Points = Sequence[tuple[float, "float | None"]]


@dataclass(frozen=True)
class Axis:
    """
    A range of values on a line.

    Attributes:
        low, high: what its ends stand for; on a logarithmic axis both are over 0.
        ticks: values and labels.
        label: what they are.
    """

    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    log: bool = False
    label: str = ""

    def place(self, value: float) -> float:
        """Return where a value is, from 0 to 1; what is outside is at the end."""
        low, high = self.low, self.high
        value = min(max(value, low), high)
        if self.log:
            low, high, value = math.log10(low), math.log10(high), math.log10(value)
        return (value - low) / (high - low) if high > low else 0.5


@dataclass(frozen=True)
class Frame:
    """A drawing's size, in pixels where it is as wide as it is meant to be; `below` the plot are labels."""

    width: int
    height: int
    below: int

    @property
    def right(self) -> int:
        """Where the plot ends."""
        return self.width - RIGHT

    @property
    def bottom(self) -> int:
        """Where the plot ends."""
        return self.height - self.below

    def across(self, x: Axis, value: float) -> float:
        """Return where a value is."""
        return round(LEFT + x.place(value) * (self.right - LEFT), 1)

    def up(self, y: Axis, value: float) -> float:
        """Return where a value is, from the top."""
        return round(TOP + (1 - y.place(value)) * (self.bottom - TOP), 1)


WIDE = Frame(1120, 330, 42)
HALF = Frame(540, 220, 26)


@dataclass(frozen=True)
class Line:
    """Points in ascending x; None is a gap. `style` is "a" or "b"; `name` is for the legend."""

    points: Points
    style: str = "a"
    name: str = ""
    area: bool = False


def linear_axis(
    low: float, high: float, show: Callable[[float], str], label: str = "", *, binary: bool = False
) -> Axis:
    """
    Return an axis with round ticks; it ends at the first that is not under `high`.

    Args:
        binary: powers of two are round.
    """
    step = round_step((high - low) / TICKS or 1.0, binary=binary)
    first, last = math.floor(low / step), max(math.ceil(high / step - 1e-9), math.floor(low / step) + 1)
    ticks = tuple((number * step, show(number * step)) for number in range(first, last + 1))
    return Axis(first * step, last * step, ticks, label=label)


def round_step(least: float, *, binary: bool = False) -> float:
    """Return the first of 1, 2, 5, 10, 20, ..., or the first power of two, that is not under `least`."""
    if binary:
        return 2.0 ** math.ceil(math.log2(least))
    power = 10.0 ** math.floor(math.log10(least))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= least * (1 - 1e-9))


def log_axis(low: float, high: float, show: Callable[[float], str], label: str = "") -> Axis:
    """Return a logarithmic axis over at least a decade, with ticks at 1, 2, 5 where there is room."""
    low, high = max(low, 1.0), max(high, low * 10, 10.0)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1, 2, 5) if len(decades) <= 4 else (1,)
    values = [factor * 10.0**decade for decade in decades for factor in factors]
    below = max((value for value in values if value <= low * 1.001), default=low)
    above = min((value for value in values if value >= high * 0.999), default=high)
    ticks = tuple((value, show(value)) for value in values if below <= value <= above)
    return Axis(below, above, ticks, log=True, label=label)


def chart(
    title: str, frame: Frame, x: Axis, y: Axis, lines: Sequence[Line], hits: Sequence[tuple[float, str]] = ()
) -> str:
    """
    Return a chart.

    Args:
        title: for those who cannot see it.
        hits: x, ascending, and what to say there.
    """
    parts = [
        f'<svg viewBox="0 0 {frame.width} {frame.height}" role="img" aria-label="{escape(title)}">',
        *grid(frame, x, y),
        *bands(frame, x, hits),
    ]
    for line in lines:
        parts += drawn(frame, x, y, line)
    parts.append("</svg>")
    return "\n".join(parts)


def grid(frame: Frame, x: Axis, y: Axis) -> list[str]:
    """Return lines and labels of both axes."""
    parts = []
    for value, text in y.ticks:
        at = frame.up(y, value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{frame.right}" y1="{at}" y2="{at}"/>')
        parts.append(label(LEFT - 8, at + 4, "end", text))
    for value, text in x.ticks:
        at = frame.across(x, value)
        parts.append(f'<line class="grid" x1="{at}" x2="{at}" y1="{TOP}" y2="{frame.bottom}"/>')
        parts.append(label(at, frame.bottom + 17, "middle", text))
    if x.label:
        parts.append(label(frame.right, frame.height - 5, "end", x.label))
    return parts


def label(x: float, y: float, anchor: str, text: str) -> str:
    """Return a text beside an axis."""
    return f'<text class="axis" x="{x}" y="{y}" text-anchor="{anchor}">{escape(text)}</text>'


def drawn(frame: Frame, x: Axis, y: Axis, line: Line) -> list[str]:
    """Return a line, in as many pieces as it has; a piece of one point is a dot."""
    parts = []
    for piece in pieces(frame, x, y, line.points):
        first, last = piece[0], piece[-1]
        if len(piece) == 1:
            parts.append(f'<circle class="dot {line.style}" cx="{first[0]}" cy="{first[1]}" r="3.5"/>')
            continue
        path = " ".join(f"{left},{top}" for left, top in piece)
        if line.area:
            corners = f"{first[0]},{frame.bottom} {path} {last[0]},{frame.bottom}"
            parts.append(f'<polygon class="area {line.style}" points="{corners}"/>')
        parts.append(f'<polyline class="line {line.style}" points="{path}"/>')
    return parts


def pieces(frame: Frame, x: Axis, y: Axis, points: Points) -> list[list[tuple[float, float]]]:
    """Return points as they are drawn, parted at gaps, without those less than half a pixel from the last."""
    found: list[list[tuple[float, float]]] = [[]]
    for number, (at, value) in enumerate(points):
        if value is None:
            found.append([])
            continue
        place = frame.across(x, at), frame.up(y, value)
        piece = found[-1]
        near = piece and abs(place[0] - piece[-1][0]) < 0.5 and abs(place[1] - piece[-1][1]) < 0.5
        if not near or number == len(points) - 1:
            piece.append(place)
    return [piece for piece in found if piece]


def bands(frame: Frame, x: Axis, hits: Sequence[tuple[float, str]]) -> list[str]:
    """Return a band around each x, halfway to its neighbours."""
    places = [frame.across(x, value) for value, _ in hits]
    parts = []
    for number, (_, text) in enumerate(hits):
        left = (places[number - 1] + places[number]) / 2 if number else LEFT
        right = (places[number] + places[number + 1]) / 2 if number + 1 < len(hits) else frame.right
        parts.append(
            f'<rect class="hit" x="{left:.1f}" y="{TOP}" width="{max(right - left, 0.5):.1f}" '
            f'height="{frame.bottom - TOP}"><title>{escape(text)}</title></rect>'
        )
    return parts
