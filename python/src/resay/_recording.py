"""What has arrived: the tap of an engine, read into lists that grow.

```text
 workers ──> tap (a ring, in C) ──> Tape.drain ──> messages of the engine, of each listener, of each connection
                                                            └── Recording: a view of one of them
```

Nothing reads the tap until somebody looks: there is no thread for it. What the ring could not keep is counted as lost.
"""

import ctypes
import os
import select
import struct
import threading
import time
from collections.abc import Sequence

from . import _address, _arguments, _native
from ._errors import ExpectationError, StateError, WaitTimeout, check
from ._native import lib

DEFAULT_BYTES = 64 << 20
# Of one read of the tap.
_READ_RECORDS = 256
_READ_BYTES = 256 << 10
# While another thread may take what this one waits for.
_LOOK_AGAIN = 0.05

_RECORD = struct.Struct("=4Q2IIi8Q")
_OUTCOMES = {1: "answered", 2: "dropped", 3: "closed", 4: "reset", 5: "failed", 6: "unsendable"}


class Message:
    """One message that came in, and what became of it. On a raw stream that is what one read brought."""

    __slots__ = ("data", "answer", "outcome", "reason", "peer", "connection", "kind", "time")

    def __init__(self, data, answer, outcome, reason, peer, connection, kind, time):
        self.data, self.answer, self.outcome, self.reason = data, answer, outcome, reason
        self.peer, self.connection, self.kind, self.time = peer, connection, kind, time

    def __eq__(self, other):
        if isinstance(other, Message):
            return all(getattr(self, name) == getattr(other, name) for name in self.__slots__)
        if isinstance(other, (bytes, bytearray, memoryview)):
            return self.data == other
        return NotImplemented

    def __hash__(self):
        return hash(self.data)

    def __bytes__(self):
        return self.data

    def __repr__(self):
        from_whom = _address.text_of(self.peer)
        return f"<Message {self.data[:60]!r}{'…' if len(self.data) > 60 else ''} from {from_whom}: {self.outcome}>"


def _size(message):
    """Bytes that it takes, about."""
    answer = message.answer
    return len(message.data) + (len(answer) if answer and answer is not message.data else 0) + 200


class _List:
    """The messages of one view."""

    __slots__ = ("messages", "forgotten")

    def __init__(self):
        self.messages, self.forgotten = [], 0


