"""What goes wrong: from codes of the C interface to exceptions."""

import os

from . import _native
from ._native import lib


class ResayError(Exception):
    """A failure of Resay. `code` is its RESAY_E_ number, or 0. Refusals of the operating system are plain OSError."""

    code = 0

    def __init__(self, *args, code=0):
        super().__init__(*args)
        self.code = code


class SpecError(ResayError, ValueError):
    """A URL, chain or option that cannot be read. str() shows the text with a caret under the place."""

    def __init__(self, message, text="", position=-1, *, code=_native.RESAY_E_SPEC):
        super().__init__(message, code=code)
        self.text, self.position = text, position

    def __str__(self):
        message = super().__str__()
        if not self.text or self.position < 0:
            return message
        # The position counts bytes; the caret stands under a character.
        before = self.text.encode("utf-8", "surrogateescape")[: self.position].decode("utf-8", "replace")
        shown = self.text.replace("\0", "\N{SYMBOL FOR NULL}").encode("utf-8", "backslashreplace").decode()
        return f"{message}\n  {shown}\n  {' ' * len(before)}^"


class PluginError(ResayError, ValueError):
    """A transform is unknown, or refuses its options; a file cannot be loaded."""


class StateError(ResayError, RuntimeError):
    """The call does not fit: closed already, started twice, inside a transform."""


class ForkedError(StateError):
    """The engine belongs to the parent of this process."""


class BugError(ResayError, RuntimeError):
    """A fault of Resay itself was caught."""


class ExpectationError(ResayError, AssertionError):
    """A script or expect() saw something else; carries the transcript."""


class WaitTimeout(ResayError, TimeoutError, AssertionError):
    """Nothing came in time; carries the transcript."""


_CLASSES = {
    _native.RESAY_E_PLUGIN: PluginError,
    _native.RESAY_E_STATE: StateError,
    _native.RESAY_E_HANDLE: StateError,
    _native.RESAY_E_FORKED: ForkedError,
    _native.RESAY_E_BUG: BugError,
}


def error_of(code, error=None, text=""):
    """The exception of a failure. `text` is what the call was to read: a URL or a chain."""
    known = error is not None and error.code != 0
    message = error.message if known else lib.resay_last_error() or lib.resay_strerror(code)
    message = message.decode("utf-8", "replace")
    if code == _native.RESAY_E_SYS:
        errno = error.os_errno if known else _errno_in(message)
        if not errno:
            return OSError(message)
        made = OSError(errno, os.strerror(errno))
        # The reason of the system first, as always; then what Resay wanted to do.
        made.strerror = message
        return made
    if code == _native.RESAY_E_SPEC:
        has_place = known and error.length > 0
        return SpecError(message, text if has_place else "", error.position if has_place else -1)
    if code == _native.RESAY_E_TIMEOUT:
        return TimeoutError(message)
    return _CLASSES.get(code, ResayError)(message, code=code)


def _errno_in(message):
    """The number of a failure of the system whose text is all that is known: what the message ends with."""
    import errno

    return next((number for number in errno.errorcode if message.endswith(f": {os.strerror(number)}")), 0)


def check(code, error=None, text=""):
    """Returns a code that is a success; raises any other."""
    if code < 0:
        raise error_of(code, error, text)
    return code
