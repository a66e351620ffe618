"""Engines and listeners: every kind of socket, options, errors."""

import errno
import gc
import os
import socket
import sys
import threading
import warnings
from contextlib import closing

import pytest
import resay
from conftest import ask, finished


def test_each_kind_echoes(make, url, kind):
    engine = make(url(kind), chain="uppercase").start()
    listener = engine.listeners[0]
    assert listener.kind == kind and listener.url in repr(listener)
    with listener.connect() as sock:
        assert ask(sock, b"hello") == b"HELLO"
    assert (listener.family, listener.type) == (sock.family, sock.type)
    assert (listener.port > 0) == (kind in ("tcp", "udp")) and bool(listener.path) == (kind not in ("tcp", "udp"))


def test_a_client_of_each_kind(make, url, kind):
    engine = make(url(kind)).start()
    with resay.Client(engine.listeners[0].url) as client:
        client.send(b"hello")
        assert client.recv() == b"hello"
        if kind in ("tcp", "unix"):
            client.send(b"abcdef")
            assert client.recv_exactly(6) == b"abcdef"
            client.shutdown()
            assert client.recv() == b""
            with pytest.raises(EOFError):
                client.recv_exactly(1)
    with pytest.raises(resay.StateError):
        client.send(b"x")


def test_a_client_that_hears_nothing_times_out(make):
    engine = make("udp://127.0.0.1:0", chain="hold").start()
    with resay.Client(engine.listeners[0].url) as client:
        client.send(b"x")
        with pytest.raises(TimeoutError):
            client.recv(timeout=0.01)


def test_options_are_those_of_urls_and_times_are_seconds(make):
    engine = make("tcp://127.0.0.1:0", frame="lines", idle_timeout=1.5, nodelay=False, max_connections=3).start()
    listener = engine.listeners[0]
    assert listener._option("frame") == "lines" and listener._option("idle_timeout") == "1500ms"
    assert listener._option("max_connections") == "3"
    other = engine.listen("tcp://127.0.0.1:0?frame=len8", chain="prefix:text='a|b, '", idle_timeout="off")
    assert other._option("frame") == "len8" and other._option("idle_timeout") == "off"
    with other.connect() as sock:
        assert ask(sock, b"\x02hi") == b"\x07a|b, hi"
    assert other.chain().startswith("prefix:text=")


def test_an_error_shows_its_place(make):
    with pytest.raises(resay.SpecError) as caught:
        make("tcp://127.0.0.1:0?fame=lines")
    assert caught.value.position == len("tcp://127.0.0.1:0?") and isinstance(caught.value, ValueError)
    lines = str(caught.value).splitlines()
    assert lines[-1].index("^") == lines[-2].index("fame")
    with pytest.raises(resay.SpecError) as caught:
        make(chain="uppercase ! hex")
    assert caught.value.code == -108


@pytest.mark.parametrize(
    "key, value, at",
    [
        ("idle_timeout", "3xs", "x"),
        ("frame", "zz", "z"),
        ("max_message", "12q", "q"),
        ("bogus", 1, "b"),
        ("backend", "kqueue", "k"),
        ("thread_cpus", "a-b", "a"),
    ],
)
def test_an_error_of_an_option_shows_its_place(key, value, at):
    with pytest.raises(resay.SpecError) as raised:
        resay.Engine("tcp://127.0.0.1:0", **{key: value})
    _, text, caret = str(raised.value).splitlines()
    assert str(value) in text and text[caret.index("^")] == at


def test_errors_have_classes_of_python(make, tmp_path):
    with pytest.raises(resay.PluginError, match="upercase"):
        make(chain="upercase")
    with pytest.raises(resay.PluginError):
        make(chain="delay:time=x")
    engine = make("tcp://127.0.0.1:0")
    with pytest.raises(OSError) as caught:
        engine.listen(engine.listeners[0].url)
    assert caught.value.errno == errno.EADDRINUSE
    with pytest.raises(FileNotFoundError):
        engine.listen(f"unix:{tmp_path}/no/such/directory")
    engine.start()
    with pytest.raises(resay.StateError):
        engine.start()


