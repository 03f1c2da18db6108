"""
Patterns: which names of topics they stand for.

In: text with stars. Out: compiled expressions, which answer in time that grows with the length of a name.
"""

from __future__ import annotations

import re


def expression_of(pattern: str) -> re.Pattern[str]:
    """Return a compiled expression of the names that a pattern stands for."""
    # * is one part of a name, between dots; as the last part it is the whole rest.
    rest = pattern.endswith(".*")
    first, *others = map(re.escape, (pattern[:-1] if rest else pattern).split("*"))
    text = first
    # What is between two stars is looked for once, and taken where it comes first: later would match no more,
    # and to try takes for ever. A group that is looked ahead at and then repeated is not gone back into.
    for place, part in enumerate(others[:-1]):
        text += f"(?=(?P<g{place}>[^.]+?{part}))(?P=g{place})"
    if others:
        text += "[^.]+" + others[-1]
    return re.compile(text + (".+" if rest else ""), re.DOTALL)
