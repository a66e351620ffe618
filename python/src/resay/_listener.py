"""A listener: its address, its clients, what it does, what it has seen, and trouble on demand."""

import functools
from contextlib import contextmanager

from . import _address, _arguments, _native
from ._errors import StateError, WaitTimeout, check
from ._native import lib, text_of
from ._recording import Recording, wait_until, wait_until_async
from ._scripts import Script
from ._scripts import replies as _replies
from ._transforms import PASS

_STREAMS = ("tcp", "unix")


class Listener:
    """A bound socket of an engine. `Engine.listen` and `Engine.adopt` make it."""

    def __init__(self, engine, number, chain):
        self._engine, self._id, self._is_open = engine, number, True
        # Its own chain and the seed of that, as they were first and as they are; None: that of the engine.
        self._first = self._set = None if chain is None else (chain, None)
        self._follows = False
        self.url = self._text(lib.resay_listener_url)
        self.kind = _address.kind_of(self.url)
        address = _native.resay_address()
        with engine._use() as handle:
            code = lib.resay_listener_address(handle, number, address)
        check(code)
        bound = _address.of_struct(address)
        self.address = _address.reachable(bound)
        is_internet = isinstance(bound, tuple)
        self.host, self.port = bound[:2] if is_internet else ("", 0)
        self.path = "" if is_internet or bound is None else bound if isinstance(bound, str) else "@" + bound[1:].decode(
            "utf-8", "backslashreplace"
        )
        if self.kind not in ("tcp", "udp", "unix", "unix-dgram", "unix-seqpacket"):
            self.kind = "tcp" if is_internet else "unix"
        self._recording = None

    def __repr__(self):
        return f"<Listener {self.url}>"

    def _text(self, function):
        with self._engine._use() as handle:
            code, text = text_of(lambda buf, cap, need: function(handle, self._id, buf, cap, need))
        check(code)
        return text

    def _do(self, function, *arguments):
        with self._engine._use() as handle:
            return check(function(handle, self._id, *arguments))

    @property
    def family(self):
        """The family of its socket, of the socket module."""
        import socket

        if isinstance(self.address, tuple):
            return socket.AF_INET6 if len(self.address) == 4 else socket.AF_INET
        return socket.AF_UNIX

    @property
    def type(self):
        """The type of its socket, of the socket module."""
        import socket

        return {
            "tcp": socket.SOCK_STREAM, "unix": socket.SOCK_STREAM, "unix-seqpacket": socket.SOCK_SEQPACKET,
        }.get(self.kind, socket.SOCK_DGRAM)

    # ------------------------------------------------------------ clients

    def connect(self, timeout=5.0):
        """A plain socket, connected to this listener, and bound where a client must be (unix-dgram)."""
        import socket

        client = socket.socket(self.family, self.type)
        try:
            client.settimeout(timeout)
            if self.kind == "unix-dgram":
                client.bind("")  # an abstract name of the kernel's choice: unix(7), autobind
            client.connect(self.address)
        except BaseException:
            client.close()
            raise
        return client

    async def open(self):
        """Streams of asyncio, connected to this listener, in a running loop. For TCP and unix streams."""
        import asyncio
        import socket

        if self.kind not in _STREAMS:
            raise StateError(f"{self.url} has no streams: use connect()")
        client = socket.socket(self.family, self.type)
        client.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(client, self.address)
            if self.kind == "unix":
                return await asyncio.open_unix_connection(sock=client)
            return await asyncio.open_connection(sock=client)
        except BaseException:
            client.close()
            raise

    # ------------------------------------------------------------ what it does

    def chain(self, chain=None, *, seed=None):
        """Replaces the chain, and returns when every worker has taken it, so that the next message goes through it.

        Without an argument: the chain as text.
        """
        if chain is None:
            return self._text(lib.resay_listener_chain)
        self._set_chain((chain, seed))

    def _set_chain(self, wanted):
        """Takes a chain and its seed, or None: that of the engine, from now on."""
        self._engine._set_chains([self._id], *(wanted or self._engine._set))
        self._set, self._follows = wanted, wanted is None

    @contextmanager
    def chained(self, chain):
        """Another chain inside a `with`; the old one afterwards."""
        before = self._set
        self.chain(chain)
        try:
            yield self
        finally:
            self._set_chain(before)

    def reply(self, replies, *, default=PASS):
        """Answers from a table, or the same to every message. `default` answers what the table does not have."""
        self.chain(_replies(replies, default))

    def script(self, script):
        """Plays a script."""
        if not isinstance(script, Script):
            raise TypeError(f"a script is a resay.Script, not {type(script).__name__}")
        is_raw = self._option("frame") in ("", "raw")
        self.conversation(script._play(is_raw, self._engine._connections.open_now()))

    def _option(self, key):
        with self._engine._use() as handle:
            code, text = text_of(
                lambda buf, cap, need: lib.resay_listener_option(handle, self._id, _arguments.encoded("the name of an option", key), buf, cap, need)
            )
        check(code)
        return text

    def conversation(self, function):
        """Has a generator function talk to each peer: a decorator."""
        if not callable(function):
            raise TypeError(f"a conversation is a generator function, not {type(function).__name__}")

        @functools.wraps(function)
        def conversation(peer):  # whatever makes the generator, this is seen to be one
            return (yield from function(peer))

        self.chain([conversation])
        return function

    # ------------------------------------------------------------ what it has seen

    @property
    def received(self):
        """What has arrived here."""
        if self._recording is None:
            self._recording = Recording(self._engine._tape_or_refuse(), "listener", self._id)
        return self._recording

    @property
    def connections(self):
        """Its connections, open and ended, oldest first."""
        return self._engine._connections.of(self)

    def _connected(self, count):
        connections = self.connections
        return connections[count - 1] if len(connections) >= count else None

    def wait_connection(self, count=1, *, timeout=None):
        """Waits until `count` connections were accepted, and returns the `count`-th."""
        engine, count = self._engine, _arguments.number("count", count, least=1)
        engine._refuse_own_loop("wait_connection_async")
        return wait_until(
            lambda: self._connected(count), engine._connections.fd, engine._deadline(timeout), lambda s: self._missed(count, s)
        )

    async def wait_connection_async(self, count=1, *, timeout=None):
        """`wait_connection`, for a coroutine."""
        engine, count = self._engine, _arguments.number("count", count, least=1)
        return await wait_until_async(
            lambda: self._connected(count), engine._connections.fd, engine._deadline(timeout), lambda s: self._missed(count, s)
        )

    def _missed(self, count, seconds):
        seen = self.connections
        return WaitTimeout(
            f"waited {seconds:g} s for connection {count} to {self.url}; there were {len(seen)}", code=_native.RESAY_E_TIMEOUT
        )

    def stats(self):
        """Its counters."""
        return self._engine._stats(self._id)

    # ------------------------------------------------------------ trouble

    def refuse(self):
        """Refuses connections (ICMP unreachable on UDP). The port stays ours."""
        self._do(lib.resay_listener_accept, 0)
        self._engine._turn_here()

    def accept(self):
        """Accepts again, on the same port."""
        self._do(lib.resay_listener_accept, 1)
        self._engine._turn_here()

    @contextmanager
    def refusing(self):
        """Refuses inside a `with`."""
        self.refuse()
        try:
            yield self
        finally:
            self.accept()

    def pause(self):
        """Reads nothing, on present and new connections."""
        self._do(lib.resay_listener_pause)
        self._engine._sync()

    def resume(self):
        """Reads again."""
        self._do(lib.resay_listener_resume)
        self._engine._sync()

    @contextmanager
    def paused(self):
        """Reads nothing inside a `with`."""
        self.pause()
        try:
            yield self
        finally:
            self.resume()

    def reset_all(self):
        """Sends RST to every connected peer, and returns their number."""
        count = self._do(lib.resay_listener_reset)
        self._engine._turn_here()
        return count

    def close(self):
        """Closes the listener. Its connections stay open."""
        if self._is_open and self._engine._handle is not None:
            try:
                self._do(lib.resay_listener_close)
            except StateError as error:
                if error.code != _native.RESAY_E_HANDLE:  # else another thread has closed it
                    raise
        self._is_open = False
