"""Run the Autobahn testsuite against echo servers and an echo client, and judge the outcome.

The suite runs on Python 2.7 only. One is looked for in $AUTOBAHN_PYTHON, then on PATH, then among pyenv's
versions; what the suite needs is installed once, under build/autobahn, and nothing is added to that Python.

Exit status: 0 when every case passed; 1 when one did not, or could not be run.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import verdict

HERE = Path(__file__).resolve().parent
BUILD = HERE.parents[1] / "build" / "autobahn"
REQUIREMENTS = HERE / "requirements-py27.txt"
# Masking and UTF-8 in C for the client, which section 9 keeps busy. The suite runs without it.
ACCELERATOR = "wsaccel==0.6.6"
# The suite has no 8 and 11; 12 and 13 are compression.
SECTIONS = ["1", "2", "3", "4", "5", "6", "7", "9", "10", "12", "13"]
# Of each case of 12 and 13. The suite's own 1000 take a quarter of an hour.
MESSAGES = 50
# The same where compression is that of a server before it, and only what carries it is another.
FEW_MESSAGES = 5
# 9 is about size, of which the protocol core decides: once for each way to receive is enough.
WITHOUT_LOAD = [section for section in SECTIONS if section != "9"]
SERVER = [sys.executable, str(HERE / "server.py")]
UVICORN = [sys.executable, str(HERE / "uvicorn_server.py")]
CLIENT = [sys.executable, str(HERE / "client.py")]
START_TIMEOUT = 15.0  # seconds for the server to print its port
STOP_TIMEOUT = 10.0  # seconds for a process to end after SIGTERM


class CannotRun(Exception):
    """The cases could not be run, or not to the end."""


def is_python27(python: str) -> bool:
    # Only running it tells: pyenv's shims are on PATH for versions that are not selected, and fail.
    check = [python, "-c", "import sys; sys.exit(sys.version_info[:2] != (2, 7))"]
    try:
        return (
            subprocess.run(check, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode == 0
        )
    except OSError:
        return False


def find_python27() -> str:
    """Return the path of a Python 2.7 that runs. Raises: CannotRun."""
    given = os.environ.get("AUTOBAHN_PYTHON")
    if given:
        if not is_python27(given):
            raise CannotRun(f"AUTOBAHN_PYTHON is {given!r}, which does not run as Python 2.7")
        return given
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    on_path = filter(None, map(shutil.which, ("python2.7", "python2")))
    for python in (*on_path, *map(str, sorted(pyenv.glob("versions/2.7*/bin/python2.7")))):
        if is_python27(python):
            return python
    raise CannotRun(
        "the Autobahn testsuite runs on Python 2.7 only, and none was found in $AUTOBAHN_PYTHON, on PATH or "
        "among pyenv's versions; get one with 'pyenv install 2.7.18', or set AUTOBAHN_PYTHON to its path"
    )


def pip27(python: str, log: Path, *args: str) -> bool:
    # To a log, for this old pip has much to say about its own age.
    command = [python, "-m", "pip", "install", "--no-deps", *args]
    with log.open("ab") as out:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, check=False)
    return done.returncode == 0


def install_suite(python: str) -> Path:
    """
    Return the folder that holds the suite for this Python 2.7, installing it when it is not there.

    The folder is filled under another name and renamed when complete, so one that exists can be trusted, also
    after a run that was killed, and two runs at once do not disturb each other.
    """
    identity = "\0".join([REQUIREMENTS.read_text(), ACCELERATOR, os.path.realpath(python)])
    packages = BUILD / f"packages-{hashlib.sha256(identity.encode()).hexdigest()[:12]}"
    if packages.is_dir():
        return packages
    print(f"installing the Autobahn testsuite for {python}", flush=True)
    BUILD.mkdir(parents=True, exist_ok=True)
    log = BUILD / "install.log"
    log.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(dir=BUILD, prefix="partial-") as partial:
        target = Path(partial, "packages")
        if not pip27(python, log, "--target", str(target), "-r", str(REQUIREMENTS)):
            raise CannotRun(f"the Autobahn testsuite did not install, see {log}:\n{tail(log)}")
        if not pip27(python, log, "--target", str(target), ACCELERATOR):
            print(f"{ACCELERATOR} did not install, see {log}: section 9 will be slow", flush=True)
        try:
            target.rename(packages)
        except OSError:
            if not packages.is_dir():  # else another run was first
                raise
    return packages


def tail(log: Path, lines: int = 8) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


def stop(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def read_port(server: subprocess.Popen[str], stdout: IO[str], log: Path) -> int:
    ready, _, _ = select.select([stdout], [], [], START_TIMEOUT)
    line = stdout.readline() if ready else ""
    if not line.strip().isdigit():
        state = f"ended with status {server.wait()}" if ready and not line else f"printed {line!r}"
        raise CannotRun(
            f"the server should print its port within {START_TIMEOUT:.0f} s; it {state}\n{tail(log)}"
        )
    return int(line)


@contextmanager
def running(command: list[str], log: Path) -> Iterator[int]:
    """Run the server; give its port. Raises: CannotRun, also when the server does not live to the end."""
    with log.open("w") as stderr:
        try:
            server = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr, text=True
            )
        except OSError as error:
            raise CannotRun(f"the server did not start: {error}") from error
    assert server.stdout is not None
    try:
        yield read_port(server, server.stdout, log)
        status = server.poll()
    finally:
        stop(server)
        server.stdout.close()
    if status is not None:
        raise CannotRun(f"the server ended during the run, with status {status}\n{tail(log)}")


def suite(python: str, script: str, packages: Path, *args: str) -> list[str]:
    return [python, "-s", str(HERE / script), str(packages), *args]


def run_client(command: list[str], log: Path, limit: float) -> None:
    """Run a client to its end. Raises: CannotRun when it fails."""
    with log.open("w") as out:
        client = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, text=True)
    try:
        status = client.wait(limit)
    except subprocess.TimeoutExpired:
        # There is a report of the cases that have ended; the others are objections.
        print(f"stopped the client after {limit:.0f} s", flush=True)
        status = 0
    finally:
        stop(client)
    if status:
        raise CannotRun(f"the client ended with status {status}, see {log}:\n{tail(log)}")


def fuzz_server(
    python: str, packages: Path, command: list[str], report: Path, cases: list[str], limit: float
) -> None:
    """Run the suite's client against a server of ours. `cases`: how many messages, and the sections."""
    with running(command, report / "server.log") as port:
        uri = f"{'wss' if '--tls' in command else 'ws'}://127.0.0.1:{port}"
        fuzzing = suite(python, "fuzzing_client.py", packages, uri, str(report), *cases)
        run_client(fuzzing, report / "client.log", limit)