def test_a_socket_of_the_program_is_adopted(make):
    with socket.create_server(("127.0.0.1", 0)) as own:
        engine = make()
        listener = engine.adopt(own, chain="uppercase")
        engine.start()
        assert listener.address == own.getsockname() and listener.kind == "tcp"
        with listener.connect() as sock:
            assert ask(sock, b"x") == b"X"


def test_ipv6_addresses_are_those_of_socket(make):
    try:
        engine = make("tcp://[::1]:0").start()
    except OSError:
        pytest.skip("there is no IPv6 here")
    listener = engine.listeners[0]
    assert listener.address == ("::1", listener.port, 0, 0)
    with listener.connect() as sock:
        assert ask(sock, b"x") == b"x"


def test_an_abstract_name(make):
    engine = make("unix:@resay-python-test-%d" % os.getpid()).start()
    listener = engine.listeners[0]
    assert listener.address == b"\0resay-python-test-%d" % os.getpid() and listener.path.startswith("@")
    with listener.connect() as sock:
        assert ask(sock, b"x") == b"x"


def test_a_wildcard_address_is_reached_over_loopback(make):
    engine = make("tcp://0.0.0.0:0").start()
    assert engine.listeners[0].host == "0.0.0.0"
    with engine.listeners[0].connect() as sock:
        assert ask(sock, b"x") == b"x"


def test_a_closed_listener_leaves_its_connections(make):
    engine = make("tcp://127.0.0.1:0", record=True).start()
    listener = engine.listeners[0]
    with listener.connect() as sock:
        assert ask(sock, b"a") == b"a"
        listener.close()
        assert engine.listeners == ()
        assert ask(sock, b"b") == b"b"
        assert [m.kind for m in engine.received] == ["tcp", "tcp"]
    listener.close()


def test_a_listener_that_could_not_be_closed_is_still_there(make):
    engine = make("tcp://127.0.0.1:0").start()
    [listener] = engine.listeners
    refused = []

    def closes(data):
        try:
            listener.close()
        except resay.StateError as error:  # a call that waits
            refused.append(error)
        return data

    listener.chain(closes)
    with listener.connect() as sock:
        assert ask(sock, b"x") == b"x"
    assert len(refused) == 1 and engine.listeners == (listener,)
    listener.close()
    listener.close()
    assert engine.listeners == ()
    with pytest.raises(ConnectionRefusedError):
        listener.connect()


def test_two_threads_close_one_listener(make):
    [listener] = make("tcp://127.0.0.1:0").start().listeners
    listener._do(resay._native.lib.resay_listener_close)  # as another thread does, behind the look whether it is open
    listener.close()
    assert not listener._is_open


def test_counters(make):
    engine = make("tcp://127.0.0.1:0", "udp://127.0.0.1:0").start()
    with engine.listeners[0].connect() as sock:
        ask(sock, b"hello")
        stats = engine.stats()
        assert (stats.accepted, stats.messages_in, stats.bytes_in) == (1, 1, 5)
        assert engine.listeners[1].stats().messages_in == 0
        assert "bytes_in=5" in repr(stats)


def test_close_leaves_nothing(make, url):
    make(url("unix")).close()  # what is made once and stays
    threads, descriptors = threading.active_count(), len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        address = url("unix")
        engine = make(address, "tcp://127.0.0.1:0", record=True, chain=bytes.upper).start()
        events = engine.events()
        with engine.listeners[0].connect() as sock:
            assert ask(sock, b"x") == b"X"
        events.close()
        engine.close()
        engine.close()
        assert not os.path.exists(address.partition(":")[2])
    assert (threading.active_count(), len(os.listdir("/proc/self/fd"))) == (threads, descriptors)
    with pytest.raises(resay.StateError):
        engine.stats()
    assert repr(engine) == "<Engine: closed>"


def test_a_thousand_engines_leave_no_memory(backend):
    def cycle(number):
        for _ in range(number):
            with resay.Engine("tcp://127.0.0.1:0", backend=backend, chain=lambda data: data):
                pass

    def resident():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    cycle(100)
    gc.collect()
    before = resident()
    cycle(300)
    gc.collect()
    assert (resident() - before) / 300 < 4096
    assert not resay._transforms._alive


def test_what_was_left_open_warns(backend):
    engine = resay.Engine("tcp://127.0.0.1:0", backend=backend).start()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del engine
        gc.collect()
    assert [each.category for each in caught] == [ResourceWarning]
    assert "tcp://127.0.0.1:" in str(caught[0].message)


