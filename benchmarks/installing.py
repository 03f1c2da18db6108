"""
What is compared, got ready in build/bench/: the yardstick compiled, runtimes and modules for JavaScript from
npm, a certificate; and the versions of it all.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

HERE = Path(__file__).resolve().parent
SERVERS = HERE / "servers"
LOAD = HERE.parent / "ext" / "load"  # has a header that the yardstick shares
BUILD = HERE.parent / "build" / "bench"
LIMIT = BUILD / "limit"
CERTIFICATE, KEY = BUILD / "tls" / "cert.pem", BUILD / "tls" / "key.pem"
MODULES = BUILD / "npm" / "node_modules"
NPM = {"bun": "bun@1.4.5", "deno": "deno@2.9.6", "ws": "ws@8.23.0", "bufferutil": "bufferutil@4.1.0"}
PYTHON_PACKAGES = (
    "fastws",
    "uvloop",
    "httptools",
    "picows",
    "websockets",
    "aiohttp",
    "tornado",
    "socketify",
    "uvicorn",
    "wsproto",
    "granian",
)
INSTALL_SECONDS = 300
CERTIFICATE_DAYS = 30


def executable(runtime: str) -> str | None:
    """
    Return where bun, deno or node is, or None.

    That is what BUN, DENO or NODE in the environment names; else bun and deno are from npm, node on the path.
    """
    installed = MODULES / ".bin" / runtime
    named = os.environ.get(runtime.upper())
    if named or runtime == "node":
        return named or shutil.which("node")
    return str(installed) if installed.exists() else None


def installed_version(module: str) -> str | None:
    try:
        version: str = json.loads((MODULES / module / "package.json").read_text())["version"]
    except (OSError, ValueError):
        return None
    return version


def install_from_npm() -> None:
    """Install what is not there in its version; without success it will be missing, and that is all."""
    npm = shutil.which("npm")
    wanted = [it for name, it in NPM.items() if it != f"{name}@{installed_version(name)}"]
    if not wanted or not npm:
        return
    print(f"installing {', '.join(wanted)} in {os.path.relpath(BUILD / 'npm')}", flush=True)
    (BUILD / "npm").mkdir(parents=True, exist_ok=True)
    place = ["--prefix", str(BUILD / "npm"), "--no-audit", "--no-fund", "--loglevel", "error", "--save-exact"]
    try:
        subprocess.run([npm, "install", *place, *wanted], timeout=INSTALL_SECONDS, check=True)
    except (subprocess.SubprocessError, OSError) as error:
        print(f"could not install {', '.join(wanted)}: {error}", file=sys.stderr)


def compile_c(source: Path, target: Path) -> None:
    """Compile a program unless it is newer than its source and all headers of the load generator."""
    compiler = shutil.which("gcc")
    if not compiler:
        sys.exit("the benchmarks need gcc (Debian: gcc libc6-dev)")
    target.parent.mkdir(parents=True, exist_ok=True)
    newest = max(path.stat().st_mtime for path in (source, *LOAD.glob("*.h")))
    if target.exists() and target.stat().st_mtime >= newest:
        return
    command = [compiler, "-O2", "-Wall", "-Wextra", "-I", str(LOAD), "-o", str(target), str(source)]
    if subprocess.run(command, check=False).returncode:
        sys.exit(f"{source.name} was not built; see what the compiler says above")


def build_yardstick() -> None:
    compile_c(SERVERS / "limit.c", LIMIT)


def make_certificate() -> None:
    """Make a self-signed certificate for localhost, EC P-256, the same for all servers; needs openssl."""
    CERTIFICATE.parent.mkdir(parents=True, exist_ok=True)
    command = [
        *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
        *("-days", str(CERTIFICATE_DAYS), "-subj", "/CN=localhost"),
        *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
        *("-keyout", str(KEY), "-out", str(CERTIFICATE)),
    ]
    try:
        subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    except FileNotFoundError:
        sys.exit("the cells over TLS need openssl (Debian: openssl)")
    except subprocess.CalledProcessError as error:
        sys.exit(f"openssl made no certificate: {error.stderr.strip()}")


def versions() -> dict[str, str]:
    """Return the version of each thing that a figure depends on, or "not installed"."""
    found = {"gcc": output("gcc", "-dumpfullversion"), "python": output(sys.executable, "-V").split()[-1]}
    for name in PYTHON_PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    for runtime in ("node", "bun", "deno"):
        path = executable(runtime)
        number = re.search(r"\d+\.\d+\.\d+\S*", output(path, "--version")) if path else None
        found[runtime] = number[0] if number else "not installed"
    for module in ("ws", "bufferutil"):
        found[module] = installed_version(module) or "not installed"
    return found


def output(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (subprocess.SubprocessError, OSError):
        return "does not run"
    return done.stdout.strip() or "does not run"
