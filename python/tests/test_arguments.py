"""What callers give is taken as it is meant, or refused where it is given: never cut, wrapped or counted as zeros."""

import math
import re
import socket
import time

import pytest
import resay
from conftest import ask
from resay import _arguments

CUT = "tcp://127.0.0.1:0\0?frame=lines"


@pytest.mark.parametrize(
    "give",
    [
        lambda engine: engine.listen(CUT),
        lambda engine: engine.listen("tcp://127.0.0.1:0", chain="uppercase\0 | no-such"),
        lambda engine: engine.listen("tcp://127.0.0.1:0", frame="lines\0"),
        lambda engine: engine.chain("uppercase\0 | no-such"),
        lambda engine: engine.transform("shout\0", bytes.upper),
        lambda engine: engine.load("/tmp/a.so\0"),
        lambda engine: resay.Engine(idle_timeout="3s\0"),
        lambda engine: resay.Engine(backend="epoll\0"),
        lambda engine: resay.Engine(plugin_path=["/tmp\0"]),
        lambda engine: resay.Client(CUT),
        lambda engine: resay.dry_run("uppercase\0", [b"a"]),
        lambda engine: resay.dry_run("uppercase", [b"a"], kind="tcp\0"),
        lambda engine: resay.dry_run("uppercase", [b"a"], frame="raw\0"),
    ],
)
def test_no_text_is_cut_at_a_nul(make, give):
    with pytest.raises(ValueError, match="NUL"):
        give(make())


def test_the_place_of_a_nul_is_shown(make):
    with pytest.raises(resay.SpecError, match="a URL") as raised:
        make(CUT)
    assert (raised.value.text, raised.value.position) == (CUT, 17)
    lines = str(raised.value).splitlines()
    assert lines[1][lines[2].index("^")] == "\N{SYMBOL FOR NULL}" and "\0" not in str(raised.value)


def test_a_nul_in_a_key_shows_nothing_of_it(make):
    with socket.create_server(("127.0.0.1", 0)) as server:
        with pytest.raises(ValueError, match="NUL") as raised:
            make().adopt(server, cert=b"-----BEGIN X-----\nsecret\0\n-----END X-----")
    assert "secret" not in str(raised.value)


def test_an_error_with_bytes_that_are_no_text_can_be_shown(make):
    with pytest.raises(ValueError) as raised:
        make("tcp://127.0.0.1:0\udc80\0")
    assert "NUL" in str(raised.value)


@pytest.mark.parametrize("seconds, count", [(None, -1), (0, 0), (0.25, 250), (2147483.647, 2147483647)])
def test_times_are_milliseconds_for_c(seconds, count):
    assert _arguments.milliseconds("timeout", seconds) == count


@pytest.mark.parametrize("seconds", [2147483.648, 2147484.5, 4294967.796, 1e300, math.inf])
def test_a_time_too_long_for_c_is_for_ever(seconds):
    assert _arguments.milliseconds("timeout", seconds) == -1


@pytest.mark.parametrize("seconds", [4294967.296 + 0.05, 2147484.5, math.inf])
def test_a_long_timeout_does_not_end_at_once(make, seconds):
    engine = make("udp://127.0.0.1:0", chain="delay:time=200ms").start()
    with resay.Client(engine.listeners[0].url, timeout=seconds) as client:
        client.send(b"x", timeout=seconds)
        assert client.recv(timeout=seconds) == b"x"


def test_an_engine_whose_waits_have_no_limit(make):
    with make("tcp://127.0.0.1:0", timeout=math.inf, record=True) as engine:
        engine.listeners[0].chain("uppercase")
        with engine.listeners[0].connect() as sock:
            assert ask(sock, b"x") == b"X"
        assert engine.received.wait(1) == [b"x"]
        engine.drain(math.inf)


@pytest.mark.parametrize("seconds", [-1, -0.001, math.nan])
def test_a_time_below_zero_or_that_is_none_is_refused(make, seconds):
    engine = make("tcp://127.0.0.1:0", record=True).start()
    listener = engine.listeners[0]
    with resay.Client(listener.url) as client:
        connection = listener.wait_connection()
        for give in (
            lambda: client.recv(timeout=seconds),
            lambda: client.send(b"x", timeout=seconds),
            lambda: resay.Client(listener.url, timeout=seconds),
            lambda: resay.Engine(timeout=seconds),
            lambda: engine.received.wait(timeout=seconds),
            lambda: engine.received.expect_nothing(seconds),
            lambda: listener.wait_connection(timeout=seconds),
            lambda: connection.wait_closed(timeout=seconds),
            lambda: engine.drain(timeout=seconds),
            lambda: resay.Script().expect(b"x", after=seconds),
        ):
            with pytest.raises(ValueError, match=re.escape(repr(seconds))):
                give()
    assert engine.is_running


