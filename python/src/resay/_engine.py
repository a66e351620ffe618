"""The engine: listeners, chains, transforms in Python, and the three ways to run."""

import atexit
import ctypes
import itertools
import os
import sys
import threading
import time
import warnings
import weakref
from contextlib import contextmanager

from . import _arguments, _native, _recording, _tls, _transforms, faults
from ._connections import Connections, EventKind, Events
from ._errors import ForkedError, ResayError, SpecError, StateError, check, error_of
from ._listener import Listener
from ._native import lib, text_of
from ._recording import Message, Recording, Tape

# Options whose numbers are times in seconds.
_TIMES = frozenset(
    ("idle_timeout", "write_timeout", "swap_timeout", "proxy_timeout", "handshake_timeout", "spin", "watchdog")
)
# Options of the engine; all others are of listeners. In errors of the former, places are those in the value; in errors of the
# latter they are those in `key=value`.
_OF_ENGINE = frozenset(("threads", "backend", "spin", "watchdog", "thread_name", "thread_stack", "thread_cpus"))
# How long the end of the process waits for a transform.
_EXIT_MS = 1000
# `run` looks for an exception of a signal handler this often, in case it came inside a transform.
_RUN_MS = 250

_FAILURES_MAX = 1000

_live: weakref.WeakSet = weakref.WeakSet()
# Engines whose last reference went inside one of their own callbacks. The next engine, or the end, closes them.
_postponed: list = []


class Stats:
    """The counters of a listener or an engine."""

    __slots__ = (
        "open", "accepted", "closed", "messages_in", "messages_out", "bytes_in", "bytes_out", "dropped", "rejected",
        "transform_errors", "accept_errors", "events_lost", "undelivered_bytes",
        "transforms_stuck",
    )

    def __init__(self, struct):
        for name in self.__slots__:
            setattr(self, name, getattr(struct, name))

    def __repr__(self):
        return f"Stats({', '.join(f'{name}={getattr(self, name)}' for name in self.__slots__)})"


class Failure:
    """An exception that a Python transform let out, or an expectation that did not hold."""

    __slots__ = ("exception", "message", "transform", "listener")

    def __init__(self, exception, message, transform, listener):
        self.exception, self.message, self.transform, self.listener = exception, message, transform, listener

    def __repr__(self):
        return f"<Failure of {self.transform}: {self.exception!r}>"


class _Failures:
    """What went wrong in transforms. Transforms refer to this and not to the engine, which would never be collected."""

    def __init__(self, engine):
        self._engine = weakref.ref(engine)
        self.list = []
        self._interrupt = None
        self.has_interrupt = ctypes.c_int()  # C asks after every turn

    def add(self, name, exception, data, message, address, peer):
        """`message` is a resay_message from `address`, unless it came from a `peer`, or there is none."""
        if isinstance(exception, (KeyboardInterrupt, SystemExit)) and threading.current_thread() is threading.main_thread():
            self._interrupt = exception
            self.has_interrupt.value = 1
            return
        engine, listener, known = self._engine(), None, None
        if engine is not None and message is not None:
            listener = engine._listeners.get(message.listener)
        if peer is not None:
            known = peer.address, peer.connection, peer.kind
        elif message is not None:
            known = address, message.connection, listener.kind if listener is not None else "tcp"
        if known is not None:
            known = Message(data, None, "failed", str(exception), *known, time.monotonic())
        if len(self.list) < _FAILURES_MAX:
            self.list.append(Failure(exception, known, name, listener))
        import logging

        logging.getLogger("resay").error("the transform %s failed", name, exc_info=exception)

    def raise_interrupt(self):
        """[on the main thread, outside of transforms] Raises what Ctrl-C has raised inside of one."""
        interrupt, self._interrupt = self._interrupt, None
        self.has_interrupt.value = 0
        if interrupt is not None:
            raise interrupt