def test_is_running(make):
    engine = make("tcp://127.0.0.1:0")
    assert not engine.is_running
    engine.start()
    assert engine.is_running
    engine.drain(1)
    assert not engine.is_running


def test_events_happen_in_order(make):
    engine = make()
    with closing(engine.events(resay.EventKind.ACCEPTED | resay.EventKind.CLOSED)) as events:
        listener = engine.listen("tcp://127.0.0.1:0")
        engine.start()
        with listener.connect() as sock:
            accepted = next(events)
            assert (accepted.kind, accepted.listener) == (resay.EventKind.ACCEPTED, listener)
            assert "127.0.0.1:%d" % sock.getsockname()[1] in accepted.text
        closed = next(events)
        assert (closed.kind, closed.connection) == (resay.EventKind.CLOSED, accepted.connection)
        assert closed.code == resay.CloseReason.PEER_ENDED and closed.time >= accepted.time
        engine.drain(1)
        assert list(events) == []


def test_transforms_are_listed():
    found = {info.name: info for info in resay.transforms()}
    assert found["rot13"].is_bytewise and not found["hex"].is_bytewise and not found["rot13"].needs_messages
    assert set(found["delay"].options) == {"time", "jitter", "seed"}
    assert {"hold", "reorder"} <= set(found)


def test_several_threads_serve(make):
    engine = make("tcp://127.0.0.1:0", threads=3).start()
    names = sorted(thread.name for thread in threading.enumerate() if thread.name.startswith("resay"))
    # The watchdog's thread may begin a moment later.
    assert [name for name in names if name != "resay-watchdog"] == ["resay-0", "resay-1", "resay-2"]
    socks = [engine.listeners[0].connect() for _ in range(9)]
    for sock in socks:
        assert ask(sock, b"x") == b"x"
        sock.close()


def test_run_serves_here_until_stop(make):
    engine = make("tcp://127.0.0.1:0")

    def client():
        try:
            with engine.listeners[0].connect() as sock:
                answers.append(ask(sock, b"x"))
        finally:
            engine.stop()

    answers = []
    thread = threading.Thread(target=client)
    thread.start()
    engine.run()
    thread.join()
    assert answers == [b"x"] and not engine.is_running


def test_run_with_several_threads(make):
    engine = make("tcp://127.0.0.1:0", threads=2)

    def client():
        try:
            for _ in range(4):
                with engine.listeners[0].connect() as sock:
                    answers.append(ask(sock, b"x"))
        finally:
            engine.drain(1)

    answers = []
    thread = threading.Thread(target=client)
    thread.start()
    engine.run()
    thread.join()
    assert answers == [b"x"] * 4


def test_a_helper_of_run_leaves_ctrl_c_to_the_main_thread(make):
    engine = make("tcp://127.0.0.1:0")
    engine._failures.interrupt = KeyboardInterrupt()  # as a transform leaves it that runs on the main thread
    helper = threading.Thread(target=engine._serve)
    helper.start()
    engine.stop()
    helper.join()
    assert engine._failures.interrupt is not None


def test_a_plugin_file_is_loaded(make, tmp_path):
    import shutil

    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler")
    source = tmp_path / "flip.c"
    source.write_text(
        """#include <resay_plugin.h>
static resay_status map(void *instance, void *session, uint8_t *data, size_t len)
{
  (void)instance; (void)session;
  for (size_t i = 0; i < len; i++) data[i] ^= 0x20;
  return RESAY_OK;
}
static const resay_transform flip = {
  .struct_size = sizeof flip, .caps = RESAY_CAP_BYTEWISE, .id = "flip", .version = "1.0.0", .map = map,
};
RESAY_PLUGIN(&flip);
"""
    )
    library = tmp_path / "libflip.so"
    done = finished(["cc", "-shared", "-fPIC", f"-I{resay.get_include()}", "-o", str(library), str(source)])
    assert done.returncode == 0, done.stderr
    engine = make("tcp://127.0.0.1:0")
    assert engine.load(library) == engine.load(library) == ["flip"]
    engine.chain("flip")
    engine.start()
    with engine.listeners[0].connect() as sock:
        assert ask(sock, b"Hello") == b"hELLO"
    found = make("tcp://127.0.0.1:0", plugin_path=[tmp_path], chain="flip").start()
    with found.listeners[0].connect() as sock:
        assert ask(sock, b"Hello") == b"hELLO"


