"""What has arrived: recordings, and waiting for them."""

import re
import socket
import threading
import time

import pytest
import resay
from conftest import ask


def test_a_message_of_each_kind(make, url, kind):
    engine = make(url(kind), chain="uppercase", record=True).start()
    listener = engine.listeners[0]
    before = time.monotonic()
    with listener.connect() as sock:
        assert ask(sock, b"hello") == b"HELLO"
        [message] = listener.received
        assert (message.data, message.answer, message.outcome, message.reason) == (b"hello", b"HELLO", "answered", "")
        assert message.kind == kind and message == b"hello" and bytes(message) == b"hello"
        assert before <= message.time <= time.monotonic()
        assert (message.connection > 0) == (kind not in ("udp", "unix-dgram"))
        if kind in ("tcp", "udp"):
            assert message.peer == sock.getsockname()
        if kind == "unix-dgram":
            assert message.peer == sock.getsockname()
    assert engine.received == listener.received == [b"hello"]


def test_a_message_is_here_before_its_answer(make, url, kind):
    engine = make(url(kind), record=True).start()
    with engine.listeners[0].connect() as sock:
        for number in range(2000):
            data = b"%d" % number
            assert ask(sock, data) == data
            assert engine.received[-1].data == data
    assert engine.received.lost == 0


def test_views_of_listeners_and_connections(make):
    engine = make("tcp://127.0.0.1:0", "tcp://127.0.0.1:0", record=True).start()
    first, second = engine.listeners
    with first.connect() as a, first.connect() as b, second.connect() as c:
        for number, sock in enumerate((a, b, c, a)):
            ask(sock, b"%d" % number)
        assert first.received.data == b"013" and second.received.data == b"2" and engine.received.data == b"0123"
        one, two = first.connections
        assert one.received.data == b"03" and first.received.of(two).data == b"1" == engine.received.of(two.id).data
        first.received.clear()
        assert len(first.received) == 0 and len(engine.received) == 4
        ask(a, b"4")
        assert first.received[:] == [b"4"] and list(first.received) == [b"4"] and engine.received[-1] == b"4"
        engine.received.clear()
        assert len(engine.received) == len(first.received) == len(one.received) == 0


def test_waiting(make):
    engine = make("udp://127.0.0.1:0", record=True, timeout=10).start()
    listener = engine.listeners[0]
    with listener.connect() as sock:
        send = [threading.Thread(target=sock.send, args=(b"m%d" % number,)) for number in range(4)]
        for thread in send[:2]:
            thread.start()
        assert sorted(each.data for each in listener.received.wait(2)) == [b"m0", b"m1"]
        for thread in send[2:]:
            thread.start()
        assert [each.data for each in listener.received.wait(where=lambda message: message == b"m3")] == [b"m3"]
        listener.received.expect(b"m3", b"m2", b"m1", b"m0", ordered=False)
        listener.received.expect_nothing(0.01)
        for thread in send:
            thread.join()


def test_waiting_for_data(make):
    engine = make("tcp://127.0.0.1:0", record=True).start()
    with engine.listeners[0].connect() as sock:
        sock.sendall(b"GET / HTTP/1.1\r\n\r\nrest")
        assert engine.received.wait_data(b"\r\n\r\n") == b"GET / HTTP/1.1\r\n\r\n"
        assert engine.received.wait_data(re.compile(rb"HTTP/\d")) == b"GET / HTTP/1"
        assert engine.received.wait_data(3) == b"GET"


def test_a_wait_that_ends_in_vain_shows_what_arrived(make):
    engine = make("udp://127.0.0.1:0", record=True).start()
    with engine.listeners[0].connect() as sock:
        ask(sock, b"\x00hello")
        with pytest.raises(resay.WaitTimeout) as caught:
            engine.received.wait(2, timeout=0.01)
    assert isinstance(caught.value, TimeoutError) and isinstance(caught.value, AssertionError)
    assert "2 messages" in str(caught.value) and "00 68 65 6c 6c 6f" in str(caught.value) and ".hello" in str(caught.value)


def test_expectations(make):
    engine = make("udp://127.0.0.1:0", record=True).start()
    with engine.listeners[0].connect() as sock:
        ask(sock, b"a")
        ask(sock, b"b")
        engine.received.expect(b"a", b"b")
        with pytest.raises(resay.ExpectationError, match="b'b', b'a'"):
            engine.received.expect(b"b", b"a")
        with pytest.raises(resay.ExpectationError):
            engine.received.expect(b"a", ordered=False)
        with pytest.raises(resay.WaitTimeout):
            engine.received.expect(b"a", b"b", b"c", timeout=0.01)
        over = threading.Event()

        def send_until_over():
            # Again and again: one message alone might come before anybody expects nothing.
            while not over.is_set():
                sock.send(b"x")
                over.wait(0.01)

        sender = threading.Thread(target=send_until_over)
        sender.start()
        try:
            with pytest.raises(resay.ExpectationError, match="no message"):
                engine.received.expect_nothing(5)
        finally:
            over.set()
            sender.join()


