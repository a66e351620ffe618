"""Resay: a real peer for your tests and programs. TCP, UDP and unix sockets, transforms in Python or native.

    >>> import resay
    >>> with resay.Engine("tcp://127.0.0.1:0", chain="uppercase", record=True) as engine:
    ...     with engine.listeners[0].connect() as sock:
    ...         sock.sendall(b"hello")
    ...         answer = sock.recv(100)
    >>> answer
    b'HELLO'

`Engine` has listeners; each `Listener` gives clients, takes a chain, records, and makes trouble on demand. `resay.faults` are the
bundled faults with types. The pytest plugin comes with the package: ask for the fixture `resay_server`.
"""

import os as _os

from . import _native, faults
from ._client import Client, dry_run
from ._connections import CloseReason, Connection, Event, EventKind, Events
from ._engine import Engine, Failure, Stats, TransformInfo, transforms
from ._errors import (
    BugError, ExpectationError, ForkedError, PluginError, ResayError, SpecError, StateError, WaitTimeout,
)
from ._listener import Listener
from ._recording import Message, Recording
from ._scripts import Script
from ._transforms import CLOSE, PASS, RESET, EndOfStream, Last, Peer, Verdict
from .faults import Stage

__version__ = _native.lib.resay_version().decode()
abi = _native.RESAY_ABI

__all__ = [
    "CLOSE", "PASS", "RESET", "BugError", "Client", "CloseReason", "Connection", "EndOfStream", "Engine", "Event", "EventKind",
    "Events", "ExpectationError", "Failure", "ForkedError", "Last", "Listener", "Message", "Peer", "PluginError", "Recording",
    "ResayError", "Script", "SpecError", "Stage", "StateError", "Stats", "TransformInfo", "Verdict", "WaitTimeout", "abi", "dry_run",
    "faults", "find_command", "get_include", "get_library", "transforms",
]

for _name in __all__:
    _object = globals()[_name] if _name in globals() else None
    if isinstance(_object, type) or callable(_object):
        if getattr(_object, "__module__", "").startswith("resay._"):
            _object.__module__ = "resay"
del _name, _object

# Annotations that exist for type checkers, and at run time as texts for those who look.
_ALIASES = ("Address", "Kind", "Reply", "Function", "Conversation", "Transform", "Chain")


def __getattr__(name):
    if name in _ALIASES:
        from . import _aliases

        return getattr(_aliases, name)
    if name == "pytest":
        import importlib

        return importlib.import_module("resay.pytest")
    raise AttributeError(f"module 'resay' has no attribute {name!r}")


def _here(*parts):
    from pathlib import Path

    return Path(_os.path.abspath(__file__)).parent.joinpath(*parts)


def get_include():
    """The directory of resay.h and resay_plugin.h, for building plugins against the package."""
    return _here("include")


def get_library():
    """The shared library, libresay.so.1."""
    from pathlib import Path

    return Path(_native.library_path)


def find_command():
    """The command `resay` that came with the package."""
    import sys
    import sysconfig
    from pathlib import Path

    places = [_os.path.dirname(sys.executable), sysconfig.get_path("scripts")]
    places += [sysconfig.get_path("scripts", scheme) for scheme in sysconfig.get_scheme_names() if scheme.startswith("posix_")]
    # `pip install --target DIR` puts scripts into DIR/bin.
    places.append(str(_here().parent / "bin"))
    for place in places:
        command = Path(place, "resay")
        if command.is_file():
            return command
    raise FileNotFoundError("the command resay is not installed beside this package")