class Tape:
    """The tap of an engine, and all that was read from it."""

    def __init__(self, engine, capacity):
        self._engine = engine
        self._limit = max(capacity, 1 << 12)
        self._lock = threading.Lock()
        self._all = _List()
        self._of_listener, self._of_connection = {}, {}
        self._bytes = 0
        self._addresses = {}
        self._records = (_native.resay_tap_record * _READ_RECORDS)()
        self._buffer = ctypes.create_string_buffer(_READ_BYTES + 8)
        options = _native.sized(_native.resay_tap_options)
        options.flags, options.capacity_bytes = _native.RESAY_TAP_ANSWERS, self._limit
        self._tap, error = ctypes.c_void_p(), _native.resay_error()
        with engine._use() as handle:
            code = lib.resay_tap_open(handle, ctypes.byref(options), ctypes.byref(self._tap), ctypes.byref(error))
        check(code, error)
        self.fd = lib.resay_tap_fd(self._tap)

    def close(self):
        with self._lock:
            self._drain()
            tap, self._tap = self._tap, None
        if tap:
            self._lost = lib.resay_tap_lost(tap)
            lib.resay_tap_close(tap)

    def waiting_fd(self):
        """The descriptor to wait for; -1: nothing more will come."""
        return self.fd if self._tap and not self.has_ended else -1

    def list_of(self, what, number):
        """The list of a view, which may still be empty."""
        if what == "engine":
            return self._all
        lists = self._of_listener if what == "listener" else self._of_connection
        found = lists.get(number)
        if found is None:
            found = lists.setdefault(number, _List())
        return found

    def drain(self):
        """Takes everything that has arrived."""
        with self._lock:
            self._drain()

    def clear(self):
        """Forgets everything."""
        with self._lock:
            self._drain()
            self._bytes = 0
            for each in (self._all, *self._of_listener.values(), *self._of_connection.values()):
                each.messages.clear()
                each.forgotten = 0
            self._of_connection.clear()
            self._lost_before += self.lost

    has_ended = False
    _lost = 0
    _lost_before = 0

    @property
    def lost(self):
        tap = self._tap
        return (lib.resay_tap_lost(tap) if tap else self._lost) - self._lost_before

    def _drain(self):
        while self._tap:
            count = lib.resay_tap_read(
                self._tap, self._records, _RECORD.size, _READ_RECORDS, self._buffer, len(self._buffer), 0
            )
            if count == _native.RESAY_E_FULL:
                self._grow()
                continue
            if count == _native.RESAY_E_INTR:
                continue
            if count == _native.RESAY_E_STATE:
                self.has_ended = True
                return
            if check(count) == 0:
                return
            self._take(count)

    def _grow(self):
        """Makes the buffer large enough for a record that does not fit."""
        first = self._records[0]
        need = first.peer_len + first.data_len + first.answer_len + 64
        self._buffer = ctypes.create_string_buffer(max(need, 2 * len(self._buffer)))

    def _take(self, count):
        base = ctypes.addressof(self._buffer)
        view = memoryview(self._buffer).cast("B")
        kind_of = self._engine._kind_of
        records = memoryview(self._records).cast("B")[: count * _RECORD.size]
        for (
            _, time_ns, listener, connection, _, _, outcome, reason, peer, peer_len, data, data_len, answer, answer_len,
            _, answer_bytes,
        ) in _RECORD.iter_unpack(records):
            data = bytes(view[data - base : data - base + data_len]) if data_len else b""
            answered = None
            if outcome != 2 or answer:
                if answer:
                    answered = bytes(view[answer - base : answer - base + answer_len])
                    if answered == data:
                        answered = data
                elif outcome == 1:
                    answered = b""
            reason_text = ""
            if reason:
                reason_text = _reason_text(outcome, reason)
            raw = bytes(view[peer - base : peer - base + peer_len]) if peer_len else b""
            address = self._addresses.get(raw, self)
            if address is self:
                if len(self._addresses) > 4096:
                    self._addresses.clear()
                address = self._addresses[raw] = _address.of_sockaddr(raw)
            message = Message(
                data, answered, _OUTCOMES.get(outcome, "failed"), reason_text, address, connection, kind_of(listener),
                time_ns / 1e9,
            )
            self._all.messages.append(message)
            self.list_of("listener", listener).messages.append(message)
            if connection:
                self.list_of("connection", connection).messages.append(message)
            self._bytes += _size(message)
        if self._bytes > self._limit:
            self._forget()

    def _forget(self):
        """Forgets the older half, so that a recording that nobody clears stays bounded."""
        messages = self._all.messages
        kept, size = len(messages), 0
        while kept and size < self._limit // 2:
            kept -= 1
            size += _size(messages[kept])
        gone = {id(message) for message in messages[:kept]}
        for each in (self._all, *self._of_listener.values(), *self._of_connection.values()):
            before = len(each.messages)
            each.messages[:] = [message for message in each.messages if id(message) not in gone]
            each.forgotten += before - len(each.messages)
        self._of_connection = {number: each for number, each in self._of_connection.items() if each.messages}
        self._bytes = size


def _reason_text(outcome, reason):
    # Of the event that tells of the same: see RESAY_TAP_ in resay.h.
    is_end = _OUTCOMES.get(outcome) in ("closed", "reset")
    kind = _native.RESAY_EVENT_CLOSED if is_end else _native.RESAY_EVENT_DROPPED
    name = lib.resay_event_code_name(kind, reason) or b""
    return name.decode().replace("_", " ")


