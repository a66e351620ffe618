"""Python functions and generators as transforms of an engine.

```text
 function ──> the trampoline in C, or a callback of ctypes ──> resay_register_function
 generator ─> callbacks of ctypes, a session for each connection ──┘
```

A function that answers with bytes takes the short way in C. Every other answer, and every exception, comes to `_Function.slow`.
"""

import ctypes
import itertools
import sys
import threading
from enum import Enum

from . import _address, _arguments, _native
from ._errors import ExpectationError, StateError
from ._native import held


class Verdict(Enum):
    """What a transform may answer instead of bytes. None is "no answer"."""

    PASS = "pass"
    CLOSE = "close"
    RESET = "reset"

    def __repr__(self):
        return f"resay.{self.name}"


PASS, CLOSE, RESET = Verdict.PASS, Verdict.CLOSE, Verdict.RESET


class Last:
    """An answer, and then the end of the connection: `return Last(b"bye")`."""

    __slots__ = ("data",)

    def __init__(self, data):
        self.data = _checked("Last", data)

    def __repr__(self):
        return f"Last({self.data!r})"

    def __eq__(self, other):
        return isinstance(other, Last) and self.data == other.data

    def __hash__(self):
        return hash(("Last", bytes(self.data)))


class EndOfStream(Exception):
    """Thrown into a conversation when its peer has ended its side."""


class Peer:
    """The peer of a conversation."""

    __slots__ = ("address", "local", "connection", "kind", "_engine", "_known")

    def __init__(self, address, local, connection, kind, engine):
        self.address, self.local, self.connection, self.kind = address, local, connection, kind
        self._engine, self._known = engine, None

    @property
    def credentials(self):
        """pid, uid and gid of a unix peer. None: of another kind of socket, of a datagram, or its connection has ended before
        anybody asked.

        They are known outside of conversations and transforms: inside of one this is a StateError.
        """
        if self._known is None and self.kind in ("unix", "unix-seqpacket"):
            engine = self._engine()
            self._known = engine._credentials(self.connection) if engine is not None and self.connection else None
        return self._known

    def __repr__(self):
        return f"<Peer {_address.text_of(self.address)} over {self.kind}>"


def is_conversation(function):
    """Whether a call of it makes a generator."""
    code = getattr(getattr(function, "__func__", function), "__code__", None)
    return code is not None and bool(code.co_flags & 0x20)  # CO_GENERATOR


def write(out, data):
    """Appends an answer: 0, or a negative code."""
    if not isinstance(data, bytes):
        data = bytes(data)
    return held.resay_out_write(out, data, len(data))


def apply(reply, out):
    """Writes a Reply to `out`, and returns the status that stands for it."""
    if reply is None:
        return _native.RESAY_DROP
    if reply is PASS:
        return _native.RESAY_PASS
    if reply is CLOSE:
        return _native.RESAY_CLOSE
    if reply is RESET:
        return _native.RESAY_RESET
    if isinstance(reply, Last):
        return _native.RESAY_CLOSE if write(out, _checked("Last", reply.data)) >= 0 else _native.RESAY_E_DATA
    if not isinstance(reply, (bytes, bytearray, memoryview)):
        raise TypeError(f"a transform answered with {type(reply).__name__}, not with bytes, None, Last or a Verdict")
    return _native.RESAY_REPLACE if write(out, reply) >= 0 else _native.RESAY_E_DATA


def checked_reply(what, reply):
    """A reply, if it is one."""
    if reply is None or isinstance(reply, (Verdict, Last, bytes, bytearray, memoryview)):
        return reply
    raise TypeError(f"{what} is bytes, None, Last or a Verdict, not {type(reply).__name__}")


def _checked(what, data):
    if isinstance(data, (bytes, bytearray, memoryview)):
        return data
    raise TypeError(f"{what}: bytes are expected, not {type(data).__name__}")


# What C points to, by the address that C knows. An entry leaves when the engine releases it.
_alive: dict = {}


def _release(user):
    _alive.pop(user, None)


_release_callback = _native.release_function(_release)
_release_address = _native.address_of(_release_callback)


