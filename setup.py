"""Build the C extension modules: ext/fastws/*.pyx, with the plain C of ext/kernels and ext/load beneath them.

Environment, all optional:
    FASTWS_BUILD=checked    every Cython check on again, assertions kept
    FASTWS_BUILD=asan       the same under AddressSanitizer and UndefinedBehaviorSanitizer
    FASTWS_ANNOTATE=1       leave Cython's annotated HTML beside the generated C
"""

import glob
import os
import platform
import sys
import tempfile

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError, LinkError

if os.name != "posix":
    sys.exit(f"fastws needs a POSIX system; this is {platform.system()}")

MODE = os.environ.get("FASTWS_BUILD", "release")
if MODE not in ("release", "checked", "asan"):
    sys.exit(f"FASTWS_BUILD is {MODE!r}, expected release, checked or asan")

CFLAGS = [
    "-std=gnu11",
    "-fvisibility=hidden",
    "-fno-math-errno",
    "-Wall",
    "-Wextra",
    # What Cython generates is not ours to fix.
    "-Wno-unused-parameter",
    "-Wno-missing-field-initializers",
    "-Wno-cast-function-type",
    "-Wno-unused-function",
]
LDFLAGS = ["-Wl,-z,relro,-z,now"]
DEFINES = [("ZLIB_CONST", "1"), ("_GNU_SOURCE", "1")]  # zlib's input is const; memmem and epoll's are GNU's
if MODE == "release":
    CFLAGS += [
        "-O3",
        "-g1",
        "-fstack-protector-strong",
        "-fstack-clash-protection",
        "-U_FORTIFY_SOURCE",
        "-D_FORTIFY_SOURCE=2",
    ]
    DEFINES += [("CYTHON_WITHOUT_ASSERTIONS", "1")]
else:
    CFLAGS += ["-O1", "-g", "-fno-omit-frame-pointer", "-UNDEBUG"]
    if MODE == "asan":
        CFLAGS += ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
        LDFLAGS += ["-fsanitize=address,undefined"]

DIRECTIVES = {
    "language_level": "3str",
    "binding": False,
    "embedsignature": True,
    # On everywhere; a function over raw pointers may turn them off for itself. Without
    # boundscheck an index into a Python list is unchecked too.
    "boundscheck": True,
    "wraparound": True,
    "initializedcheck": True,
    "nonecheck": True,
    "cdivision": False,
    "freethreading_compatible": False,
}

# What the reactor is made of needs epoll; elsewhere connections are on the event loop's own transports.
# So does the load generator.
EPOLL = {"_reactor", "_reading", "_writing", "_load"}
MODULES = [
    path
    for path in sorted(glob.glob("ext/fastws/*.pyx"))
    if sys.platform.startswith("linux") or os.path.splitext(os.path.basename(path))[0] not in EPOLL
]
# The plain C that a module is made of as well, and what it needs.
PLAIN_C = {"_kernels": "kernels", "_load": "load"}
LIBRARIES = {"_deflate": ["z"], "_inflate": ["z"], "_load": ["z", "dl"]}


class BuildExt(build_ext):
    """Says what is missing before the compiler does."""

    def build_extensions(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            source = os.path.join(folder, "zlib.c")
            with open(source, "w") as file:
                file.write("#include <zlib.h>\nint main(void) { return zlibVersion() == 0; }\n")
            try:
                objects = self.compiler.compile([source], output_dir=folder)
                self.compiler.link_executable(objects, os.path.join(folder, "zlib"), libraries=["z"])
            except (CompileError, LinkError):
                sys.exit(
                    "fastws needs a C compiler and zlib with its header, zlib.h: "
                    "install gcc and zlib1g-dev (Debian, Ubuntu), zlib-devel (Fedora) or zlib-dev (Alpine)"
                )
        super().build_extensions()


def extension(path: str) -> Extension:
    name = os.path.splitext(os.path.basename(path))[0]
    folder = f"ext/{PLAIN_C.get(name, 'kernels')}"
    return Extension(
        f"fastws.{name}",
        [path, *(sorted(glob.glob(f"{folder}/*.c")) if name in PLAIN_C else [])],
        include_dirs=[folder],
        libraries=LIBRARIES.get(name, []),
        depends=sorted(glob.glob(f"{folder}/*.h")),
        define_macros=DEFINES,
        extra_compile_args=CFLAGS,
        extra_link_args=LDFLAGS,
    )


setup(
    cmdclass={"build_ext": BuildExt},
    ext_modules=cythonize(
        [extension(path) for path in MODULES],
        include_path=["ext"],
        build_dir=f"build/cython-{MODE}",
        compiler_directives=DIRECTIVES,
        annotate=bool(os.environ.get("FASTWS_ANNOTATE")),
    ),
)