class Engine:
    """An echo engine: listeners, a chain of transforms, and the workers that serve them.

    `urls` are opened at once: `tcp://127.0.0.1:0`, `udp://[::1]:9000`, `unix:/run/echo.sock`, `unix-dgram:`, `unix-seqpacket:`.
    `options` are those of listeners, as in a URL's query; numbers are seconds where an option is a time. `record` keeps what
    arrives (True, or a number of bytes). `with Engine(...) as engine:` starts it, and closes it at the end.

    `tls://127.0.0.1:0` and `unix+tls:` take a certificate with the certificates above it and its key: `cert` and `key` are names of
    files or bytes of PEM, or lists of these for several names (SNI). Without `key` it is in `cert`. `client_ca` checks the
    certificates of clients. These and `alpn`, `client`, `min` and `tickets` hold for all listeners with TLS that have none of their
    own. TLS takes the plugin file libtls.so.
    """

    _handle = None
    _loop = None
    _seed = None

    def __init__(
        self, *urls, chain="", threads=1, backend="auto", record=False, plugin_path=(), timeout=5.0,
        cert=None, key=None, client_ca=None, **options
    ):
        _close_postponed()
        _transforms.refuse_subinterpreter()
        self._pid = os.getpid()
        self._lock = threading.Condition()  # of an RLock: a signal handler may come while it is held
        self._users, self._is_closing, self._has_run, self._has_threads = 0, False, False, False
        self._serving = set()  # threads in `run`
        self._threads, self._timeout = _arguments.number("threads", threads), _arguments.seconds("timeout", timeout)
        self._listeners = {}  # closed ones too: what arrived there still tells of them
        self._failures = _Failures(self)
        self._numbers = itertools.count(1)
        self._set = ("", None)
        self._of_tls = _tls.take({"cert": cert, "key": key, "client_ca": client_ca, **options})
        self._tape, self._connections = None, Connections(self)
        handle, error = ctypes.c_void_p(), _native.resay_error()
        check(lib.resay_engine_new(_native.RESAY_ABI, ctypes.byref(handle), ctypes.byref(error)), error)
        self._handle = handle
        _live.add(self)
        try:
            check(_transforms.hook_threads(handle))
            if backend != "auto":
                self._set_option("backend", backend)
            for option, value in options.items():
                if option not in _tls.OPTIONS:
                    self._set_option(option, value)
            if isinstance(plugin_path, (str, bytes, os.PathLike)):
                plugin_path = [plugin_path]  # and not its letters
            for directory in plugin_path:
                code = lib.resay_plugin_dir(handle, _arguments.path("a directory of plugin_path", directory), ctypes.byref(error))
                check(code, error)
            self._connections.open()
            if record:
                self._tape = Tape(self, _recording.DEFAULT_BYTES if record is True else _arguments.number("record", record, 64))
            if chain:
                self.chain(chain)
            for url in urls:
                self.listen(url)
        except BaseException:
            self.close()
            raise

    def __repr__(self):
        if self._handle is None:
            return "<Engine: closed>"
        return f"<Engine {' '.join(each.url for each in self.listeners)}>"

    # ------------------------------------------------------------ use and end of the handle

    @contextmanager
    def _use(self):
        """The handle, for one call: close() waits for it."""
        with self._lock:
            if self._handle is None or self._is_closing:
                raise StateError("the engine is closed")
            if self._pid != os.getpid():
                raise ForkedError("the engine belongs to the parent of this process")
            self._users += 1
        try:
            yield self._handle
        finally:
            with self._lock:
                self._users -= 1
                if not self._users:
                    self._lock.notify_all()

    def _deadline(self, timeout):
        return time.monotonic() + (self._timeout if timeout is None else _arguments.seconds("timeout", timeout))

    def _refuse_own_loop(self, instead):
        if self._loop is not None and not self._loop.is_over and self._loop.is_here():
            raise StateError(f"the engine runs in the event loop of this thread, which this call would stop: use {instead}")

    def _tape_or_refuse(self):
        if self._tape is None:
            raise StateError("nothing is recorded: make the engine with record=True")
        return self._tape

    def _kind_of(self, listener):
        found = self._listeners.get(listener)
        return found.kind if found is not None else "tcp"

    def _credentials(self, connection):
        return self._connections.credentials(connection)

    # ------------------------------------------------------------ options and listeners

    def _set_option(self, key, value):
        error = _native.resay_error()
        text = _option_text(key, value)
        name, encoded = _arguments.encoded("the name of an option", key), _arguments.encoded(f"the option {key}", text)
        with self._use() as handle:
            code = lib.resay_set(handle, name, encoded, ctypes.byref(error))
        check(code, error, text if key in _OF_ENGINE else f"{key}={text}")

    def listen(self, url, *, chain=None, cert=None, key=None, client_ca=None, **options):
        """Opens a listener. Peers can connect from now on; they are served while the engine runs.

        `cert`, `key` and `client_ca`, and the other options of TLS, are those of `Engine`.
        """
        _arguments.encoded("a URL", url)
        options = {"cert": cert, "key": key, "client_ca": client_ca, **options}
        tls = _tls.take(options)
        if not _tls.is_tls(url):
            _tls.refuse(tls, url)
        elif not tls and not _tls.has_options(url):
            tls = self._of_tls
        with self._prepared(chain) as text:
            query = _query(options, text, tls)
            full = url + ("&" if "?" in url else "?") + query if query else url
            number, error = ctypes.c_uint64(), _native.resay_error()
            with self._use() as handle:
                code = lib.resay_listen(handle, _arguments.encoded("a URL", full), ctypes.byref(number), ctypes.byref(error))
                failure = error_of(code, error, full) if code < 0 else None
            if failure is not None:
                raise _tls.explained(failure, full)
        listener = self._add(number.value, chain)
        if chain is None and any(pair.startswith("chain=") for pair in url.partition("?")[2].split("&")):
            listener._first = listener._set = (listener.chain(), None)
        return listener

    def adopt(self, sock, *, chain=None, cert=None, key=None, client_ca=None, **options):
        """Serves a socket that the program opened, bound and perhaps listening. The program keeps its own, and closes it.

        With `cert` it speaks TLS; the options are those of `listen`.
        """
        options = {"cert": cert, "key": key, "client_ca": client_ca, **options}
        tls = _tls.take(options)
        if tls:
            options["filter"] = _tls.filter_of(tls)
        with self._prepared(chain) as text:
            query = "&".join(f"{key}={value}" for key, value in _pairs(options, text))  # nothing is quoted there
            try:
                encoded = _arguments.encoded("the options", query)
            except SpecError as refusal:
                raise _tls.explained(refusal, query) from None
            number, error = ctypes.c_uint64(), _native.resay_error()
            with self._use() as handle:
                code = lib.resay_listen_fd(
                    handle, sock.fileno(), _native.RESAY_FD_DUP, encoded or None,
                    ctypes.byref(number), ctypes.byref(error),
                )
                failure = error_of(code, error, query) if code < 0 else None
            if failure is not None:
                raise _tls.explained(failure, query)
        return self._add(number.value, chain)

    def _add(self, number, chain):
        listener = self._listeners[number] = Listener(self, number, chain)
        return listener

    @property
    def listeners(self):
        """The open listeners, oldest first."""
        return tuple(each for each in list(self._listeners.values()) if each._is_open)

    # ------------------------------------------------------------ transforms and chains

    def load(self, path):
        """Loads a plugin file, and returns the names of its transforms. New chains find them by name."""
        error = _native.resay_error()
        with self._use() as handle:
            code = lib.resay_load(handle, _arguments.path("a plugin file", path), ctypes.byref(error))
        check(code, error)
        return [info.name for info in _all_transforms(self) if _is_same_file(info._origin, path)]

    def transform(self, name, function=None):
        """Gives a function a name for chains: `engine.transform("shout", bytes.upper)`, or as a decorator.

        A name that is given again is replaced, for chains that are set from then on.
        """
        _arguments.encoded("the name of a transform", name)
        if function is None:
            return lambda function: self.transform(name, function)
        self._register(name, function, _transforms.is_conversation(function))
        return function

    def conversation(self, name, function=None):
        """Gives a generator function a name for chains: one generator talks to each peer."""
        _arguments.encoded("the name of a conversation", name)
        if function is None:
            return lambda function: self.conversation(name, function)
        self._register(name, function, True)
        return function

    def _register(self, name, function, is_conversation):
        if not callable(function):
            raise TypeError(f"a transform is a function, not {type(function).__name__}")
        if is_conversation:
            transform = _transforms._Conversation(name, function, self._failures, weakref.ref(self))
        else:
            transform = _transforms._Function(name, function, self._failures)
        error = _native.resay_error()
        with self._use() as handle:
            code = _transforms.register(handle, transform, ctypes.byref(error))
        check(code, error)

    @contextmanager
    def _prepared(self, chain, seed=None):
        """A chain as text. Its functions have names only until it is set: the chain itself keeps them."""
        if chain is None:
            yield None
            return
        names = []
        try:
            yield self._text_of(chain, self._seed if seed is None else seed, names)
        finally:
            for name in names:
                try:
                    with self._use() as handle:
                        lib.resay_unregister(handle, name.encode())
                except StateError:
                    pass  # closed meanwhile: nothing is registered any more

    def _text_of(self, chain, seed, names):
        if isinstance(chain, (str, faults.Stage)) or callable(chain):
            chain = [chain]
        stages = []
        for part in chain:
            if isinstance(part, str):
                stages += faults._stages_of(part) if seed is not None else [part] if part.strip() else []
            elif isinstance(part, faults.Stage):
                stages += part._texts
            elif callable(part):
                stages.append(self._name_for(part, names))
            else:
                raise TypeError(f"a chain consists of texts, faults and functions, not of {type(part).__name__}")
        if seed is not None:
            stages = faults.seeded(stages, seed)
        return " | ".join(stages)

    def _name_for(self, function, names):
        known_as = getattr(function, "__name__", type(function).__name__).lower()
        letters = [letter for letter in known_as if letter.isascii() and (letter.isalnum() or letter in "._-")]
        name = f"python.{''.join(letters)[:40]}.{next(self._numbers)}"
        self._register(name, function, _transforms.is_conversation(function))
        names.append(name)
        return name

    def chain(self, chain=None, *, seed=None):
        """Replaces the engine's chain, which every listener without a chain of its own uses. Without an argument: as text."""
        if chain is None:
            with self._use() as handle:
                code, text = text_of(lambda buf, cap, need: lib.resay_listener_chain(handle, 0, buf, cap, need))
            check(code)
            return text
        # For the engine a listener that has had a chain of its own has one for ever.
        follow = [each._id for each in self.listeners if each._follows]
        self._set_chains([0, *follow], chain, seed)
        self._set = (chain, seed)

    def _set_chains(self, numbers, chain, seed):
        error = _native.resay_error()
        with self._prepared(chain, seed) as text:
            for number in numbers:
                with self._use() as handle:
                    code = lib.resay_chain(handle, number, _arguments.encoded("a chain", text), ctypes.byref(error))
                check(code, error, text)
        self._sync()

    def _sync(self):
        """Waits until every worker has made a turn: what was changed holds for the next message."""
        if not self._turn_here() and self._has_run and not (self._loop is not None and self._loop.is_over):
            with self._use() as handle:
                code = lib.resay_sync(handle, _arguments.milliseconds("timeout", self._timeout))
            if code != _native.RESAY_E_STATE:
                check(code)

    def _turn_here(self):
        """Makes a turn, if the engine is served by the event loop of this thread: whether it is."""
        loop = self._loop
        if loop is None or loop.is_over or not loop.is_here():
            return False
        loop.turn()
        return True

    # ------------------------------------------------------------ what happens

    @property
    def received(self):
        """What has arrived at all listeners, if the engine records."""
        return Recording(self._tape_or_refuse())

    @property
    def failures(self):
        """Exceptions of Python transforms, and expectations of scripts that did not hold, oldest first."""
        return self._failures.list

    def raise_failures(self):
        """Raises what is in `failures`, and empties it: one exception itself; several as an ExceptionGroup, or from Python 3.9
        and 3.10 on the first with the others as notes."""
        exceptions = [failure.exception for failure in self._failures.list]
        self._failures.list.clear()
        if not exceptions:
            return
        if len(exceptions) == 1:
            raise exceptions[0]
        if sys.version_info >= (3, 11):
            raise BaseExceptionGroup(f"{len(exceptions)} failures in transforms", exceptions)
        first = exceptions[0]
        first.__notes__ = [f"and also {exception!r}" for exception in exceptions[1:]]
        raise first

    def stats(self):
        """The counters of all listeners, closed ones too."""
        return self._stats(0)

    def _stats(self, listener):
        stats = _native.sized(_native.resay_stats)
        with self._use() as handle:
            code = lib.resay_stats_get(handle, listener, ctypes.byref(stats))
        check(code)
        return Stats(stats)

    def events(self, kinds=EventKind.ALL, *, capacity=1024):
        """The events from now on, for a `for` or an `async for`."""
        return Events(self, kinds, capacity)

    # ------------------------------------------------------------ running

    @property
    def is_running(self):
        """Whether it serves: started, or in `run`, or in an event loop, and not ended."""
        if self._handle is None or not self._has_run or self._pid != os.getpid():
            return False
        if self._loop is not None:
            return not self._loop.is_over
        with self._use() as handle:
            return lib.resay_join(handle, 0) == _native.RESAY_E_TIMEOUT

    def start(self):
        """Starts threads of the engine's own, which show up in threading.enumerate()."""
        error = _native.resay_error()
        with self._use() as handle:
            code = lib.resay_start(handle, self._threads, ctypes.byref(error))
        check(code, error)
        self._has_run = self._has_threads = True
        self._sync()  # the threads are known to `threading` from here on
        return self

    def run(self):
        """Serves here, until stop(), SIGTERM or Ctrl-C, which is raised after a drain."""
        if self._threads > 1:
            self._set_option("threads", self._threads)
        helpers = [
            threading.Thread(target=self._serve, name=f"resay-{number}", daemon=True) for number in range(1, self._threads)
        ]
        with _terminating(self):
            self._has_run = True
            for helper in helpers:
                helper.start()
            try:
                self._serve()
            except BaseException:
                self._begin_drain()
                try:
                    self._serve()
                except BaseException:  # a second Ctrl-C
                    with self._use() as handle:
                        lib.resay_stop(handle)
                    raise
                raise
            finally:
                for helper in helpers:
                    helper.join()

    def _serve(self):
        here = threading.get_ident()
        self._serving.add(here)
        try:
            self._serve_here()
        finally:
            self._serving.discard(here)

    def _serve_here(self):
        is_main = threading.current_thread() is threading.main_thread()
        with self._use() as handle:
            while True:
                code = lib.resay_run(handle, _RUN_MS)
                if is_main:  # Ctrl-C is its own
                    self._failures.raise_interrupt()
                if code != _native.RESAY_E_INTR and check(code) == 0:
                    return

    def _begin_drain(self):
        with self._use() as handle:
            lib.resay_drain(handle, 0 if self._loop is not None else _arguments.milliseconds("timeout", self._timeout))

    def _poll_fd(self):
        with self._use() as handle:
            return check(lib.resay_poll_fd(handle))

    async def start_async(self):
        """Serves in the running loop of asyncio, uvloop or trio, without a thread."""
        from . import _loops

        if self._has_run:
            raise StateError("the engine has run before")
        self._loop = _loops.attach(self)
        self._has_run = True
        return self

    def stop(self):
        """Stops at once. Connections are cut off."""
        with self._use() as handle:
            check(lib.resay_stop(handle))
            self._finish(handle)

    def _finish(self, handle):
        """Waits for the end, and brings it about where nobody else does. A signal handler inside `run` does not wait: `run`
        returns when it is over."""
        if threading.get_ident() in self._serving:
            return
        loop = self._loop
        while self._has_run:
            is_left = self._is_left_to_us()
            if lib.resay_join(handle, 0 if is_left else _RUN_MS) != _native.RESAY_E_TIMEOUT:
                break
            if is_left and lib.resay_run(handle, _RUN_MS) not in (0, 1, _native.RESAY_E_INTR):
                break
        if loop is not None:
            loop.finish()

    def _is_left_to_us(self):
        """Whether the calling thread must serve: no thread of the engine's does, none is in `run`, and its loop is ours or is
        left."""
        if self._loop is not None:
            return not self._loop.is_over and (self._loop.is_here() or self._loop.is_left())
        return not self._has_threads and not self._serving

    def drain(self, timeout=None):
        """Stops listening, answers what has arrived, closes the connections, and waits for that. Without a `timeout`: as long as
        it takes."""
        if self._loop is not None and self._loop.is_running():  # one that has been left is served in here
            self._refuse_own_loop("drain_async")
        milliseconds = _arguments.milliseconds("timeout", timeout)
        with self._use() as handle:
            check(lib.resay_drain(handle, milliseconds))
            self._finish(handle)

    async def drain_async(self, timeout=None):
        """`drain`, for a coroutine."""
        from . import _loops

        if self._loop is None:
            return await _loops.in_thread(lambda: self.drain(timeout))
        milliseconds = _arguments.milliseconds("timeout", timeout)
        with self._use() as handle:
            check(lib.resay_drain(handle, milliseconds))
        await self._loop.wait_over()

    def close(self):
        """Stops, and frees everything: no thread, descriptor or socket file is left. A second call does nothing."""
        if threading.get_ident() in self._serving:
            raise StateError("an engine cannot be closed inside its own run(): stop it")
        with self._lock:
            if self._handle is None or self._is_closing:
                return
            self._is_closing = True
        try:
            self._close()
        except BaseException:
            self._is_closing = False
            raise
        _live.discard(self)

    def _close(self):
        handle = self._handle
        if self._pid != os.getpid():
            self._handle = None
            self._forget_in_child(handle)
            return
        if lib.resay_stop(handle) == _native.RESAY_E_STATE:
            raise StateError("an engine cannot be closed inside a transform")
        self._finish(handle)
        with self._lock:
            while self._users:
                self._lock.wait()
        check(_free(handle, self._tape, self._connections))
        self._handle = None

    def _forget_in_child(self, handle):
        if self._tape is not None and self._tape._tap:
            lib.resay_tap_close(self._tape._tap)
            self._tape._tap = None
        lib.resay_engine_free(handle)

    async def aclose(self):
        """`close`, for a coroutine."""
        from . import _loops

        if self._loop is not None or self._handle is None:
            self.close()
        else:
            await _loops.in_thread(self.close)

    def __enter__(self):
        return self.start()

    def __exit__(self, exc_type, exc, tb):
        self.close()

    async def __aenter__(self):
        return await self.start_async()

    async def __aexit__(self, exc_type, exc, tb):
        await self.aclose()

    def __del__(self):
        if self._handle is None or self._pid != os.getpid():
            return
        try:
            _warn(self)
        finally:
            _close_quietly(self)


