"""Scripts: a conversation step by step. Tables of answers: `reply`."""

import threading

from . import _arguments, faults
from ._errors import ExpectationError
from ._transforms import CLOSE, PASS, RESET, EndOfStream, Last, checked_reply

# Of input that no step has taken.
_UNREAD_MAX = 1 << 20
_GREET, _EXPECT, _EXPECT_END, _END, _RESET = "greet", "expect", "expect_end", "end", "reset"


class Script:
    """A conversation step by step. A difference resets the connection and fails the test with a diff.

    The steps are taken once: a connection that follows another goes on where that one stopped, so that a script can reset its
    peer and expect it again. `forever()` plays all steps from the top for each connection, and again when they are over. On a
    raw stream `expect` takes its bytes from what has arrived, however the reads fell.
    """

    def __init__(self):
        self._steps, self._at, self._is_forever = [], 0, False
        self._lock = threading.Lock()

    def greet(self, data):
        """Sends data before anything is received."""
        self._steps.append((_GREET, _arguments.data("greet", data), None, 0.0))
        return self

    def expect(self, data, reply=None, *, after=0.0):
        """Expects bytes, a pattern, or data for which a function is true, and answers with `reply`, `after` seconds later."""
        if not callable(data) and not isinstance(getattr(data, "pattern", None), bytes):
            data = _arguments.data("expect", data)
        # A delay is as long as one of faults may be, and not for ever.
        after = faults._checked("after", _arguments.seconds("after", after))
        self._steps.append((_EXPECT, data, checked_reply("the reply of a step", reply), after))
        return self

    def expect_end(self):
        """Expects the peer to end its side of a raw stream. Elsewhere nobody hears of that."""
        self._steps.append((_EXPECT_END, None, None, 0.0))
        return self

    def end(self):
        """Closes the connection."""
        self._steps.append((_END, None, None, 0.0))
        return self

    def reset(self):
        """Resets the connection."""
        self._steps.append((_RESET, None, None, 0.0))
        return self

    def forever(self):
        """From the top again, for each connection."""
        self._is_forever = True
        return self

    @property
    def remaining(self):
        """Steps that were not taken; 0 for one that plays for ever."""
        return 0 if self._is_forever else len(self._steps) - self._at

    def __repr__(self):
        return f"<Script of {len(self._steps)} steps, {self.remaining} remaining>"

    # ------------------------------------------------------------ playing

    def _play(self, is_raw, old):
        """A conversation that plays the steps. `old` connections go on with it where they are: nobody greets them."""

        def script(peer):
            player = _Player(self, is_raw and peer.kind in ("tcp", "unix"), peer.kind in ("udp", "unix-dgram"))
            reply = None if peer.connection in old else player.begin()
            while True:
                try:
                    data = yield reply
                except EndOfStream:
                    player.ended()
                    return None
                reply = player.take(data)

        return script


