"""Judge a report of the Autobahn testsuite: outcomes by case id in, objections out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

Outcome = Mapping[str, object]

# INFORMATIONAL: 7.1.6, 7.13.1 and 7.13.2, for which RFC 6455 asks nothing in particular.
ACCEPTED = frozenset({"OK", "INFORMATIONAL"})


def in_order(cases: Iterable[str]) -> list[str]:
    """Sort case ids by their numbers: 1.2.3 before 1.10.1."""
    return sorted(cases, key=lambda case: [int(number) for number in case.split(".")])


def count(outcomes: Mapping[str, Outcome], aspect: str) -> dict[str, int]:
    """Count the outcomes of `aspect`, "behavior" or "behaviorClose", the most frequent first."""
    counts: dict[str, int] = {}
    for outcome in outcomes.values():
        value = str(outcome[aspect])
        counts[value] = counts.get(value, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: -item[1]))


def objections(chosen: Iterable[str], outcomes: Mapping[str, Outcome]) -> list[str]:
    """
    Say what is wrong with `outcomes`, a line for each case; nothing when the server conforms.

    Every chosen case must have an outcome; its behaviour and its closing behaviour must both be ACCEPTED.
    NON-STRICT says that the echo of a valid message was not back before the Close for what followed it.
    """
    found = []
    for case in in_order(set(chosen) | set(outcomes)):
        if case not in outcomes:
            found.append(f"{case}: no outcome")
            continue
        outcome = outcomes[case]
        behaviour, closing = outcome["behavior"], outcome["behaviorClose"]
        if behaviour not in ACCEPTED:
            found.append(f"{case}: behaviour {behaviour}")
        if closing not in ACCEPTED:
            found.append(f"{case}: closing behaviour {closing}, close code {outcome.get('remoteCloseCode')}")
    return found
