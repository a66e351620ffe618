"""Connections of an engine, open and ended: what its events tell of them."""

import ctypes
import threading
from collections.abc import AsyncIterator, Iterator
from enum import IntEnum, IntFlag

from . import _address, _arguments, _native
from ._errors import ResayError, StateError, WaitTimeout, check
from ._native import lib
from ._recording import Recording, wait_until, wait_until_async

# Events that wait for somebody to look; one that finds no room is lost, and counted.
_CAPACITY = 4096
# Ended connections that are remembered.
_ENDED_MAX = 65536


class CloseReason(IntEnum):
    """Why a connection has ended."""

    PEER_ENDED = 1
    PEER_RESET = 2
    IDLE_TIMEOUT = 3
    WRITE_TIMEOUT = 4
    MESSAGE_TOO_LONG = 5
    TRANSFORM_CLOSED = 6
    TRANSFORM_FAILED = 7
    CHAIN_CHANGED = 8
    DRAINED = 9
    CUT_OFF = 10
    STOPPED = 11
    SYSTEM_ERROR = 12
    TOO_SLOW = 13
    PREFACE_REFUSED = 14
    LAYER_FAILED = 15
    ANSWER_TOO_LONG = 16
    BY_HOST = 17
    OVERLOADED = 18
    LAYER_TRUNCATED = 19


class EventKind(IntFlag):
    """Kinds of events, to be joined with `|`."""

    LISTENING = 1
    LISTENER_CLOSED = 2
    ACCEPTED = 4
    CLOSED = 8
    REJECTED = 16
    ACCEPT_FAILED = 32
    DROPPED = 64
    TRANSFORM_FAILED = 128
    TRANSFORM_LOG = 256
    CHAIN_CHANGED = 512
    ENGINE = 1024
    TRANSFORM_STUCK = 2048
    TRANSFORM_RETURNED = 4096
    IDENTIFIED = 8192
    ALL = 0xFFFFFFFF


def _known(enum, number):
    try:
        return enum(number)
    except ValueError:
        return number  # of a later version of the library


def _peer_in(text):
    """The peer at the beginning of an event's text."""
    return text.split(" ", 1)[0][:-1] if ": " in text else text


class Event:
    """Something that has happened in an engine. `time` compares with time.monotonic()."""

    __slots__ = ("kind", "listener", "connection", "code", "text", "time")

    def __init__(self, kind, listener, connection, code, text, time):
        self.kind, self.listener, self.connection = kind, listener, connection
        self.code, self.text, self.time = code, text, time

    def __repr__(self):
        return f"<Event {self.kind!r} connection={self.connection} code={self.code} {self.text!r}>"


class _Queue:
    """A queue of events in C. Its owner reads it under a lock."""

    def __init__(self, engine, kinds, capacity):
        self._queue, error = ctypes.c_void_p(), _native.resay_error()
        room = _arguments.number("capacity", capacity)
        with engine._use() as handle:
            code = lib.resay_events_open(handle, int(kinds) & 0xFFFFFFFF, room, ctypes.byref(self._queue), ctypes.byref(error))
        check(code, error)
        self.fd = lib.resay_events_fd(self._queue)
        self._event = _native.sized(_native.resay_event)
        self.has_ended = False

    def next(self):
        """The next event, valid until the next call, or None."""
        while self._queue:
            code = lib.resay_events_next(self._queue, ctypes.byref(self._event), 0)
            if code == _native.RESAY_E_INTR:
                continue
            if code == _native.RESAY_E_STATE:
                self.has_ended = True
                return None
            return self._event if check(code) == 1 else None
        return None

    @property
    def lost(self):
        return lib.resay_events_lost(self._queue) if self._queue else 0

    @property
    def is_open(self):
        return bool(self._queue)

    def close(self):
        queue, self._queue = self._queue, None
        if queue:
            lib.resay_events_close(queue)


