"""
Targets: what "module:name" stands for.

In: text. Out: the object, its module imported now.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any


class TargetError(ValueError):
    """A target names what there is not."""


def load_target(target: str, what: str = "handler", such_as: str = "examples.echo:Echo") -> Any:
    """
    Import what `module:name` names; `name` may have dots. The current directory is looked in first.

    Args:
        what, such_as: what it is to be, and an example, for the error.

    Raises: TargetError, saying which part was not found; what the module raises.
    """
    module_name, colon, path = target.partition(":")
    if not colon or not module_name or not path:
        raise TargetError(f"{target!r} is not of the form module:{what}, as in {such_as}")
    if sys.path[:1] != [os.getcwd()]:
        sys.path.insert(0, os.getcwd())
    try:
        thing: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not (module_name + ".").startswith(error.name + "."):
            raise
        raise TargetError(
            f"there is no module {error.name!r} (looked in {os.getcwd()} and sys.path)"
        ) from None
    for name in path.split("."):
        try:
            thing = getattr(thing, name)
        except AttributeError:
            raise TargetError(f"{module_name!r} has no {path!r}") from None
    return thing


def load_lifespan(lifespan: object) -> Any:
    """
    Return a lifespan, imported where it is a name.

    Raises: as `load_target`; TypeError for what cannot be called.
    """
    found = load_target(lifespan, "function", "feeds:feed") if isinstance(lifespan, str) else lifespan
    if found is not None and not callable(found):
        raise TypeError(
            f"lifespan is {found!r}, expected a function that returns an async context manager, or its name"
        )
    return found