def test_a_long_message_is_whole(make):
    engine = make("tcp://127.0.0.1:0", record=True, frame="len32be", max_message="8m").start()
    data = bytes(range(256)) * 12_000
    with engine.listeners[0].connect() as sock:
        sock.sendall(len(data).to_bytes(4, "big") + data)
        assert engine.received.wait()[0].data == data


def test_a_recording_is_bounded(make):
    engine = make("udp://127.0.0.1:0", record=100_000).start()
    with engine.listeners[0].connect() as sock:
        for _ in range(300):
            assert len(ask(sock, bytes(1000))) == 1000
            len(engine.received)
    assert len(engine.received) < 110 and engine.received.lost + len(engine.received) == 300


def test_answers_count_where_a_recording_is_bounded(make):
    engine = make("udp://127.0.0.1:0", record=100_000, chain=lambda data: data * 20).start()
    with engine.listeners[0].connect() as sock:
        for _ in range(300):
            assert len(ask(sock, bytes(50))) == 1000
            len(engine.received)
    assert len(engine.received) < 110 and engine.received.lost + len(engine.received) == 300


def test_what_the_ring_could_not_keep_is_lost(make):
    engine = make("udp://127.0.0.1:0", record=100_000).start()
    with engine.listeners[0].connect() as sock:
        for _ in range(3):
            for _ in range(300):
                ask(sock, bytes(1000))
            assert engine.received.lost > 0 and engine.received.lost + len(engine.received) == 300
            engine.received.clear()
            assert engine.received.lost == 0


def test_a_reason_says_who_has_ended_a_connection(make):
    verdicts = {b"close": resay.CLOSE, b"reset": resay.RESET, b"none": None}
    engine = make("tcp://127.0.0.1:0", record=True, chain=verdicts.get).start()
    for data in verdicts:
        with engine.listeners[0].connect() as sock:
            sock.sendall(data)
            engine.received.wait(where=lambda message: message == data)
    assert [(message.outcome, message.reason) for message in engine.received] == [
        ("closed", "transform closed"), ("reset", "transform closed"), ("dropped", "by transform"),
    ]


def test_a_transcript_is_limited(make):
    engine = make("udp://127.0.0.1:0", record=True).start()
    assert engine.received.transcript() == "nothing arrived"
    with engine.listeners[0].connect() as sock:
        for _ in range(50):
            ask(sock, b"x" * 300)
    text = engine.received.transcript(1000)
    assert len(text) < 4000 and text.endswith("more messages") and "44 more bytes" in text


def test_without_a_recording_there_is_none(make):
    engine = make("udp://127.0.0.1:0")
    with pytest.raises(resay.StateError, match="record=True"):
        engine.received


def test_a_recording_outlives_its_engine(make):
    engine = make("udp://127.0.0.1:0", record=True).start()
    received = engine.received
    with engine.listeners[0].connect() as sock:
        ask(sock, b"x")
    engine.close()
    assert received == [b"x"]
    with pytest.raises(resay.StateError):
        received.wait(2)


def test_a_connection_knows_its_balancer(make):
    with make("tcp://127.0.0.1:0?proxy=v1", "tcp://127.0.0.1:0", record=True) as engine:
        listener, plain = engine.listeners
        with listener.connect() as sock:
            connection = listener.wait_connection()
            assert (connection.peer, connection.via) == (sock.getsockname(), None)
            assert ask(sock, b"PROXY TCP4 192.0.2.1 192.0.2.2 4000 80\r\nhello") == b"hello"
            assert (connection.peer, connection.via) == (("192.0.2.1", 4000), sock.getsockname())
            assert engine.received[0].peer == connection.peer
            assert "192.0.2.1:4000 by 127.0.0.1" in repr(connection)
        connection.wait_closed()
        assert connection.via is not None
        # It has ended before somebody looks.
        header = "PROXY TCP6 2001:db8::1 2001:db8::2 4000 80\r\n".encode()
        with listener.connect() as sock:
            assert ask(sock, header + b"x") == b"x"
            sock.shutdown(socket.SHUT_WR)
            assert sock.recv(1) == b""
            where = sock.getsockname()
        while listener.stats().open:
            pass
        found = listener.connections[-1]
        assert (found.peer[:2], found.via) == (("2001:db8::1", 4000), where)
        with plain.connect() as sock:
            assert ask(sock, b"x") == b"x"
            assert plain.connections[0].via is None
