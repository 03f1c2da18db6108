"""The verdict on what was counted: against the committed figures of the same build, or the most similar one.

The same build gives the same instructions, but for what zlib does with alignments (0.4 % of `all`): over
`LIMIT` more is a change of fastws's.

Another compiler, CPython or libc gives others. What is in fastws's own modules differs least, since
CPython, libc and zlib are not in it. Against CPython 3.11 and gcc 12, `ours` was 0 to +6 % with CPython
3.10, the same with 3.13 but +14 % for a delivery, and -27 % to +5 % with clang 22; `all` went up to
+78 %. As a ratio to the plainest C that does the same messages, compiled alike, `ours` was worse: up to
+74 % with clang, which made more of the plain C. So `ours` as it is has to do, and over
`OTHER_BUILD_LIMIT` more fails: coarse, but never nothing. Other kernels and other machines have nothing
to compare with.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from .counted import Cost, Counted

LIMIT = 0.03
OTHER_BUILD_LIMIT = 0.20
ALIKE = ("machine", "kernels")


@dataclasses.dataclass
class Verdict:
    """
    Attributes:
        against: what was compared with, in words.
        objections: what became more expensive, or was not counted; none is good.
        notes: what became cheaper, or is new.
    """

    against: str
    objections: list[str] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)


def difference(build: dict[str, str], other: dict[str, str]) -> list[str]:
    """Name the facts in which two builds differ, as "python 3.11.7, not 3.12.1"."""
    return [
        f"{name} {other.get(name)}, not {build.get(name)}"
        for name in build.keys() | other.keys()
        if build.get(name) != other.get(name)
    ]


def most_similar(build: dict[str, str], table: Iterable[Counted]) -> Counted | None:
    """Return the entry that differs in the fewest facts; None when all are of other machines or kernels."""
    comparable = [entry for entry in table if all(entry.build.get(name) == build.get(name) for name in ALIKE)]
    return min(comparable, key=lambda entry: len(difference(build, entry.build)), default=None)


def judge(found: Counted, table: Iterable[Counted]) -> Verdict:
    """Compare with the most similar entry of `table`."""
    entry = most_similar(found.build, table)
    if entry is None:
        facts = ", ".join(found.build.get(name, "?") for name in ALIKE)
        return Verdict(f"nothing: no figures of {facts} are committed")
    differs = difference(found.build, entry.build)
    if differs:
        verdict = Verdict(f"another build: {'; '.join(sorted(differs))}")
    else:
        verdict = Verdict("the same build's figures")
    for name, before in entry.paths.items():
        now = found.paths.get(name)
        if now is None:
            verdict.objections.append(f"{name}: not counted")
            continue
        limit = OTHER_BUILD_LIMIT if differs else LIMIT
        weigh(verdict, f"{name}: instructions of ours", before.ours, now.ours, limit)
        if not differs:
            weigh(verdict, f"{name}: instructions in all", before.all, now.all, limit)
    verdict.notes.extend(f"{name}: new" for name in found.paths if name not in entry.paths)
    return verdict


def weigh(verdict: Verdict, what: str, before: float, now: float, limit: float) -> None:
    change = now / before - 1
    text = f"{what}: {now:.5g}, {change:+.1%} from {before:.5g}"
    if change > limit:
        verdict.objections.append(f"{text}, allowed are {limit:+.0%}")
    elif change < -limit:
        verdict.notes.append(text)


def table_of(report: list[dict[str, dict[str, object]]]) -> list[Counted]:
    """Read the committed file's JSON."""
    return [
        Counted(
            {name: str(value) for name, value in entry["build"].items()},
            {name: Cost(**cost) for name, cost in entry["paths"].items()},  # type: ignore[arg-type]
        )
        for entry in report
    ]


def with_entry(table: list[Counted], found: Counted) -> list[Counted]:
    """Return `table` with `found`, in the place of what is there of the same build."""
    return [entry for entry in table if entry.build != found.build] + [found]