class Recording(Sequence):
    """What has arrived, oldest first: a live view that grows. A message is in here before its answer can be read."""

    def __init__(self, tape, what="engine", number=0):
        self._tape, self._what, self._number = tape, what, number

    def _list(self):
        self._tape.drain()
        return self._tape.list_of(self._what, self._number)

    def __len__(self):
        return len(self._list().messages)

    def __getitem__(self, index):
        return self._list().messages[index]

    def __eq__(self, other):
        if isinstance(other, Recording):
            return self[:] == other[:]
        if isinstance(other, (list, tuple)):
            return self[:] == list(other)
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self):
        return f"<Recording of {len(self)} messages>"

    @property
    def data(self):
        """All of it, joined: what a raw stream is compared with."""
        return b"".join([message.data for message in self._list().messages])

    @property
    def lost(self):
        """Messages that are not in here because the ring was full, or that were forgotten since."""
        return self._tape.lost + self._list().forgotten

    def of(self, connection):
        """The messages of one connection."""
        return Recording(self._tape, "connection", getattr(connection, "id", connection))

    def clear(self):
        """Forgets what this view shows. Other views keep it."""
        if self._what == "engine":
            self._tape.clear()
        else:
            self._list().messages.clear()

    # ------------------------------------------------------------ waiting

    def wait(self, count=1, *, timeout=None, where=None):
        """Waits until `count` messages are here, of those for which `where` is true, and returns the first `count`."""
        count = _arguments.number("count", count)
        return self._until(lambda: self._found(count, where), timeout, lambda: _wanted(count, where), "wait_async")

    def wait_data(self, data, *, timeout=None):
        """Waits until all data, joined, contains `data`: bytes, a number of bytes, or a pattern. Returns the data up to there."""
        return self._until(self._looks_for(data), timeout, lambda: _wanted_data(data), "wait_data_async")

    def expect(self, *messages, ordered=True, timeout=None):
        """Waits for exactly these messages. Others are an ExpectationError, as is another order unless `ordered` is false."""
        messages = _messages(messages)
        self._until(lambda: self._expected(messages, ordered), timeout, lambda: f"the messages {messages!r}", "expect_async")

    def expect_nothing(self, during):
        """Waits `during` seconds, in which no message may arrive."""
        before = len(self)
        try:
            self.wait(before + 1, timeout=during)
        except WaitTimeout:
            return
        raise ExpectationError(f"expected no message, but {self[before].data!r} arrived\n{self.transcript()}")

    async def wait_async(self, count=1, *, timeout=None, where=None):
        """`wait`, for a coroutine."""
        count = _arguments.number("count", count)
        return await self._until_async(lambda: self._found(count, where), timeout, lambda: _wanted(count, where))

    async def wait_data_async(self, data, *, timeout=None):
        """`wait_data`, for a coroutine."""
        return await self._until_async(self._looks_for(data), timeout, lambda: _wanted_data(data))

    async def expect_async(self, *messages, ordered=True, timeout=None):
        """`expect`, for a coroutine."""
        messages = _messages(messages)
        await self._until_async(lambda: self._expected(messages, ordered), timeout, lambda: f"the messages {messages!r}")

    def transcript(self, limit=4096):
        """All messages in hexadecimal and as text, for a failing test; at most about `limit` characters."""
        lines, size = [], 0
        messages = self[:]
        for number, message in enumerate(messages):
            lines.append(_shown(message, messages[0].time))
            size += len(lines[-1])
            if size > limit:
                lines.append(f"… and {len(messages) - number - 1} more messages")
                break
        return "\n".join(lines) or "nothing arrived"

    def _found(self, count, where):
        messages = self._list().messages
        found = messages if where is None else [message for message in messages if where(message)]
        return list(found[:count]) if len(found) >= count else None

    def _looks_for(self, data):
        if not isinstance(data, int) and not isinstance(getattr(data, "pattern", None), bytes):
            data = _arguments.data("wait_data", data)
        return lambda: self._data_until(data)

    def _data_until(self, data):
        have = self.data
        if isinstance(data, int):
            return have[:data] if len(have) >= data else None
        if isinstance(data, bytes):
            at = have.find(data)
            return have[: at + len(data)] if at >= 0 else None
        match = data.search(have)
        return have[: match.end()] if match else None

    def _expected(self, messages, ordered):
        have = [message.data for message in self[:]]
        if ordered:
            fits = have == messages[: len(have)]
        else:
            rest = list(messages)
            fits = True
            for data in have:
                if data in rest:
                    rest.remove(data)
                else:
                    fits = False
        if not fits:
            raise ExpectationError(f"expected the messages {messages!r}, but got {have!r}\n{self.transcript()}")
        return True if len(have) == len(messages) else None

    def _until(self, look, timeout, wanted, instead):
        engine = self._tape._engine
        engine._refuse_own_loop(instead)
        return wait_until(look, self._tape.waiting_fd, engine._deadline(timeout), self._missed(wanted))

    async def _until_async(self, look, timeout, wanted):
        engine = self._tape._engine
        return await wait_until_async(look, self._tape.waiting_fd, engine._deadline(timeout), self._missed(wanted))

    def _missed(self, wanted):
        return lambda seconds: WaitTimeout(
            f"waited {seconds:g} s for {wanted()}\n{self.transcript()}", code=_native.RESAY_E_TIMEOUT
        )