def _warn(engine):
    warnings.warn(f"unclosed engine {engine!r}", ResourceWarning, stacklevel=3, source=engine)


def _close_quietly(engine):
    try:
        engine.close()
    except ResayError:
        # Inside one of its own transforms: another thread closes it.
        _postponed.append((engine._handle, engine._tape, engine._connections))
        engine._handle = None


def _free(handle, tape, connections):
    """Frees an engine that has ended, behind the last that it tells: a code."""
    if tape is not None:
        tape.close()
    connections.close()
    return lib.resay_engine_free(handle)


def _close_postponed():
    while _postponed:
        handle, tape, connections = _postponed.pop()
        lib.resay_stop(handle)
        lib.resay_join(handle, _EXIT_MS)
        _free(handle, tape, connections)


def _at_exit():
    """Ends every engine while Python still runs: a thread of theirs must not wait for a lock that nobody gives back."""
    error = None
    for engine in list(_live):
        handle = engine._handle
        if handle is None or engine._pid != os.getpid():
            continue
        try:
            _warn(engine)
        except ResourceWarning as warning:  # of a filter that makes it an error
            error = warning
        lib.resay_stop(handle)
    for engine in list(_live):
        handle = engine._handle
        if handle is None or engine._pid != os.getpid():
            continue
        loop = engine._loop
        if loop is not None and not loop.is_over:
            loop.over.set()
            while lib.resay_run(handle, _RUN_MS) == 1:
                pass
        if engine._has_run and lib.resay_join(handle, _EXIT_MS) < 0:
            _transforms.interrupt_threads()
            if lib.resay_join(handle, _EXIT_MS) < 0:
                engine._handle = None  # a transform does not return: the process ends without it
                continue
        with engine._lock:
            if engine._users:
                engine._handle = None
                continue
            engine._is_closing = True
        _free(handle, engine._tape, engine._connections)
        engine._handle = None
    _close_postponed()
    if error is not None:
        raise error