def test_a_time_is_a_number(make):
    for give in (lambda: resay.Engine(timeout="5"), lambda: resay.Script().expect(b"x", after="1")):
        with pytest.raises(TypeError, match="a number of seconds, not str"):
            give()


def test_numbers_do_not_wrap(make):
    engine = make("tcp://127.0.0.1:0", record=True)
    for give in (
        lambda: resay.Engine(threads=-1),
        lambda: resay.Engine(threads=(1 << 32) + 1),
        lambda: resay.Engine(record=-1),
        lambda: engine.events(capacity=-1),
        lambda: engine.events(capacity=(1 << 32) + 1),
        lambda: engine.received.wait(-1),
        lambda: engine.listeners[0].wait_connection(0),
        lambda: engine.listeners[0].wait_connection(-1),
    ):
        with pytest.raises(ValueError, match="must be from [01] to"):
            give()
    with pytest.raises(TypeError, match="threads is a whole number, not str"):
        resay.Engine(threads="2")


@pytest.mark.parametrize("wrong", [5, "text", [1, 2], None])
def test_a_number_is_not_as_many_zeros(make, wrong):
    engine = make("tcp://127.0.0.1:0", record=True).start()
    with resay.Client(engine.listeners[0].url) as client:
        connection = engine.listeners[0].wait_connection()
        for give in (
            lambda: client.send(wrong),
            lambda: connection.send(wrong),
            lambda: resay.dry_run("uppercase", [wrong]),
            lambda: resay.Script().greet(wrong),
            lambda: resay.Script().expect(wrong),
            lambda: resay.Last(wrong),
            lambda: engine.received.expect(wrong),
        ):
            with pytest.raises(TypeError, match=f"bytes are expected, not {type(wrong).__name__}"):
                give()
        assert engine.received == []


def test_bytes_come_in_many_types(make):
    import array

    engine = make("tcp://127.0.0.1:0", record=True).start()
    with resay.Client(engine.listeners[0].url) as client:
        for data in (b"ab", bytearray(b"ab"), memoryview(b"a_b_")[::2], array.array("B", b"ab")):
            client.send(data)
            assert client.recv_exactly(2) == b"ab"
        client.send(engine.received[0])
        assert client.recv_exactly(2) == b"ab"
    assert resay.dry_run("uppercase", [bytearray(b"ab"), engine.received[0]]) == [b"AB", b"AB"]


@pytest.mark.parametrize("messages", [b"ab", bytearray(b"ab"), memoryview(b"ab"), "ab"])
def test_one_message_is_no_list_of_messages(messages):
    with pytest.raises(TypeError, match="a list of messages"):
        resay.dry_run("uppercase", messages)


def test_a_single_directory_of_plugins(make, tmp_path):
    for directory in (tmp_path, str(tmp_path), str(tmp_path).encode(), [tmp_path]):
        make(plugin_path=directory)
    with pytest.raises(FileNotFoundError, match="/no/such/directory"):
        make(plugin_path="/no/such/directory")


@pytest.mark.parametrize(
    "give",
    [
        lambda listener: listener.reply("text"),
        lambda listener: listener.reply(5),
        lambda listener: listener.reply(bytes.upper),
        lambda listener: listener.reply({"a": b"b"}),
        lambda listener: listener.reply({b"a": "b"}),
        lambda listener: listener.reply({b"a": b"b"}, default="c"),
        lambda listener: listener.conversation(42),
        lambda listener: listener.script("text"),
        lambda listener: listener._engine.transform("number", 42),
        lambda listener: listener._engine.transform(bytes.upper),
        lambda listener: listener._engine.conversation("number", 42),
        lambda listener: resay.Script().expect(b"a", "b"),
        lambda listener: resay.Script().expect(re.compile("text")),
        lambda listener: listener.received.wait_data("text"),
        lambda listener: listener.received.wait_data(re.compile("text")),
        lambda listener: listener._engine.listen(b"tcp://127.0.0.1:0"),
    ],
)
def test_what_has_the_wrong_type_is_refused_where_it_is_given(make, give):
    listener = make("tcp://127.0.0.1:0", record=True).listeners[0]
    before = listener.chain()
    begin = time.monotonic()
    with pytest.raises(TypeError):
        give(listener)
    assert listener.chain() == before and time.monotonic() - begin < 4