def fuzz_client(
    python: str, packages: Path, command: list[str], report: Path, cases: list[str], limit: float
) -> None:
    """Run a client of ours against the suite's server."""
    fuzzing = suite(python, "fuzzing_server.py", packages, str(report), *cases)
    with running(fuzzing, report / "server.log") as port:
        run_client([*command, str(port)], report / "client.log", limit)


def run_cases(name: str, fuzz: Callable[[Path], None], report: Path) -> bool:
    """Run the suite and print the outcome; say whether every case passed. Raises: CannotRun."""
    shutil.rmtree(report, ignore_errors=True)
    report.mkdir(parents=True)
    began = time.monotonic()
    died = None
    try:
        fuzz(report)
    except CannotRun as error:
        if not (report / "index.json").exists():
            raise
        died = error  # after the outcomes, which tell where

    chosen = json.loads((report / "chosen.json").read_text())
    outcomes = json.loads((report / "index.json").read_text()).get("fastws", {})
    print(f"{name}: {len(outcomes)} of {len(chosen)} cases in {time.monotonic() - began:.1f} s")
    for title, aspect in ("behaviour", "behavior"), ("closing behaviour", "behaviorClose"):
        counts = ", ".join(f"{number} {name}" for name, number in verdict.count(outcomes, aspect).items())
        print(f"  {title}: {counts or 'none'}")
    found = verdict.objections(chosen, outcomes)
    for line in found:
        print(f"  {line}")
    print(f"  report: {os.path.relpath(report / 'index.html')}", flush=True)
    if died:
        raise died
    return not found


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        "sections",
        nargs="*",
        metavar="SECTION",
        help=f"default: {' '.join(SECTIONS)}, and 9 for callbacks, tls and streams only",
    )
    parser.add_argument(
        "--only",
        choices=("callbacks", "coroutines", "tls", "streams", "streams-tls", "uvicorn", "client"),
        help="one of those that are tested",
    )
    parser.add_argument("--report", type=Path, default=BUILD / "report", metavar="DIR", help="is replaced")
    parser.add_argument(
        "--messages",
        type=int,
        metavar="N",
        help=f"in each case of 12 and 13; default: {MESSAGES}, and {FEW_MESSAGES} for tls and streams",
    )
    parser.add_argument(
        "--limit", type=float, default=600.0, metavar="SECONDS", help="for the cases; %(default)s"
    )
    args = parser.parse_args()
    streams = [*SERVER, "--transport", "streams"]
    testees = {
        "callbacks": (fuzz_server, SERVER, SECTIONS, MESSAGES),
        "coroutines": (fuzz_server, [*SERVER, "--coroutines"], WITHOUT_LOAD, MESSAGES),
        "tls": (fuzz_server, [*SERVER, "--tls"], SECTIONS, FEW_MESSAGES),
        "streams": (fuzz_server, streams, SECTIONS, FEW_MESSAGES),
        "streams-tls": (fuzz_server, [*streams, "--tls"], WITHOUT_LOAD, FEW_MESSAGES),
        "uvicorn": (fuzz_server, UVICORN, WITHOUT_LOAD, MESSAGES),
        "client": (fuzz_client, CLIENT, WITHOUT_LOAD, MESSAGES),
    }
    passed = True
    try:
        python = find_python27()
        packages = install_suite(python)
        for name, (fuzz, command, sections, messages) in testees.items():
            if args.only in (None, name):
                cases = [str(args.messages or messages), *(args.sections or sections)]
                passed &= run_cases(
                    name,
                    lambda report, fuzz=fuzz, command=command, cases=cases: fuzz(
                        python, packages, command, report, cases, args.limit
                    ),
                    args.report / name,
                )
    except CannotRun as error:
        print(f"conformance: cannot tell: {error}", file=sys.stderr)
        return 1
    print(f"conformance: {'passed' if passed else 'FAILED'}")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
