"""Run pytest on the fastws of another folder than the working tree's: a sanitizer or coverage build.

    test_build.py LIB [pytest's arguments]

Fails when the tests imported fastws from anywhere else, for then they have said nothing about that build.
"""

import os
import sys
from pathlib import Path

import pytest


def main() -> int:
    lib = Path(sys.argv[1]).resolve()
    # For this process, and for those that the tests start.
    sys.path.insert(0, str(lib))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(lib), os.environ.get("PYTHONPATH")]))
    status = int(pytest.main(sys.argv[2:]))
    imported = getattr(sys.modules.get("fastws"), "__file__", None)
    if status == 0 and (imported is None or lib not in Path(imported).resolve().parents):
        print(f"the tests should import fastws from {lib}, but it is {imported}", file=sys.stderr)
        return 1
    return status


if __name__ == "__main__":
    sys.exit(main())
