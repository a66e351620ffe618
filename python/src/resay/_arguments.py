"""What callers give, on its way to C: checked, since C would take half of it, or something else."""

import operator
import os

from ._errors import SpecError

# C counts milliseconds in 32 bits with a sign. Whoever waits longer than that, 24 days, waits for ever.
_MS_MAX = (1 << 31) - 1
_FOR_EVER = -1


def encoded(what, text):
    """A text. For C it would end at the first NUL."""
    if not isinstance(text, str):
        raise TypeError(f"{what} is a str, not {type(text).__name__}")
    data = text.encode("utf-8", "surrogateescape")
    at = data.find(0)
    if at >= 0:
        raise SpecError(f"{what}: a text cannot contain NUL", text, at)
    return data


def path(what, name):
    """The name of a file or directory: a str, bytes or a path."""
    data = os.fsencode(name)
    if 0 in data:
        raise ValueError(f"{what}: the name of a file cannot contain NUL: {name!r}")
    return data


def data(what, value):
    """Bytes, out of all that has them. bytes() would make as many zeros of a number."""
    if isinstance(value, bytes):
        return value
    try:
        return bytes(memoryview(value))
    except TypeError:
        if hasattr(type(value), "__bytes__"):  # such as a Message
            return bytes(value)
        raise TypeError(f"{what}: bytes are expected, not {type(value).__name__}") from None


def seconds(what, value):
    """A time, 0 or more. It may be infinite."""
    try:
        is_time = value >= 0  # NaN is not
    except TypeError:
        raise TypeError(f"{what} is a number of seconds, not {type(value).__name__}") from None
    if not is_time:
        raise ValueError(f"{what} is {value!r}, but must be 0 or more seconds")
    return value


def milliseconds(what, value):
    """A time for C; None: for ever."""
    if value is None:
        return _FOR_EVER
    count = 1000 * seconds(what, value)
    return round(count) if count <= _MS_MAX else _FOR_EVER


def number(what, value, bits=32, least=0):
    """A number without a sign. ctypes would drop what does not fit."""
    try:
        count = operator.index(value)
    except TypeError:
        raise TypeError(f"{what} is a whole number, not {type(value).__name__}") from None
    if not least <= count < 1 << bits:
        raise ValueError(f"{what} is {value!r}, but must be from {least} to {(1 << bits) - 1}")
    return count
