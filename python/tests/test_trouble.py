"""Trouble on demand: refuse, pause, reset, push, faults."""

import errno
import socket

import pytest
import resay
from conftest import ask
from resay import faults


def test_a_refusing_listener_comes_back_on_its_port(make):
    engine = make("tcp://127.0.0.1:0").start()
    listener = engine.listeners[0]
    port = listener.port
    for _ in range(20):
        with listener.refusing():
            for _ in range(5):
                with pytest.raises(ConnectionRefusedError):
                    listener.connect()
        with listener.connect() as sock:
            assert ask(sock, b"x") == b"x"
    assert listener.port == port


def test_a_refusing_udp_listener_is_unreachable(make):
    engine = make("udp://127.0.0.1:0").start()
    listener = engine.listeners[0]
    with listener.connect() as sock:
        with listener.refusing(), pytest.raises(ConnectionRefusedError):
            sock.send(b"x")
            sock.recv(1)
        assert ask(sock, b"y") == b"y"


def test_a_paused_listener_reads_nothing(make):
    engine = make("tcp://127.0.0.1:0", record=True).start()
    listener = engine.listeners[0]
    with listener.connect() as old:
        assert ask(old, b"a") == b"a"
        with listener.paused(), listener.connect(timeout=0.05) as new:
            old.settimeout(0.05)
            for sock in (old, new):
                sock.sendall(b"b")
                with pytest.raises(socket.timeout):
                    sock.recv(1)
            assert listener.received.data == b"a"
            listener.resume()
            for sock in (old, new):
                sock.settimeout(5)
                assert sock.recv(1) == b"b"


def test_everybody_is_reset(make):
    engine = make("tcp://127.0.0.1:0").start()
    listener = engine.listeners[0]
    with listener.connect() as a, listener.connect() as b:
        assert ask(a, b"x") == ask(b, b"x")
        assert listener.reset_all() == 2
        for sock in (a, b):
            with pytest.raises(ConnectionResetError):
                sock.recv(1)
    assert all(connection.wait_closed() for connection in listener.connections)


def test_one_connection_is_pushed_to_and_ended(make, url):
    for address in ("tcp://127.0.0.1:0", url("unix"), url("unix-seqpacket")):
        engine = make(address).start()
        with engine.listeners[0].connect() as sock:
            connection = engine.listeners[0].wait_connection()
            connection.send(b"event")
            assert sock.recv(100) == b"event"
            connection.shutdown()
            assert sock.recv(100) == b""
            assert connection.is_open
            connection.close()
        assert connection.wait_closed() and not connection.is_open and connection.closed
        with pytest.raises(resay.StateError, match="has ended"):
            connection.send(b"x")


def test_a_connection_is_reset(make):
    engine = make("tcp://127.0.0.1:0").start()
    with engine.listeners[0].connect() as sock:
        engine.listeners[0].wait_connection().reset()
        with pytest.raises(ConnectionResetError):
            sock.recv(1)


def test_one_connection_is_paused(make):
    engine = make("tcp://127.0.0.1:0", record=True).start()
    listener = engine.listeners[0]
    with listener.connect() as slow, listener.connect() as other:
        assert ask(slow, b"a") == b"a" == ask(other, b"a")
        connection = next(each for each in listener.connections if each.peer == slow.getsockname())
        connection.pause()
        slow.sendall(b"b")
        assert ask(other, b"c") == b"c" and connection.received.data == b"a"
        connection.resume()
        assert slow.recv(1) == b"b"


def test_connections_are_remembered(make):
    engine = make("tcp://127.0.0.1:0").start()
    listener = engine.listeners[0]
    for _ in range(3):
        with listener.connect() as sock:
            ask(sock, b"x")
            own = sock.getsockname()
    assert listener.connections[-1].peer == own and len(listener.connections) == 3
    assert [each.wait_closed() for each in listener.connections] == [resay.CloseReason.PEER_ENDED] * 3
    assert listener.wait_connection(2) is listener.connections[1]
    with pytest.raises(resay.WaitTimeout, match="connection 4"):
        listener.wait_connection(4, timeout=0.01)


def test_a_chain_holds_for_the_next_message(make):
    engine = make("tcp://127.0.0.1:0").start()
    listener = engine.listeners[0]
    with listener.connect() as sock:
        for number in range(200):
            listener.chain("uppercase" if number % 2 else "lowercase")
            assert ask(sock, b"aB") == (b"AB" if number % 2 else b"ab")


def test_a_chain_is_put_back(make):
    engine = make("tcp://127.0.0.1:0", chain=lambda data: data + b"1").start()
    listener = engine.listeners[0]
    with listener.connect() as sock:
        with listener.chained("uppercase"):
            assert listener.chain() == "uppercase" and ask(sock, b"a") == b"A"
            with listener.chained(lambda data: data + b"2"):
                assert ask(sock, b"a") == b"a2"
            assert ask(sock, b"a") == b"A"
        assert ask(sock, b"a") == b"a1"