class _Pair(ctypes.Structure):
    """Two objects that the trampoline calls: struct transform, and struct hooks."""

    _fields_ = [("first", ctypes.py_object), ("second", ctypes.py_object)]


class _Setup(ctypes.Structure):
    _NAMES = (
        "PyGILState_Ensure", "PyGILState_Release", "PyEval_SaveThread", "PyEval_RestoreThread", "PyBytes_FromStringAndSize",
        "PyBytes_AsStringAndSize", "PyObject_CallOneArg", "PyObject_CallFunctionObjArgs", "PyUnicode_FromString",
        "PyLong_FromVoidPtr", "PyLong_AsLong", "Py_DecRef", "PyErr_Fetch", "PyErr_NormalizeException", "PyErr_Clear",
        "PyException_SetTraceback", "PyCFunction_NewEx", "PyBytes_AsString", "PyLong_FromLong", "PyBool_FromLong",
    )
    _OPTIONAL = "PyObject_CallOneArg"
    _fields_ = [(name, ctypes.c_void_p) for name in _NAMES] + [
        ("run", ctypes.c_void_p), ("out_write", ctypes.c_void_p), ("none", ctypes.c_void_p), ("pass_", ctypes.c_void_p),
    ]


def _load_trampoline():
    """The trampoline, ready for use, or None: then callbacks of ctypes do its work."""
    if sys.implementation.name != "cpython":
        return None
    try:
        library = ctypes.PyDLL(_native.trampoline_path)
    except OSError:
        return None
    setup = _Setup()
    for name in _Setup._NAMES:
        function = getattr(ctypes.pythonapi, name, None)
        if function is not None:
            setattr(setup, name, _native.address_of(function))
        elif name != _Setup._OPTIONAL:
            return None
    setup.run = _native.address_of(held.resay_run)
    setup.out_write = _native.address_of(held.resay_out_write)
    setup.none, setup.pass_ = id(None), id(PASS)  # in CPython an id is the address
    library.resay_python_setup(ctypes.byref(setup))
    library.resay_python_turn.argtypes, library.resay_python_turn.restype = [ctypes.py_object] * 2, ctypes.py_object
    return library


_trampoline = _load_trampoline()


class _Turn(ctypes.Structure):
    """What the trampoline knows of a loop: struct loop."""

    _fields_ = [("engine", ctypes.c_void_p), ("has_interrupt", ctypes.c_void_p), ("ended", ctypes.c_void_p)]


def turn_of(engine, has_interrupt, ended):
    """A function that makes one turn of an engine in the thread's own loop, and returns whether the engine is alive.

    Its handle is `engine`. Where it is not alive, or `has_interrupt`, a number of C, is set, `ended` is called with what resay_run
    has returned, and its result returned.
    """
    if _trampoline is not None:
        loop = bytes(_Turn(engine, ctypes.addressof(has_interrupt), id(ended)))
        return _trampoline.resay_python_turn(loop, (ended, has_interrupt))
    run = held.resay_run

    def turn():
        code = run(engine, 0)
        return (code == 1 or code == _native.RESAY_E_INTR) and not has_interrupt.value or ended(code)

    return turn


def refuse_subinterpreter():
    """Callbacks of the engine run in the main interpreter: elsewhere they would see other modules."""
    api = getattr(ctypes, "pythonapi", None)
    main = getattr(api, "PyInterpreterState_Main", None)
    if main is None:
        return
    current = api.PyInterpreterState_Get
    main.restype = current.restype = ctypes.c_void_p
    if main() != current():
        raise StateError("resay works in the main interpreter, not in a subinterpreter")


class _Transform:
    """What a function and a conversation have in common. It knows no engine: the engine would never be collected."""

    def __init__(self, name, function, failures):
        self.name, self.function, self.failures = name, function, failures

    def failed(self, exception, data, message=None, address=None, peer=None):
        self.failures.add(self.name, exception, data, message, address, peer)
        return _native.RESAY_RESET if isinstance(exception, ExpectationError) else _native.RESAY_E_DATA