atexit.register(_at_exit)


@contextmanager
def _terminating(engine):
    """SIGTERM drains, if nothing else was wanted of it, and this is the main thread."""
    import signal

    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, lambda *_: engine._begin_drain())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _option_text(key, value):
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, (int, float)) and (key in _TIMES or (key == "keepalive" and value not in (0, 1))):
        return faults.duration(value)
    return str(value)


def _is_same_file(origin, path):
    try:
        return os.path.samefile(origin, os.fsencode(path))
    except OSError:
        return False  # "bundled", "registered", or a file that has gone


def _pairs(options, chain):
    pairs = [(key, _option_text(key, value)) for key, value in options.items()]
    if chain is not None:
        pairs.append(("chain", chain))
    for key, text in pairs:
        if key != "filter":  # of which nothing is shown here: keys may be in it
            _arguments.encoded(f"the option {key}", text)
    return pairs


def _query(options, chain, more=()):
    """Options and a chain as the query of a URL."""
    return "&".join(f"{key}={_quoted(value)}" for key, value in [*_pairs(options, chain), *more])


_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~:/,=")


def _quoted(value):
    return "".join(chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in value.encode("utf-8", "surrogateescape"))


class TransformInfo:
    """A transform that chains may name."""

    __slots__ = ("name", "summary", "version", "options", "needs_messages", "is_bytewise", "_origin")

    def __init__(self, name, summary, version, options, needs_messages, is_bytewise, origin):
        self.name, self.summary, self.version, self.options = name, summary, version, options
        self.needs_messages, self.is_bytewise, self._origin = needs_messages, is_bytewise, origin

    def __repr__(self):
        return f"<TransformInfo {self.name}: {self.summary}>"


def _all_transforms(engine):
    found = []

    def each(_user, info):
        info = info.contents
        if info.fault:
            return  # a file on the plugin path that is no plugin
        options = {}
        for number in range(info.options_count):
            option = _native.resay_option.from_address(info.options + number * info.option_size)
            options[option.key.decode()] = (option.help or b"").decode()
        found.append(
            TransformInfo(
                info.id.decode(), (info.summary or b"").decode(), (info.version or b"").decode(), options,
                bool(info.needs & 1), bool(info.caps & 1), info.origin,
            )
        )

    error = _native.resay_error()
    callback = _native.each_transform_function(each)
    if engine is None:
        code = lib.resay_transforms(None, callback, None, ctypes.byref(error))
    else:
        with engine._use() as handle:
            code = lib.resay_transforms(handle, callback, None, ctypes.byref(error))
    check(code, error)
    return found


def transforms():
    """The transforms that chains may name: bundled, and on the plugin path."""
    return _all_transforms(None)