class _Player:
    """A script on one connection."""

    def __init__(self, script, is_raw, is_datagram):
        self.script, self.is_raw, self.is_datagram, self.unread = script, is_raw, is_datagram, b""
        self.at, self.has_begun = 0, False

    def _position(self):
        script = self.script
        if not script._is_forever:
            return script._at
        if self.is_datagram:  # each datagram is a conversation of its own: they share the place
            return script._at % len(script._steps) if script._steps else 0
        return self.at

    def _advance(self):
        script = self.script
        if not script._is_forever or self.is_datagram:
            script._at += 1
        else:
            self.at += 1
        if script._is_forever and not self.is_datagram and self.at >= len(script._steps):
            self.at = 0

    def _step(self):
        steps, at = self.script._steps, self._position()
        return steps[at] if at < len(steps) else None

    def begin(self):
        """What is sent before anything is received."""
        with self.script._lock:
            said = b""
            while (step := self._step()) is not None and step[0] == _GREET and (not self.has_begun or self._position()):
                self.has_begun = True
                said += step[1]
                self._advance()
            self.has_begun = True
            if step is not None and step[0] in (_END, _RESET):
                self._advance()
                return RESET if step[0] == _RESET else Last(said) if said else CLOSE
            return said or None

    def take(self, data):
        """What is answered to a message."""
        with self.script._lock:
            self.unread += data
            said, idle = None, 0
            while True:
                step = self._after_greetings()
                # For ever, but not where no step of a whole round takes anything.
                if step is None or idle > len(self.script._steps):
                    raise _difference("nothing more", self.unread)
                kind, wanted, reply, after = step
                if kind != _EXPECT:
                    raise _difference({_EXPECT_END: "the end", _END: "nothing", _RESET: "nothing"}[kind], self.unread)
                used = self._used(wanted)
                if used is None:
                    return said
                idle = 0 if used else idle + 1
                self.unread = self.unread[used:]
                self._advance()
                if after:
                    _delay(after)
                ends, bytes_said = _said(reply, data)
                if bytes_said is not None:
                    said = (said or b"") + bytes_said
                ends = ends or self._follow()
                if ends is RESET:
                    return RESET
                if ends is CLOSE:
                    return CLOSE if said is None else Last(said)
                if not self.unread:
                    return said

    def _after_greetings(self):
        """The next step but greetings: those were sent when the connection began, and are not repeated on the next round."""
        for _ in self.script._steps:
            step = self._step()
            if step is None or step[0] != _GREET:
                return step
            self._advance()
        return None

    def _follow(self):
        """Steps that need no message: the end or a reset right behind an answer."""
        step = self._step()
        if step is not None and step[0] in (_END, _RESET):
            self._advance()
            return CLOSE if step[0] == _END else RESET
        return None

    def _used(self, wanted):
        """How many unread bytes a step takes; None: it needs more. A difference is an exception."""
        have = self.unread
        if callable(wanted):
            if not wanted(have):
                raise _difference(f"what {getattr(wanted, '__name__', wanted)} accepts", have)
            return len(have)
        if isinstance(wanted, bytes):
            if have == wanted or (self.is_raw and have.startswith(wanted)):
                return len(wanted)
            if self.is_raw and wanted.startswith(have):
                return None
            raise _difference(repr(wanted), have)
        match = wanted.match(have) if self.is_raw else wanted.fullmatch(have)
        if match:
            return match.end()
        if self.is_raw and len(have) < _UNREAD_MAX:
            return None
        raise _difference(f"what {wanted.pattern!r} matches", have)

    def ended(self):
        """The peer has ended its side."""
        with self.script._lock:
            step = self._step()
            if step is not None and step[0] == _EXPECT_END:
                self._advance()
            elif self.unread:
                raise _difference(_name_of(step), self.unread)


def _name_of(step):
    return "nothing more" if step is None else repr(step[1])


def _said(reply, data):
    """What a reply ends, and the bytes it says; None: it says nothing."""
    if reply is None:
        return None, None
    if reply is PASS:
        return None, data
    if reply is CLOSE or reply is RESET:
        return reply, None
    if isinstance(reply, Last):
        return CLOSE, bytes(reply.data)
    return None, bytes(reply)


def _difference(wanted, have):
    return ExpectationError(f"the script expected {wanted}\n           but got {have[:200]!r}")


def _delay(seconds):
    from . import _transforms

    _transforms.delay_answer(seconds)


def replies(table, default):
    """A function that answers from a table, or always the same."""
    from collections.abc import Mapping

    checked_reply("default", default)
    if not isinstance(table, Mapping):
        checked_reply("a reply", table)
        return lambda data: table
    table = dict(table)
    for message, reply in table.items():
        if not isinstance(message, (bytes, memoryview)):
            raise TypeError(f"the table of replies: a message is bytes, not {type(message).__name__}")
        checked_reply(f"the reply to {message!r}", reply)
    return lambda data: table.get(data, default)