class _Function(_Transform):
    def slow(self, result, exception, data, message_at, out):
        """Whatever the trampoline cannot decide: a status."""
        try:
            if exception is None:
                return apply(result, out)
        except BaseException as error:
            exception = error
        return self.failed(exception, data, _native.resay_message.from_address(message_at), _addresses(out)[0])

    def call(self, _user, _session, message, out):
        """The trampoline's work in Python."""
        message = message.contents
        data = b""
        try:
            if message.len:
                data = ctypes.string_at(message.data, message.len)
            elif message.flags & _native.RESAY_IO_EOF:
                return _native.RESAY_PASS
            reply = self.function(data)
            return _native.RESAY_PASS if reply is data else apply(reply, out)
        except BaseException as error:
            return self.failed(error, data, message, _addresses(out)[0])

    def table(self):
        """The resay_function of it, and what must live as long as the engine uses it."""
        table = _native.sized(_native.resay_function)
        if _trampoline is not None:
            pair = _Pair(self.function, self.slow)
            table.user = ctypes.addressof(pair)
            table.call = _native.address_of(_trampoline.resay_python_call)
            return table, pair
        call = _native.call_function(self.call)
        table.user = id(self)
        table.call = _native.address_of(call)
        return table, (self, call)


class _Talk:
    """A conversation with one peer: its generator, until it has ended."""

    __slots__ = ("generator", "peer")

    def __init__(self, generator, peer):
        self.generator, self.peer = generator, peer


class _Conversation(_Transform):
    _numbers = itertools.count(1)

    def __init__(self, name, function, failures, engine):
        super().__init__(name, function, failures)
        self.engine, self.talks = engine, {}

    def begin(self, _user, session, peer, out):
        known = number = None
        try:
            peer = peer.contents
            listener = (peer.listener or b"").decode("utf-8", "replace")
            known = Peer(*_addresses(out, peer), peer.id, _address.kind_of(listener), self.engine)
            talk = _Talk(self.function(known), known)
            number = next(self._numbers)
            self.talks[number] = talk
            session[0] = number
            write_reply = _greet
            try:
                reply = next(talk.generator)
            except StopIteration as end:
                talk.generator, reply, write_reply = None, end.value, _end
            if peer.kind == _native.RESAY_DATAGRAM:
                return 0  # nothing is sent to a datagram's peer unasked
            status = write_reply(reply, out)
            if status != 0:
                self.talks.pop(number)  # a session that has not begun has no end
            return status
        except BaseException as error:
            self.talks.pop(number, None)
            return self.failed(error, b"", peer=known)

    def call(self, _user, session, message, out):
        message = message.contents
        data = b""
        talk = self.talks.get(session[0])
        _answering.out = out
        try:
            if message.len:
                data = ctypes.string_at(message.data, message.len)
            is_end = not message.len and bool(message.flags & _native.RESAY_IO_EOF)
            if talk is None or talk.generator is None:
                return _native.RESAY_DROP
            try:
                if is_end:
                    reply = talk.generator.throw(EndOfStream())
                else:
                    reply = talk.generator.send(data)
            except StopIteration as end:
                talk.generator = None
                return _end(end.value, out)
            except EndOfStream:
                if not is_end:
                    raise
                talk.generator = None
                return _native.RESAY_DROP
            return apply(reply, out)
        except BaseException as error:
            if talk is not None:
                talk.generator = None
            return self.failed(error, data, message, peer=talk and talk.peer)

    def end(self, _user, session):
        talk = self.talks.pop(session, None)
        if talk is None or talk.generator is None:
            return
        try:
            talk.generator.close()
        except BaseException as error:
            self.failed(error, b"", peer=talk.peer)

    def table(self):
        table = _native.sized(_native.resay_function)
        begin = _native.begin_function(self.begin)
        call = _native.call_function(self.call)
        end = _native.end_function(self.end)
        table.user = id(self)
        table.begin, table.call, table.end = (_native.address_of(each) for each in (begin, call, end))
        return table, (self, begin, call, end)


# The answer of the conversation that runs on this thread.
_answering = threading.local()