def test_what_was_no_chain_of_its_own_is_none_afterwards(make):
    engine = make("tcp://127.0.0.1:0", "tcp://127.0.0.1:0?chain=hex", chain="uppercase").start()
    follower, own = engine.listeners
    with follower.chained("reverse"), own.chained("reverse"):
        assert follower.chain() == own.chain() == "reverse"
    assert (follower.chain(), own.chain()) == ("uppercase", "hex")
    engine.chain(bytes.lower)
    with follower.connect() as sock:
        assert ask(sock, b"aB") == b"ab"
    assert own.chain() == "hex"


@pytest.mark.parametrize(
    "stage, text",
    [
        (faults.delay(0.05, jitter=0.01), "delay:time=50000us,jitter=10000us"),
        (faults.drop(), "drop:rate=0.01"),
        (faults.drop(every=3), "drop:every=3"),
        (faults.drop(only=[0, 4]), "drop:only=1+5"),
        (faults.drop(first=2), "drop:first=2"),
        (faults.drop(0.5, seed=7), "drop:rate=0.5,seed=7"),
        (faults.duplicate(1.0), "duplicate:rate=1"),
        (faults.reorder(0.00001), "reorder:rate=0.00001,within=10000us"),
        (faults.corrupt(per="message", mode="zero"), "corrupt:rate=0.01,per=message,mode=zero"),
        (faults.truncate(), "truncate:rate=1"),
        (faults.truncate(5), "truncate:at=5,rate=1"),
        (faults.slice(3, gap=0.01), "slice:size=3,gap=10000us"),
        (faults.bandwidth(1000, burst=10), "bandwidth:rate=1000,burst=10"),
        (faults.reset(), "reset"),
        (faults.reset(after=10, first=2), "reset:after=10,first=2"),
        (faults.close(messages=2), "close:messages=2"),
        (faults.hold(after=5), "hold:after=5"),
        (faults.delay(1) | "hex" | faults.drop(), "delay:time=1000000us | hex | drop:rate=0.01"),
        ("hex" | faults.hold(), "hex | hold"),
    ],
    ids=str,
)
def test_a_fault_is_a_chain(make, stage, text):
    assert str(stage) == text
    make(chain=stage)
    assert stage == stage | "" and hash(stage) == hash(stage | "")


def test_faults_refuse_what_cannot_be():
    for wrong in (lambda: faults.drop(2), lambda: faults.delay(-1), lambda: faults.bandwidth(-1)):
        with pytest.raises(ValueError):
            wrong()
    with pytest.raises(TypeError):
        faults.drop() | 3


def test_a_seed_repeats_a_run(make):
    def run(seed):
        engine = make("udp://127.0.0.1:0", record=True).start()
        engine.chain([faults.drop(0.3), "corrupt:rate=20%,per=message", "prefix:text='a | b'"], seed=seed)
        with engine.listeners[0].connect() as sock:
            sock.settimeout(10)
            for number in range(50):
                sock.send(b"message %d" % number)
            engine.received.wait(50)
        return [(message.data, message.answer, message.outcome) for message in engine.received]

    first = run(7)
    assert first == run(7) != run(8)
    assert {outcome for _, _, outcome in first} == {"answered", "dropped"}


def test_each_stage_gets_a_seed_of_its_own_unless_it_has_one():
    assert faults.seeded(["drop", "hex", "drop:rate=1%", "drop:seed=3", "delay:time=1ms , seed=4"], 10) == [
        "drop:seed=10", "hex", "drop:rate=1%,seed=12", "drop:seed=3", "delay:time=1ms , seed=4",
    ]


def test_a_held_peer_keeps_the_connection(make):
    engine = make("tcp://127.0.0.1:0", chain=faults.hold(after=2)).start()
    with engine.listeners[0].connect(timeout=0.05) as sock:
        assert ask(sock, b"a") == b"a"
        sock.sendall(b"bc")
        with pytest.raises(socket.timeout):
            sock.recv(1)
        assert engine.listeners[0].connections[0].is_open


def test_datagrams_are_answered_twice(make):
    engine = make("udp://127.0.0.1:0", chain=faults.duplicate(1.0)).start()
    with engine.listeners[0].connect() as sock:
        sock.send(b"x")
        assert (sock.recv(10), sock.recv(10)) == (b"x", b"x")
        sock.send(b"y")
        assert (sock.recv(10), sock.recv(10)) == (b"y", b"y")
    assert engine.stats().messages_out == 2


def test_datagrams_overtake_each_other(make):
    engine = make("udp://127.0.0.1:0", chain=faults.reorder(0.5, within=0.02)).start()
    with engine.listeners[0].connect() as sock:
        sent = [b"%d" % number for number in range(30)]
        for data in sent:
            sock.send(data)
        have = [sock.recv(10) for _ in sent]
    assert have != sent and sorted(have) == sorted(sent)


def test_errors_of_connecting_are_those_of_socket(make):
    engine = make("tcp://127.0.0.1:0").start()
    listener = engine.listeners[0]
    engine.drain(1)
    with pytest.raises(OSError) as caught:
        listener.connect()
    assert caught.value.errno == errno.ECONNREFUSED
