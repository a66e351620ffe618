"""Resay: a real peer for your tests and programs. TCP, UDP and unix sockets, TLS, transforms in Python or native.

    >>> import resay
    >>> with resay.Engine("tcp://127.0.0.1:0", chain="uppercase", record=True) as engine:
    ...     with engine.listeners[0].connect() as sock:
    ...         sock.sendall(b"hello")
    ...         answer = sock.recv(100)
    >>> answer
    b'HELLO'

`Engine` has listeners; each `Listener` gives clients, takes a chain, records, and makes trouble on demand. `resay.faults` are the
bundled faults with types. The pytest plugin comes with the package: ask for the fixture `resay_server`. For TLS see `Engine`
(`tls://127.0.0.1:0` with `cert`, and the plugin file libtls.so) and `Client` (`ca`).
"""

import os as _os

# Where names are. A module is loaded when one of its names is first used: `import resay` alone costs next to nothing.
_HOMES = {
    "_client": ("Client", "dry_run"),
    "_connections": ("CloseReason", "Connection", "Event", "EventKind", "Events"),
    "_engine": ("Engine", "Failure", "Stats", "TransformInfo", "transforms"),
    "_errors": (
        "BugError", "ExpectationError", "ForkedError", "PluginError", "ResayError", "SpecError", "StateError", "WaitTimeout",
    ),
    "_listener": ("Listener",),
    "_recording": ("Message", "Recording"),
    "_scripts": ("Script",),
    "_transforms": ("CLOSE", "PASS", "RESET", "EndOfStream", "Last", "Peer", "Verdict"),
    "faults": ("Stage",),
}
# Types of arguments: the stubs have them for type checkers.
_ALIASES = ("Address", "Kind", "Pem", "Reply", "Function", "Conversation", "Transform", "Chain")

__all__ = sorted(name for names in _HOMES.values() for name in names) + [
    "abi", "faults", "find_command", "get_include", "get_library",
]


def _module(name):
    import sys

    full = f"resay.{name}"
    __import__(full)
    return sys.modules[full]


def __getattr__(name):
    if name in ("__version__", "abi"):
        native = _module("_native")
        globals().update(__version__=native.lib.resay_version().decode(), abi=native.RESAY_ABI)
        return globals()[name]
    if name in _ALIASES:
        return getattr(_module("_aliases"), name)
    if name in ("faults", "plot", "pytest"):
        return _module(name)
    for home, names in _HOMES.items():
        if name in names:
            module = _module(home)
            for each in names:
                found = globals()[each] = getattr(module, each)
                if home != "faults" and hasattr(found, "__module__") and callable(found):
                    found.__module__ = "resay"
            return globals()[name]
    raise AttributeError(f"module 'resay' has no attribute {name!r}")


def __dir__():
    return [*globals(), *__all__, *_ALIASES, "__version__"]


def _here(*parts):
    from pathlib import Path

    return Path(_os.path.abspath(__file__)).parent.joinpath(*parts)


def get_include():
    """The directory of resay.h and resay_plugin.h, for building plugins against the package."""
    return _here("include")


def get_library():
    """The shared library, libresay.so.1."""
    from pathlib import Path

    return Path(_module("_native").library_path)


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