class Events(Iterator, AsyncIterator):
    """The events of an engine, as they happen, until it has ended: for a `for` or an `async for`."""

    def __init__(self, engine, kinds, capacity):
        self._engine = engine
        self._queue = _Queue(engine, kinds, capacity)
        self._lock = threading.Lock()

    def _look(self):
        with self._lock:
            event = self._queue.next()
            if event is None:
                return StopIteration if self._queue.has_ended or not self._queue.is_open else None
            return Event(
                _known(EventKind, event.kind), self._engine._listeners.get(event.listener), event.connection, event.code,
                event.text.decode("utf-8", "replace"), event.time_ns / 1e9,
            )

    def _fd(self):
        return self._queue.fd if self._queue.is_open else -1

    def __iter__(self):
        return self

    def __next__(self):
        self._engine._refuse_own_loop("async for")
        found = wait_until(self._look, self._fd, None, None)
        if found is StopIteration:
            raise StopIteration
        return found

    def __aiter__(self):
        return self

    async def __anext__(self):
        found = await wait_until_async(self._look, self._fd, None, None)
        if found is StopIteration:
            raise StopAsyncIteration
        return found

    def close(self):
        """Ends the queue. Events that nobody has taken are lost."""
        with self._lock:
            self._queue.close()

    def __del__(self):
        try:
            self._queue.close()
        except Exception:  # not made completely
            pass


class Connection:
    """A stream or seqpacket connection to a listener. Behind a balancer that speaks the PROXY protocol, `peer` is what the header
    says, from its arrival on."""

    def __init__(self, number, listener, peer, via=None):
        self.id, self.listener, self._peer, self._via = number, listener, peer, via
        self._reason = None

    def __repr__(self):
        state = "open" if self._reason is None else repr(self._reason)
        via = "" if self._via is None else f" by {_address.text_of(self._via)}"
        return f"<Connection {self.id} from {_address.text_of(self._peer)}{via}: {state}>"

    @property
    def peer(self):
        """The address of the peer."""
        self.listener._engine._connections.drain()
        return self._peer

    @property
    def via(self):
        """The address of the balancer that named the peer; None: nobody did, or not yet."""
        self.listener._engine._connections.drain()
        return self._via

    @property
    def received(self):
        """What this connection has brought."""
        return Recording(self.listener._engine._tape_or_refuse(), "connection", self.id)

    @property
    def is_open(self):
        """Whether it has not ended."""
        return self.closed is None

    @property
    def closed(self):
        """Why it has ended; None: it is open."""
        self.listener._engine._connections.drain()
        return self._reason

    def _do(self, name, *arguments):
        with self.listener._engine._use() as handle:
            code = getattr(lib, name)(handle, self.id, *arguments)
        if code == _native.RESAY_E_HANDLE:
            raise StateError(f"connection {self.id} has ended", code=code)
        check(code)

    def send(self, data):
        """Sends data that nobody asked for. Streams and seqpacket only."""
        data = _arguments.data("send", data)
        self._do("resay_connection_send", data, len(data))

    def shutdown(self):
        """Sends FIN and goes on reading."""
        self._do("resay_connection_shutdown")

    def close(self):
        """Sends FIN once all answers are gone."""
        self._do("resay_connection_close")

    def reset(self):
        """Sends RST now."""
        self._do("resay_connection_reset")

    def pause(self):
        """Reads nothing more: the peer's buffers fill."""
        self._do("resay_connection_pause")
        self.listener._engine._sync()

    def resume(self):
        """Reads again."""
        self._do("resay_connection_resume")
        self.listener._engine._sync()

    def wait_closed(self, timeout=None):
        """Waits until it has ended, and returns why."""
        engine = self.listener._engine
        engine._refuse_own_loop("wait_closed_async")
        return wait_until(lambda: self.closed, engine._connections.fd, engine._deadline(timeout), self._missed)

    async def wait_closed_async(self, timeout=None):
        """`wait_closed`, for a coroutine."""
        engine = self.listener._engine
        return await wait_until_async(lambda: self.closed, engine._connections.fd, engine._deadline(timeout), self._missed)

    def _missed(self, seconds):
        return WaitTimeout(f"waited {seconds:g} s for the end of {self!r}", code=_native.RESAY_E_TIMEOUT)


