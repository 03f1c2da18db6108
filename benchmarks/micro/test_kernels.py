"""The kernels, each set that this CPU runs, and other libraries': unmask, validate, and both in one pass.

Every call has the price of a Python function beside the kernel's own, most of what 16 bytes take;
in `unmask`, that of finding the set by its name as well. Sets compare fairly all the same. Others make
a new object for the result, which fastws does only where a group says "new".

The set that the rest of fastws uses is chosen at import. For the other benchmarks with another:
FASTWS_KERNELS=scalar make micro ARGS="-k receive".
"""

import frames
import pytest

from fastws import _kernels

from .others import MASKS, VALIDATORS
from .payloads import KEY, ascii_text, mixed_text, random_bytes

SIZES = [16, 128, 1024, 16 * 1024, 64 * 1024, 1024 * 1024]
TEXTS = {"ascii": ascii_text, "mixed": mixed_text}

each_set = pytest.mark.parametrize("library", _kernels.supported())
each_size = pytest.mark.parametrize("size", SIZES)
each_text = pytest.mark.parametrize("kind", TEXTS)


@each_size
@each_set
def test_unmask(benchmark, library, size):
    benchmark.group = f"unmask {size}"
    src, into = random_bytes(size), bytearray(size)
    benchmark(_kernels.unmask, src, KEY, into=into, kernel=library)
    assert into == frames.xor(src, KEY)


@each_size
@pytest.mark.parametrize("library", ["fastws", *MASKS])
def test_unmask_into_a_new_object(benchmark, library, size):
    benchmark.group = f"unmask new {size}"
    src = random_bytes(size)
    mask = MASKS.get(library, _kernels.unmask)
    assert benchmark(mask, src, KEY) == frames.xor(src, KEY)


@each_text
@each_size
@each_set
def test_validate(benchmark, library, size, kind):
    benchmark.group = f"validate {kind} {size}"
    text = TEXTS[kind](size)
    utf8 = _kernels.Utf8(kernel=library)
    assert benchmark(utf8.validate, text) == size
    assert utf8.complete
    assert utf8.ascii == text.isascii()
    # One that passed everything would be fast, too.
    assert _kernels.Utf8(kernel=library).validate(text[:-1] + b"\xff") == size - 1


@each_text
@each_size
@pytest.mark.parametrize("library", VALIDATORS)
def test_validate_by_others(benchmark, library, size, kind):
    benchmark.group = f"validate {kind} {size}"
    text = TEXTS[kind](size)
    validate = VALIDATORS[library]
    assert benchmark(validate, text)
    assert not validate(text[:-1] + b"\xff")


@each_text
@each_size
@each_set
def test_unmask_validate(benchmark, library, size, kind):
    benchmark.group = f"unmask_validate {kind} {size}"
    text = TEXTS[kind](size)
    src, into = frames.xor(text, KEY), bytearray(size)
    utf8 = _kernels.Utf8(kernel=library)
    assert benchmark(utf8.unmask_validate, src, KEY, into=into) == size
    assert into == text
    assert utf8.complete
    assert utf8.ascii == text.isascii()
