"""Python functions and generators as transforms."""

import logging
import os
import socket
import sys
import threading

import pytest
import resay
from conftest import ask, finished


def test_a_function_on_each_kind(make, url, kind):
    engine = make(url(kind), chain=bytes.upper).start()
    with engine.listeners[0].connect() as sock:
        assert ask(sock, b"hello") == b"HELLO"
        assert ask(sock, b"again") == b"AGAIN"


@pytest.mark.parametrize(
    "reply, answer",
    [
        (b"abc", b"abc"),
        (bytearray(b"abc"), b"abc"),
        (memoryview(b"abc"), b"abc"),
        (resay.PASS, b"hello"),
        (resay.Last(b"bye"), b"bye"),
        (bytes(100_000), bytes(100_000)),
    ],
    ids=["bytes", "bytearray", "memoryview", "PASS", "Last", "long"],
)
def test_what_a_function_may_answer(make, reply, answer):
    engine = make("tcp://127.0.0.1:0", chain=lambda data: reply).start()
    with engine.listeners[0].connect() as sock:
        sock.sendall(b"hello")
        have = b""
        while len(have) < len(answer):
            have += sock.recv(len(answer))
        assert have == answer
        if isinstance(reply, resay.Last):
            assert sock.recv(1) == b""
            assert engine.listeners[0].connections[0].wait_closed() is resay.CloseReason.TRANSFORM_CLOSED


def test_none_is_no_answer(make):
    engine = make("udp://127.0.0.1:0", chain=lambda data: None if data == b"quiet" else data, record=True).start()
    with engine.listeners[0].connect() as sock:
        sock.send(b"quiet")
        assert ask(sock, b"loud") == b"loud"
    assert [message.outcome for message in engine.received] == ["dropped", "answered"]


def test_a_connection_is_closed_or_reset(make):
    verdicts = {b"close": resay.CLOSE, b"reset": resay.RESET}
    engine = make("tcp://127.0.0.1:0", chain=verdicts.get).start()
    with engine.listeners[0].connect() as sock:
        assert ask(sock, b"close") == b""
    with engine.listeners[0].connect() as sock, pytest.raises(ConnectionResetError):
        ask(sock, b"reset")


def test_the_end_of_a_stream_is_no_message(make):
    seen = []
    engine = make("tcp://127.0.0.1:0", chain=lambda data: seen.append(data) or data).start()
    with engine.listeners[0].connect() as sock:
        assert ask(sock, b"x") == b"x"
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(1) == b""
    assert seen == [b"x"]


def test_functions_between_names(make):
    engine = make("tcp://127.0.0.1:0", chain=["uppercase", lambda data: data[::-1], "hex"]).start()
    with engine.listeners[0].connect() as sock:
        assert ask(sock, b"ab") == b"4241"


def test_names_for_functions(make):
    engine = make("tcp://127.0.0.1:0", frame="lines")

    @engine.transform("shout")
    def shout(data):
        return data.upper() + b"!"

    engine.chain("shout | reverse")
    engine.start()
    assert shout(b"a") == b"A!" and engine.chain() == "shout | reverse"
    with engine.listeners[0].connect() as sock:
        assert ask(sock, b"ab\n") == b"!BA\n"
        # As a notebook's cell that runs twice.
        engine.transform("shout", lambda data: data + b"?")
        assert ask(sock, b"ab\n") == b"!BA\n"
        engine.chain("shout")
        assert ask(sock, b"ab\n") == b"ab?\n"


def test_an_exception_closes_that_connection_and_is_kept(make, caplog):
    engine = make("tcp://127.0.0.1:0", chain=lambda data: {b"a": b"b"}[data]).start()
    listener = engine.listeners[0]
    with listener.connect() as good, listener.connect() as bad:
        with caplog.at_level(logging.ERROR, "resay"):
            assert ask(bad, b"x") == b""
        assert ask(good, b"a") == b"b"
    [failure] = engine.failures
    assert isinstance(failure.exception, KeyError) and failure.listener is listener
    assert (failure.message.data, failure.message.outcome) == (b"x", "failed") and "lambda" in failure.transform
    assert failure.exception.__traceback__.tb_frame is not None
    assert "KeyError: b'x'" in caplog.text and "test_transforms.py" in caplog.text
    assert engine.stats().transform_errors == 1
    assert listener.connections[1].wait_closed() is resay.CloseReason.TRANSFORM_FAILED
    with pytest.raises(KeyError):
        engine.raise_failures()
    assert engine.failures == []