class Connections:
    """All connections of an engine, out of a queue of events that is read when somebody looks."""

    def __init__(self, engine):
        self._engine, self._lock = engine, threading.Lock()
        self._queue, self._known = None, {}
        self._ended = self._lost = 0

    def open(self):
        """Begins, before there are listeners."""
        kinds = _native.RESAY_EVENT_ACCEPTED | _native.RESAY_EVENT_CLOSED | _native.RESAY_EVENT_IDENTIFIED
        self._queue = _Queue(self._engine, kinds, _CAPACITY)

    def open_now(self):
        """The numbers of the connections that are open, by the engine itself."""
        cap, count = 1024, ctypes.c_size_t()
        while True:
            numbers = (ctypes.c_uint64 * cap)()
            with self._engine._use() as handle:
                check(lib.resay_connections(handle, 0, numbers, cap, ctypes.byref(count)))
            if count.value <= cap:
                break
            cap = count.value + 64
        return set(numbers[: count.value])

    def _look_around(self):
        """Nobody has looked for so long that events were lost: the engine tells which connections are open."""
        is_open = self.open_now()
        for number in sorted(is_open):
            self._find(number)
        for number, connection in self._known.items():
            if connection._reason is None and number not in is_open:
                connection._reason = CloseReason.SYSTEM_ERROR  # which it was is lost

    def _find(self, number):
        info = self._info(number)
        listener = self._engine._listeners.get(info.listener) if info is not None else None
        if listener is not None and number not in self._known:
            addresses = _address.of_struct(info.peer), _address.of_struct(info.via)
            self._known[number] = Connection(number, listener, *addresses)

    def _info(self, number):
        """What the engine knows of a connection; None: it has ended."""
        info = _native.sized(_native.resay_connection)
        try:
            with self._engine._use() as handle:
                check(lib.resay_connection_get(handle, number, ctypes.byref(info)))
        except ResayError:
            return None
        return info

    def fd(self):
        """The descriptor to wait for; -1: nothing more will happen."""
        return self._queue.fd if self._queue.is_open and not self._queue.has_ended else -1

    def drain(self):
        """Takes all events that have happened."""
        with self._lock:
            while self._queue is not None:
                event = self._queue.next()
                if event is None:
                    break
                self._take(event)
            lost = self._queue.lost if self._queue is not None else 0
            if lost != self._lost and not self._queue.has_ended:
                self._lost = lost
                self._look_around()

    def _take(self, event):
        number = event.connection
        connection = self._known.get(number)
        if event.kind == _native.RESAY_EVENT_ACCEPTED:
            listener = self._engine._listeners.get(event.listener)
            if connection is None and listener is not None:
                peer = _address.of_text(_peer_in(event.text.decode("utf-8", "surrogateescape")))
                self._known[number] = Connection(number, listener, peer)
        elif event.kind == _native.RESAY_EVENT_IDENTIFIED:
            if connection is not None:
                self._identify(connection, event.text.decode("utf-8", "surrogateescape"))
        elif connection is not None and connection._reason is None:
            connection._reason = _known(CloseReason, event.code)
            self._ended += 1
            if self._ended > _ENDED_MAX:
                self._forget()

    def _identify(self, connection, text):
        """A balancer has said who the peer is. Where the connection has ended since, the text is all that is left."""
        info = self._info(connection.id)
        if info is not None:
            connection._peer, connection._via = _address.of_struct(info.peer), _address.of_struct(info.via)
            return
        peer, _, via = text.partition(": identified by ")
        if via:
            connection._peer, connection._via = _address.of_text(peer), _address.of_text(via)

    def _forget(self):
        for number in [number for number, each in self._known.items() if each._reason is not None][: _ENDED_MAX // 2]:
            del self._known[number]
            self._ended -= 1

    def of(self, listener):
        """Those of a listener, oldest first."""
        self.drain()
        return [each for each in list(self._known.values()) if each.listener is listener]

    def clear(self):
        """Forgets the ended ones."""
        self.drain()
        with self._lock:
            self._known = {number: each for number, each in self._known.items() if each._reason is None}
            self._ended = 0

    def close(self):
        """Takes the last events, and ends the queue. What is still open was stopped with the engine."""
        if self._queue is None:
            return
        self.drain()
        with self._lock:
            self._queue.close()
        for each in self._known.values():
            if each._reason is None:
                each._reason = CloseReason.STOPPED

    def credentials(self, number):
        """pid, uid and gid of the process at the other end; None: it has none, or has ended."""
        info = _native.sized(_native.resay_connection)
        try:
            with self._engine._use() as handle:
                code = lib.resay_connection_get(handle, number, ctypes.byref(info))
        except StateError:
            return None  # the engine is closed
        if code == _native.RESAY_E_STATE:
            # Its worker tells them in its next turn: for a callback, that comes after its return.
            raise StateError(
                "the credentials of a peer cannot be had inside a conversation or transform: keep the peer, and ask it "
                "outside of them while its connection is open",
                code=code,
            )
        return (info.pid, info.uid, info.gid) if code >= 0 and info.pid > 0 else None
