"""Masking and UTF-8 by other libraries, each as one function; those that are not installed are left out.

`LEFT_OUT` names them. A function masks as its library does for its own users: into the buffer given, if
it works in place, else into a new object.
"""

import importlib

LEFT_OUT = []


def module(name):
    """Return a module, or None and its package in LEFT_OUT."""
    try:
        return importlib.import_module(name)
    except ImportError:
        LEFT_OUT.append(name.partition(".")[0])
        return None


wsaccel = module("wsaccel.xormask")
utf8validator = module("wsaccel.utf8validator") if wsaccel else None
speedups = module("websockets.speedups")
aiohttp = module("aiohttp._websocket.mask")
numpy = module("numpy")


def mask_wsaccel(src, key):
    return wsaccel.XorMaskerSimple(key).process(src)


def mask_websockets(src, key):
    return speedups.apply_mask(src, key)


def mask_numpy(src, key):
    """With the key repeated over words of 8 bytes; what is left over byte by byte."""
    words = len(src) // 8
    out = bytearray(src)
    numpy.frombuffer(out, numpy.uint64, words)[:] ^= numpy.frombuffer(key * 2, numpy.uint64)[0]
    for i in range(8 * words, len(src)):
        out[i] ^= key[i & 3]
    return out


def mask_aiohttp(src, key):
    """In place: of a copy, as the others leave what they were given alone."""
    out = bytearray(src)
    aiohttp._websocket_mask_cython(key, out)
    return out


def validate_wsaccel(text):
    valid, complete, _, _ = utf8validator.Utf8Validator().validate(text)
    return valid and complete


def validate_python(text):
    """bytes.decode, which makes the str as well."""
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


MASKS = {
    name: mask
    for name, needed, mask in (
        ("wsaccel", wsaccel, mask_wsaccel),
        ("websockets", speedups, mask_websockets),
        ("aiohttp", aiohttp, mask_aiohttp),
        ("numpy", numpy, mask_numpy),
    )
    if needed
}
VALIDATORS = {"bytes.decode": validate_python}
if utf8validator:
    VALIDATORS["wsaccel"] = validate_wsaccel