def test_a_failure_tells_where_its_message_came_from(make):
    engine = make("tcp://127.0.0.1:0", "udp://127.0.0.1:0", chain=lambda data: 1 // 0, record=True).start()
    tcp, udp = engine.listeners
    with tcp.connect() as stream, udp.connect() as datagrams:
        tcp.wait_connection()
        tcp.close()
        assert ask(stream, b"x") == b""
        datagrams.send(b"y")
        engine.received.wait(2)
        told = [(failure.listener, failure.message.kind, failure.message.peer) for failure in engine.failures]
        assert told == [(tcp, "tcp", stream.getsockname()), (udp, "udp", datagrams.getsockname())]


def test_several_failures_are_raised_together(make):
    engine = make("udp://127.0.0.1:0", chain=lambda data: int(data), record=True).start()
    with engine.listeners[0].connect() as sock:
        sock.send(b"x")
        sock.send(b"y")
        engine.received.wait(2)
    assert [message.outcome for message in engine.received] == ["failed", "failed"]
    with pytest.raises(BaseException) as caught:
        engine.raise_failures()
    if sys.version_info >= (3, 11):
        assert [type(each) for each in caught.value.exceptions] == [ValueError, ValueError]
    else:
        assert isinstance(caught.value, ValueError) and len(caught.value.__notes__) == 1


def test_an_answer_of_another_type_is_an_exception(make):
    engine = make("udp://127.0.0.1:0", chain=lambda data: "text", record=True).start()
    with engine.listeners[0].connect() as sock:
        sock.send(b"x")
        engine.received.wait()
    with pytest.raises(TypeError, match="answered with str"):
        engine.raise_failures()


def test_a_transform_may_not_use_its_engine(make):
    engine = make("tcp://127.0.0.1:0")
    engine.chain(lambda data: engine.chain("hex"))
    engine.start()
    with engine.listeners[0].connect() as sock:
        assert ask(sock, b"x") == b""
    with pytest.raises(resay.StateError):
        engine.raise_failures()


def test_transforms_run_on_threads_that_python_knows(make):
    seen = set()

    def look(data):
        seen.add(threading.current_thread())
        return data

    engine = make("tcp://127.0.0.1:0", chain=look, threads=2).start()
    for _ in range(4):
        with engine.listeners[0].connect() as sock:
            assert ask(sock, b"x") == b"x"
    assert seen <= set(threading.enumerate()) and all(thread.name.startswith("resay") for thread in seen)
    engine.close()
    assert not seen & set(threading.enumerate())


def test_a_debugger_sees_every_line(make):
    lines = []

    def trace(frame, event, argument):
        if frame.f_code.co_name == "traced":
            lines.append((event, frame.f_lineno))
        return trace

    def traced(data):
        doubled = data + data
        return doubled

    threading.settrace(trace)
    try:
        engine = make("tcp://127.0.0.1:0", chain=traced).start()
        with engine.listeners[0].connect() as sock:
            assert ask(sock, b"x") == b"xx"
        engine.close()
    finally:
        threading.settrace(None)
    first = traced.__code__.co_firstlineno
    assert [(event, line - first) for event, line in lines] == [("call", 0), ("line", 1), ("line", 2), ("return", 2)]


def test_a_conversation_on_each_kind(make, url, kind):
    def talk(peer):
        assert peer.kind == kind
        line = yield b"hello\n"
        while line != b"quit\n":
            line = yield b"you said " + line
        return b"bye\n"

    engine = make(url(kind)).start()
    listener = engine.listeners[0]
    assert listener.conversation(talk) is talk
    with listener.connect() as sock:
        if kind in ("udp", "unix-dgram"):
            assert ask(sock, b"a\n") == b"you said a\n"
            assert ask(sock, b"quit\n") == b"bye\n"
            return
        assert sock.recv(100) == b"hello\n"
        assert ask(sock, b"a\n") == b"you said a\n"
        assert ask(sock, b"quit\n") == b"bye\n"
        assert sock.recv(1) == b""
    engine.raise_failures()


def test_a_conversation_knows_its_peer(make, url):
    peers = []

    def talk(peer):
        peers.append(peer)
        while True:
            yield (yield)

    engine = make("tcp://127.0.0.1:0", url("unix")).start()
    for listener in engine.listeners:
        listener.conversation(talk)
    with engine.listeners[0].connect() as sock:
        sock.sendall(b"x")
        connection = engine.listeners[0].wait_connection()
        own = sock.getsockname()
        engine.listeners[0].wait_connection()
        sock.sendall(b"y")
        assert sock.recv(1)
        assert (peers[0].address, peers[0].local, peers[0].connection) == (own, sock.getpeername(), connection.id)
        assert peers[0].credentials is None
    with engine.listeners[1].connect() as sock:
        sock.sendall(b"xy")
        sock.sendall(b"xy")
        assert sock.recv(1)
        assert peers[1].address is None
        assert peers[1].credentials == (os.getpid(), os.getuid(), os.getgid())


@pytest.mark.parametrize("kind", ["tcp", "unix", "unix-dgram", "unix-seqpacket"])
def test_the_credentials_of_a_peer_are_for_outside_of_its_conversation(make, url, kind):
    engine = make(url(kind)).start()
    peers, inside = [], []

    @engine.listeners[0].conversation
    def talk(peer):
        peers.append(peer)
        try:
            inside.append(peer.credentials)
        except resay.StateError as error:
            inside.append(str(error))
        yield b"hi"
        yield b"ho"

    with engine.listeners[0].connect() as sock:
        sock.send(b"x")
        assert sock.recv(10)
        known = (os.getpid(), os.getuid(), os.getgid()) if kind in ("unix", "unix-seqpacket") else None
        assert peers[0].credentials == known
        assert inside[0] is None if known is None else "outside" in inside[0]
    assert peers[0].credentials == known  # it has been asked before
    engine.close()
    assert peers[0].credentials == known


def test_a_conversation_hears_of_the_end(make):
    ends = []

    def talk(peer):
        data = b""
        try:
            while True:
                data += yield
        except resay.EndOfStream:
            ends.append(data)
            return data.upper()

    engine = make("tcp://127.0.0.1:0").start()
    engine.listeners[0].conversation(talk)
    with engine.listeners[0].connect() as sock:
        sock.sendall(b"abc")
        sock.shutdown(socket.SHUT_WR)
        assert b"".join(iter(lambda: sock.recv(100), b"")) == b"ABC"
    assert ends == [b"abc"]


def test_a_conversation_that_is_cut_off_is_closed(make):
    closed = threading.Event()

    def talk(peer):
        try:
            while True:
                yield (yield b"hi")
        finally:
            closed.set()

    engine = make("tcp://127.0.0.1:0").start()
    engine.listeners[0].conversation(talk)
    with engine.listeners[0].connect() as sock:
        assert sock.recv(2) == b"hi"
    assert closed.wait(10)
    assert engine.failures == []


def test_an_exception_in_a_conversation_is_a_failure(make):
    def talk(peer):
        yield
        raise RuntimeError("no")

    engine = make("tcp://127.0.0.1:0").start()
    engine.listeners[0].conversation(talk)
    with engine.listeners[0].connect() as sock:
        assert ask(sock, b"x") == b""
    with pytest.raises(RuntimeError, match="no"):
        engine.raise_failures()


@pytest.mark.parametrize("reply", [resay.RESET, resay.CLOSE, resay.PASS, None, b"bye", resay.Last(b"bye")], ids=repr)
def test_a_conversation_may_be_over_before_it_says_anything(make, reply):
    def talk(peer):
        return reply
        yield

    engine = make("tcp://127.0.0.1:0").start()
    engine.listeners[0].conversation(talk)
    if reply is resay.RESET:
        with pytest.raises(ConnectionResetError), engine.listeners[0].connect() as sock:
            sock.recv(10)
    else:
        with engine.listeners[0].connect() as sock:
            assert b"".join(iter(lambda: sock.recv(10), b"")) == (b"bye" if isinstance(reply, (bytes, resay.Last)) else b"")
    engine.listeners[0].wait_connection().wait_closed()
    assert engine.failures == []


def test_replies_from_a_table(make):
    engine = make("udp://127.0.0.1:0", record=True).start()
    listener = engine.listeners[0]
    with listener.connect() as sock:
        listener.reply({b"PING": b"PONG"})
        assert (ask(sock, b"PING"), ask(sock, b"other")) == (b"PONG", b"other")
        listener.reply({b"PING": b"PONG"}, default=b"?")
        assert (ask(sock, b"PING"), ask(sock, b"other")) == (b"PONG", b"?")
        listener.reply(b"always")
        assert ask(sock, b"x") == b"always"


def test_a_script_greets_answers_and_ends(make):
    import re

    engine = make("tcp://127.0.0.1:0").start()
    script = resay.Script().greet(b"220 hi\r\n")
    script.expect(re.compile(rb"HELO (\w+)\r\n"), b"250 ok\r\n").expect(b"QUIT\r\n", resay.Last(b"221 bye\r\n"))
    engine.listeners[0].script(script)
    with engine.listeners[0].connect() as sock, sock.makefile("rb") as file:
        assert file.readline() == b"220 hi\r\n"
        sock.sendall(b"HELO me\r\nQUI")  # as a network may cut it
        assert file.readline() == b"250 ok\r\n" and script.remaining == 1
        sock.sendall(b"T\r\n")
        assert file.read() == b"221 bye\r\n"
    assert script.remaining == 0 and engine.failures == []


def test_a_script_resets_at_a_difference(make):
    engine = make("tcp://127.0.0.1:0").start()
    engine.listeners[0].script(resay.Script().expect(b"PING", b"PONG"))
    with engine.listeners[0].connect() as sock, pytest.raises(ConnectionResetError):
        ask(sock, b"PUNG")
    with pytest.raises(resay.ExpectationError) as caught:
        engine.raise_failures()
    assert "b'PING'" in str(caught.value) and "b'PUNG'" in str(caught.value)


def test_a_script_goes_on_with_the_next_connection(make):
    engine = make("unix-seqpacket:@resay-script-%d" % os.getpid()).start()
    script = resay.Script().expect(b"a", b"1").expect(lambda data: data[:1] == b"b").end().expect(b"c", b"3", after=0.001)
    engine.listeners[0].script(script)
    with engine.listeners[0].connect() as sock:
        assert ask(sock, b"a") == b"1"
        assert ask(sock, b"bb") == b""
    with engine.listeners[0].connect() as sock:
        assert ask(sock, b"c") == b"3"
    assert script.remaining == 0 and engine.failures == []


def test_a_script_greets_no_connection_that_was_open_before(make):
    engine = make("tcp://127.0.0.1:0").start()
    listener = engine.listeners[0]
    script = resay.Script().greet(b"hi").expect(b"a", b"1")
    with listener.connect() as old:
        assert ask(old, b"x") == b"x"
        listener.script(script)
        with listener.connect() as new:
            assert new.recv(10) == b"hi" and script.remaining == 1
            assert ask(old, b"a") == b"1"
    assert engine.failures == []


def test_a_script_plays_for_ever(make):
    engine = make("tcp://127.0.0.1:0", "udp://127.0.0.1:0").start()
    for listener in engine.listeners:
        listener.script(resay.Script().expect(b"a", b"1").expect(b"b", b"2").forever())
        for _ in range(2):
            with listener.connect() as sock:
                assert [ask(sock, each) for each in (b"a", b"b", b"a", b"b")] == [b"1", b"2", b"1", b"2"]
    assert engine.failures == []


def test_a_script_greets_each_connection_for_ever(make):
    engine = make("tcp://127.0.0.1:0").start()
    listener = engine.listeners[0]
    listener.script(resay.Script().greet(b"hi").expect(b"a", b"1").forever())
    for _ in range(2):
        with listener.connect() as sock:
            assert sock.recv(10) == b"hi"
            assert [ask(sock, each) for each in (b"a", b"a")] == [b"1", b"1"]
    assert engine.failures == []


@pytest.mark.parametrize(
    "script", [resay.Script().greet(b"hi"), resay.Script().greet(b"h").greet(b"i").expect(b"")], ids=["greets", "takes nothing"]
)
def test_a_script_for_ever_ends_where_it_takes_nothing(make, script):
    engine = make("tcp://127.0.0.1:0").start()
    engine.listeners[0].script(script.forever())
    for _ in range(2):
        with engine.listeners[0].connect() as sock:
            assert sock.recv(10) == b"hi"
            with pytest.raises(ConnectionResetError):
                ask(sock, b"x")
    assert ["nothing more" in str(failure.exception) for failure in engine.failures] == [True, True]


def test_a_script_expects_the_end(make):
    engine = make("tcp://127.0.0.1:0").start()
    script = resay.Script().expect(b"a", b"1").expect_end()
    engine.listeners[0].script(script)
    with engine.listeners[0].connect() as sock:
        assert ask(sock, b"a") == b"1"
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(1) == b""
    assert script.remaining == 0 and engine.failures == []


def test_all_of_this_without_the_trampoline(request):
    """As on PyPy: callbacks of ctypes."""
    backend = request.config.getoption("--resay-backend")
    done = finished(
        [
            sys.executable, "-m", "pytest", "-v", "-x", f"--resay-backend={backend}", "-p", "no:cacheprovider", __file__,
            f"--deselect={request.node.nodeid}",
        ],
        env={**os.environ, "RESAY_PYTHON_TRAMPOLINE": "/nowhere"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
