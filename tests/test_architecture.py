"""The layers of the package: who may import whom, and what may be in which module."""

import ast
import inspect
import pathlib
import re
import subprocess
import sys

import pytest

import fastws

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = sorted((ROOT / "fastws").rglob("*.py"))
EXTENSION = sorted((ROOT / "ext" / "fastws").glob("*.pyx"))
KERNELS = sorted(
    path
    for folder in ("kernels", "load")
    for path in (ROOT / "ext" / folder).rglob("*")
    if path.suffix in (".c", ".h")
)
SANS_IO = [
    *(
        ROOT / "ext" / "fastws" / f"_{name}{suffix}"
        for name in ("frames", "masking", "messages", "outbox", "protocol", "kernels", "tls", "wheel")
        for suffix in (".pyx", ".pxd")
    ),
    *(ROOT / "fastws" / f"{name}.py" for name in ("codes", "exceptions", "headers", "http11", "handshake")),
]
IMPORT = re.compile(r"^\s*(?:from\s+([\w.]+)\s+c?import\s+(.+)|c?import\s+(.+))$")


def joined_lines(text):
    """Logical lines of a Cython source: what parentheses or backslashes continue is one."""
    text = re.sub(r'""".*?"""', "", text, flags=re.DOTALL)
    text = re.sub(r"#.*", "", text).replace("\\\n", " ")
    return re.sub(r"\(([^()]*)\)", lambda match: match[1].replace("\n", " "), text).splitlines()


def cython_imports(path):
    for line in joined_lines(path.read_text()):
        match = IMPORT.match(line)
        if match is None:
            continue
        source, names, modules = match.groups()
        if source is None:
            yield from (one.split(" as ")[0].strip() for one in modules.split(","))
        else:
            yield source
            yield from (f"{source}.{one.split(' as ')[0].strip()}" for one in names.split(","))


def is_type_checking(node):
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def python_imports(node):
    """Every import, inside functions too; not those for type checkers only."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0
        yield node.module
        yield from (f"{node.module}.{alias.name}" for alias in node.names)
    elif is_type_checking(node):
        for child in node.orelse:
            yield from python_imports(child)
    else:
        for child in ast.iter_child_nodes(node):
            yield from python_imports(child)


def imports_of(path):
    if path.suffix == ".py":
        return set(python_imports(ast.parse(path.read_text())))
    return set(cython_imports(path))


def name_of(path):
    """The module that a file is, or is a part of."""
    if path.suffix != ".py":
        return f"fastws.{path.stem}"
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def graph():
    """Which modules of the package a module needs, by name; a .pxd's needs are its module's."""
    sources = {}
    for path in [*PACKAGE, *EXTENSION, *(ROOT / "ext" / "fastws").glob("*.pxd")]:
        sources.setdefault(name_of(path), set()).update(imports_of(path))
    return {name: {one for one in needs if one in sources} - {name} for name, needs in sources.items()}


def circle_in(needs):
    """Return the names that are in a circle, or need one that is; none when there is an order."""
    needs = {name: set(others) for name, others in needs.items()}
    while ready := [name for name, others in needs.items() if not others & needs.keys()]:
        for name in ready:
            del needs[name]
    return needs


@pytest.mark.parametrize("path", KERNELS, ids=lambda path: path.name)
def test_kernels_are_c_without_python(path):
    included = re.findall(r"^\s*#\s*include\s*(\S+)", path.read_text(), re.MULTILINE)
    assert not [name for name in included if "Python" in name or "cpython" in name]


def known_to(path):
    return {"ssl"} if path.name == "_tls.pyx" else set()


@pytest.mark.parametrize("path", SANS_IO, ids=lambda path: path.name)
def test_modules_without_io_import_no_io(path):
    roots = {name.partition(".")[0] for name in imports_of(path)}
    # Of ssl only what works on memory.
    assert not roots & (
        {"asyncio", "uvloop", "socket", "select", "selectors", "ssl", "posix"} - known_to(path)
    )
    if path.suffix != ".py":
        # The C functions of a socket come by another way.
        assert not re.search(r'extern from "<?(?:sys/(?:socket|epoll)|netinet/|unistd)', path.read_text())
        assert not {
            n for n in imports_of(path) if n.startswith(("posix", "fastws._reactor", "fastws._connection"))
        }


def test_what_reads_imports_sees_them():
    # The tests here would pass for ever if it did not.
    assert "fastws._frames.WS_PONG" in imports_of(ROOT / "ext/fastws/_protocol.pyx")
    assert {"socket", "fastws._reading.Reading"} <= imports_of(ROOT / "ext/fastws/_reactor.pyx")
    assert {"asyncio", "fastws._reactor"} <= imports_of(ROOT / "fastws/transports.py")
    assert "fastws._connection" not in imports_of(ROOT / "fastws/opening.py")
    assert {"fastws._protocol", "fastws.handshake"} & set().union(*graph().values())
    assert circle_in({"a": {"b"}, "b": {"a"}, "c": set()}).keys() == {"a", "b"}


def test_imports_go_one_way():
    assert circle_in(graph()) == {}


def test_only_what_is_outside_needs_the_event_loop():
    using = {name for name, needs in graph().items() if "fastws._reactor" in needs}
    assert using == {"fastws.transports"}


def test_server_and_load_generator_share_no_code_but_that_of_uris():
    def is_load(name):
        return name.startswith(("fastws.bench", "fastws._load"))

    needs = graph()
    assert {name for name in needs if not is_load(name) and any(map(is_load, needs[name]))} == {"fastws.cli"}
    shared = {one for name in needs if is_load(name) for one in needs[name] if not is_load(one)}
    assert shared == {"fastws.exceptions", "fastws.uri", "fastws.version"}
    included = {
        name
        for path in (ROOT / "ext" / "load").glob("*.[ch]")
        for name in re.findall(r'^#include "(.+)"', path.read_text(), re.MULTILINE)
    }
    assert included
    assert [name for name in included if not (ROOT / "ext" / "load" / name).is_file()] == []


def test_importing_the_package_imports_its_two_requirements_at_most():
    program = (
        "import sys; before = set(sys.modules); import fastws; print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    roots = {name.partition(".")[0] for name in done.stdout.split()}
    assert "fastws" in roots
    known = sys.stdlib_module_names | {"fastws", "uvloop", "httptools"}
    # Compiled modules of Cython's leave this behind, which is no package.
    assert {root for root in roots - known if not root.startswith(("_cython_", "cython_runtime"))} == set()


@pytest.mark.parametrize("path", EXTENSION, ids=lambda path: path.stem)
def test_an_extension_module_has_a_stub(path):
    assert (ROOT / "fastws" / f"{path.stem}.pyi").is_file()


@pytest.mark.parametrize("name", [name for name in fastws.__all__ if name not in ("__version__", "Data")])
def test_a_public_name_has_a_docstring(name):
    thing = getattr(fastws, name)
    text = (vars(thing).get("__doc__") if inspect.isclass(thing) else thing.__doc__) or ""
    # A signature, which Cython and dataclasses write, is not yet a docstring.
    assert re.sub(rf"^{name}\(.*\)(?: -> .*)?$", "", text.strip(), flags=re.MULTILINE).strip()


def test_all_is_sorted_and_is_all():
    assert sorted(fastws.__all__) == fastws.__all__
    public = {
        name
        for name, thing in vars(fastws).items()
        if not name.startswith("_") and not inspect.ismodule(thing)
    }
    assert public | {"__version__"} == set(fastws.__all__)