def test_dry_run():
    assert resay.dry_run("uppercase", [b"a", b"bc"]) == [b"A", b"BC"]
    assert resay.dry_run("", [b"a"]) == [b"a"]
    assert resay.dry_run(resay.faults.drop(only=[1]) | "hex", [b"a", b"b", b"c"], frame="lines") == [b"61", None, b"63"]
    assert resay.dry_run(lambda data: resay.Last(data[::-1]), [b"ab"]) == [resay.Last(b"ba")]
    assert resay.dry_run(lambda data: resay.RESET, [b"ab"], kind="unix-seqpacket") == [resay.RESET]
    with pytest.raises(ZeroDivisionError):
        resay.dry_run(lambda data: 1 // 0, [b"x"])
    assert resay.dry_run("hex", [bytes(100_000)]) == [b"00" * 100_000]


def test_a_dry_run_inside_a_transform_is_refused(make):
    def dry(data):
        resay.dry_run("uppercase", [data])

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with make("udp://127.0.0.1:0", chain=dry, record=True) as engine:
            with engine.listeners[0].connect() as sock:
                sock.send(b"x")
                engine.received.wait()
        gc.collect()
    with pytest.raises(resay.StateError, match="dry_run cannot be called inside"):
        engine.raise_failures()
    assert caught == []
    assert resay.dry_run("uppercase", [b"x"]) == [b"X"]


def test_a_client_hears_of_a_reset(make):
    with make("tcp://127.0.0.1:0", chain=lambda data: resay.RESET) as engine:
        with resay.Client(engine.listeners[0].url) as client:
            client.send(b"x")
            with pytest.raises(ConnectionResetError) as raised:
                client.recv()
            assert raised.value.errno == errno.ECONNRESET


def test_an_adopted_socket_takes_a_chain_of_several(make):
    with make() as engine, socket.create_server(("127.0.0.1", 0)) as server:
        listener = engine.adopt(server, chain=["uppercase", "reverse"], idle_timeout=30.0)
        with listener.connect() as sock:
            assert ask(sock, b"abc") == b"CBA"


def test_ssl_is_imported_when_it_is_used():
    code = (
        "import sys, resay\n"
        "with resay.Engine('tcp://127.0.0.1:0') as engine:\n"
        "    with resay.Client(engine.listeners[0].url) as client:\n"
        "        client.send(b'x')\n"
        "        assert client.recv() == b'x'\n"
        "print([name for name in ('ssl', 'asyncio') if name in sys.modules])"
    )
    assert finished([sys.executable, "-c", code]).stdout.strip() == "[]"


def test_where_there_is_no_plugin_for_tls_the_error_says_what_to_do(tmp_path):
    code = (
        "import resay\n"
        "with resay.Engine(plugin_path=['%s']) as engine:\n"
        "    engine.listen('tls://127.0.0.1:0', cert=b'-----BEGIN X-----\\n-----END X-----')" % tmp_path
    )
    environment = {name: value for name, value in os.environ.items() if name != "RESAY_PLUGIN_PATH"}
    said = finished([sys.executable, "-c", code], env=environment).stderr.splitlines()[-1]
    assert said.partition(": ")[2].startswith("TLS needs the plugin file libtls.so, which is not in the wheel"), said
    assert "cargo build" in said and "plugin_path" in said and f"looked for in {tmp_path}" in said


def test_help_reads_well():
    import pydoc

    text = pydoc.render_doc(resay, renderer=pydoc.plaintext)
    for name in ("class Engine", "class Listener", "class Recording", "dry_run(chain, messages"):
        assert name in text
    for name in resay.__all__:
        thing = getattr(resay, name)
        if callable(thing) and not isinstance(thing, resay.Verdict):
            assert thing.__doc__ and thing.__module__ in ("resay", "resay.faults"), name
            for method, function in vars(thing).items() if isinstance(thing, type) else []:
                if callable(function) and not method.startswith("_"):
                    assert function.__doc__, (name, method)