def delay_answer(seconds):
    """[in a conversation] Delays the answer to this message."""
    held.resay_out_delay(_answering.out, round(seconds * 1e6))


def _end(value, out):
    """What a conversation returns is said before the end."""
    if value is None or value is PASS:
        return _native.RESAY_CLOSE
    status = apply(value, out)
    return _native.RESAY_CLOSE if status == _native.RESAY_REPLACE else status


def _greet(greeting, out):
    """A greeting has no message that could pass: PASS and None are silence. 0: the conversation goes on."""
    if greeting is None or greeting is PASS:
        return 0
    status = apply(greeting, out)
    return 0 if status == _native.RESAY_REPLACE else status


def _addresses(out, peer=None):
    """Of the peer and of the listener. `peer` is a resay_peer, in whose text the address is where there is no other."""
    theirs, ours = _native.resay_address(), _native.resay_address()
    if held.resay_out_peer(out, ctypes.byref(theirs), ctypes.byref(ours)) >= 0:
        return _address.of_struct(theirs), _address.of_struct(ours)
    text = (peer.peer or b"").decode("utf-8", "surrogateescape") if peer is not None else ""
    return _address.of_text(text.partition("://")[2] or text) if text else None, None


def register(handle, transform, error):
    """Registers with an engine: the code of resay_register_function. The engine keeps the transform alive."""
    table, alive = transform.table()
    table.release = _release_address
    _alive[table.user] = alive
    # A failure releases too, before the call returns.
    return _native.lib.resay_register_function(handle, _arguments.encoded("the name of a transform", transform.name), ctypes.byref(table), error)


# ---------------------------------------------------------------- threads of the engine


# Those of all engines.
_threads: set = set()


def interrupt_threads():
    """[at the end of the process] Raises SystemExit in transforms that do not return, on the engines' threads."""
    if sys.implementation.name == "cpython":
        raise_in = ctypes.pythonapi.PyThreadState_SetAsyncExc
        for thread in list(_threads):
            raise_in(ctypes.c_ulong(thread), ctypes.py_object(SystemExit))


def _thread_begins(name):
    """[on a thread of the engine] Makes the thread known to `threading`, debuggers and coverage."""
    if isinstance(name, bytes):
        name = name.decode("utf-8", "replace")
    thread = threading.current_thread()  # makes an entry of threading.enumerate()
    thread.name = name
    _threads.add(threading.get_ident())
    trace = getattr(threading, "_trace_hook", None)
    if trace is not None:
        sys.settrace(trace)
    profile = getattr(threading, "_profile_hook", None)
    if profile is not None:
        sys.setprofile(profile)


def _thread_ends():
    """[on a thread of the engine] Takes the entry back: it would stay for ever."""
    sys.settrace(None)
    sys.setprofile(None)
    _threads.discard(threading.get_ident())
    threading._active.pop(threading.get_ident(), None)


def _pin():
    """[in a callback of ctypes] Keeps the thread's state when the callback returns."""
    if sys.implementation.name == "cpython":
        ctypes.pythonapi.PyGILState_Ensure()


def _unpin():
    if sys.implementation.name == "cpython":
        # 1 is PyGILState_UNLOCKED and would give up the lock, which the callback still needs.
        ctypes.pythonapi.PyGILState_Release(ctypes.c_int(0))


def _fallback_begins(_user, name):
    _pin()
    _thread_begins(name or b"resay")


def _fallback_ends(_user):
    _thread_ends()
    _unpin()


_hooks = _Pair(_thread_begins, _thread_ends)
_fallback_hooks = _native.thread_begin_function(_fallback_begins), _native.thread_end_function(_fallback_ends)


def hook_threads(handle):
    """Has the engine call the hooks on each of its threads."""
    if _trampoline is not None:
        begin = _native.address_of(_trampoline.resay_python_thread_begin)
        end = _native.address_of(_trampoline.resay_python_thread_end)
        return _native.lib.resay_thread_hooks(handle, begin, end, ctypes.addressof(_hooks), None)
    begin, end = map(_native.address_of, _fallback_hooks)
    return _native.lib.resay_thread_hooks(handle, begin, end, None, None)