def _messages(messages):
    return [_arguments.data("expect", message) for message in messages]


def _wanted(count, where):
    return f"{count} message{'s' if count != 1 else ''}{' that fit' if where else ''}"


def _wanted_data(data):
    return f"{data} bytes" if isinstance(data, int) else f"data with {data!r}"


def _shown(message, begin):
    head = (
        f"{message.time - begin:9.6f} s  {message.kind}  {_address.text_of(message.peer)}"
        f"{f'  #{message.connection}' if message.connection else ''}  {len(message.data)} bytes: {message.outcome}"
        f"{f' ({message.reason})' if message.reason else ''}"
    )
    rows = []
    for at in range(0, min(len(message.data), 256), 16):
        row = message.data[at : at + 16]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        rows.append(f"    {at:04x}  {row.hex(' '):47}  {text}")
    if len(message.data) > 256:
        rows.append(f"    … {len(message.data) - 256} more bytes")
    return "\n".join([head, *rows])


def _waits(look, fd_of, deadline, missed):
    """Descriptors to be waited for and for how long, until `look` returns something, which is the generator's result."""
    begin = time.monotonic()
    while True:
        found = look()
        if found is not None:
            return found
        left = _LOOK_AGAIN if deadline is None else deadline - time.monotonic()
        if left <= 0:
            raise missed(time.monotonic() - begin)
        fd = fd_of()
        if fd < 0:
            raise StateError("the engine has ended: nothing more will come")
        yield fd, min(left, _LOOK_AGAIN)


def wait_until(look, fd_of, deadline, missed):
    """Calls `look` until it returns something, whenever a descriptor is readable. `missed` makes the error of a time-out."""
    waits = _waits(look, fd_of, deadline, missed)
    while True:
        try:
            fd, seconds = next(waits)
        except StopIteration as end:
            return end.value
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        poll.poll(1000 * seconds)


async def wait_until_async(look, fd_of, deadline, missed):
    """`wait_until`, for a coroutine."""
    from . import _loops

    waits = _waits(look, fd_of, deadline, missed)
    while True:
        try:
            fd, seconds = next(waits)
        except StopIteration as end:
            return end.value
        # A copy: each loop watches a descriptor for one waiter only.
        copy = os.dup(fd)
        try:
            await _loops.readable(copy, seconds)
        finally:
            os.close(copy)
