import sys
from pathlib import Path

# frames.py, which knows nothing of fastws, makes what the benchmarks parse.
sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "core"))


def pytest_addoption(parser):
    parser.addoption("--own", action="store_true", help="micro-benchmarks: time fastws alone")


def pytest_report_header():
    from .others import LEFT_OUT

    return f"micro-benchmarks without {', '.join(LEFT_OUT)}" if LEFT_OUT else None


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--own"):
        return
    from fastws._kernels import supported

    own = {"fastws", *supported()}

    def is_own(item):
        call = getattr(item, "callspec", None)  # of what is parametrized
        return call is None or call.params.get("library", "fastws") in own

    chosen = [item for item in items if "benchmark" in item.fixturenames and is_own(item)]
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = chosen
