"""TLS: listeners with the plugin file libtls.so, this package's client, and Python's own `ssl`, also in asyncio."""

import asyncio
import os
import re
import socket
import ssl
import sys
import threading
from contextlib import closing

import pytest
import resay
from conftest import ask
from resay import _native, _tls

trustme = pytest.importorskip("trustme")

pytestmark = pytest.mark.tls


class Authority:
    """An authority, and what it has signed."""

    def __init__(self, directory):
        self.ca, self.directory = trustme.CA(), directory
        self.bytes = self.ca.cert_pem.bytes()

    def issue(self, *names):
        """A certificate with its key: bytes."""
        return self.ca.issue_cert(*names).private_key_and_cert_chain_pem.bytes()

    def files(self, *names):
        """The names of a file of a certificate, and of one of its key."""
        issued = self.ca.issue_cert(*names)
        cert, key = self.directory / f"{names[0]}.pem", self.directory / f"{names[0]}.key"
        cert.touch(0o600)
        cert.write_bytes(b"".join(each.bytes() for each in issued.cert_chain_pems))
        key.touch(0o600)
        key.write_bytes(issued.private_key_pem.bytes())
        return cert, key

    def context(self):
        context = ssl.create_default_context()
        self.ca.configure_trust(context)
        return context


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


@pytest.fixture(params=["tls", "unix+tls"])
def served(request, authority, make, url):
    """A running listener that records, on each kind of socket."""
    address = "tls://127.0.0.1:0" if request.param == "tls" else url("unix").replace("unix:", "unix+tls:")
    with make(address, chain="uppercase", record=True, cert=authority.issue("localhost", "127.0.0.1")) as engine:
        yield engine.listeners[0]


@pytest.fixture
def tcp(authority, make):
    """A running listener on TCP."""
    with make("tls://127.0.0.1:0", cert=authority.issue("localhost", "127.0.0.1"), record=True) as engine:
        yield engine.listeners[0]


def talk(listener, authority, name="localhost"):
    return authority.context().wrap_socket(listener.connect(), server_hostname=name)


def names_of(sock):
    return [name for _, name in sock.getpeercert()["subjectAltName"]]


# ---------------------------------------------------------------- listeners


def test_ssl_speaks_with_a_listener(served, authority):
    assert served.kind in ("tcp", "unix") and "tls:" in served.url
    with talk(served, authority) as sock:
        assert ask(sock, b"hello") == b"HELLO"
        served.received.expect(b"hello")
        assert served.connections[0].is_open
        sock.unwrap().close()
    assert served.connections[0].wait_closed() is resay.CloseReason.PEER_ENDED


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_each_version_is_spoken(tcp, authority, version):
    context = authority.context()
    context.minimum_version = context.maximum_version = version
    with resay.Client(tcp.url, context=context) as client:
        client.send(b"x")
        assert client.recv() == b"x"
        client.shutdown()
        assert client.recv() == b""
    assert tcp.connections[0].wait_closed() is resay.CloseReason.PEER_ENDED


def test_a_certificate_may_be_in_files(make, authority):
    cert, key = authority.files("localhost")
    both = authority.directory / "both.pem"
    both.touch(0o600)
    both.write_bytes(cert.read_bytes() + key.read_bytes())
    options = [
        {"cert": cert, "key": key}, {"cert": str(cert), "key": str(key)}, {"cert": both},
        {"cert": cert.read_bytes(), "key": key.read_bytes()}, {"cert": cert, "key": key.read_bytes()},
        # For people, between the sections.
        {"cert": "Zertifikat für alle:\n".encode() + cert.read_bytes() + b"\nkey:\n" + key.read_bytes()},
        {"cert": cert.read_text() + key.read_text()},
    ]
    with make() as engine:
        for each in options:
            with talk(engine.listen("tls://127.0.0.1:0", **each), authority) as sock:
                assert ask(sock, b"x") == b"x"


def test_a_key_in_bytes_is_in_no_file(make, authority):
    def descriptors():
        return {os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}")}

    before = descriptors()
    with make("tls://127.0.0.1:0", cert=authority.issue("localhost")) as engine:
        assert not [name for name in descriptors() - before if "memfd" in name or "pem" in name]
        assert "PRIVATE" not in engine.listeners[0].url and "PRIVATE" not in repr(engine)


def test_the_name_that_is_asked_for_decides(make, authority):
    one, other = authority.files("one.example"), authority.issue("other.example")
    with make("tls://127.0.0.1:0", cert=[one[0], other], key=[one[1], None]) as engine:
        listener = engine.listeners[0]
        for name in ("one.example", "other.example"):
            with talk(listener, authority, name) as sock:
                assert names_of(sock) == [name]
            with resay.Client(listener.url, ca=authority.bytes, sni=name) as client:
                client.send(b"x")
                assert client.recv() == b"x"


def test_certificates_hold_for_all_listeners_with_tls(make, authority):
    cert = authority.issue("all.example")
    with make("tls://127.0.0.1:0", "tcp://127.0.0.1:0", "tls://127.0.0.1:0", cert=cert, alpn="echo") as engine:
        first, plain, _ = engine.listeners
        with plain.connect() as sock:
            assert ask(sock, b"x") == b"x"
        own = engine.listen("tls://127.0.0.1:0", cert=authority.issue("own.example"))
        for listener, name, alpn in ((first, "all.example", "echo"), (own, "own.example", None)):
            context = authority.context()
            context.set_alpn_protocols(["other", "echo"])
            with context.wrap_socket(listener.connect(), server_hostname=name) as sock:
                assert (names_of(sock), sock.selected_alpn_protocol()) == ([name], alpn)


def test_a_socket_of_the_program_has_tls(make, authority):
    with make() as engine, socket.create_server(("127.0.0.1", 0)) as server:
        listener = engine.adopt(server, chain="uppercase | reverse", cert=authority.issue("localhost"), tickets=0)
        with talk(listener, authority) as sock:
            assert ask(sock, b"abc") == b"CBA"


@pytest.mark.parametrize("as_bytes", [True, False])
def test_clients_show_who_they_are(make, authority, as_bytes):
    cert, key = authority.files("me@example.org")
    ca = authority.bytes
    if as_bytes:
        cert, key = cert.read_bytes(), key.read_bytes()
    else:
        (authority.directory / "ca.pem").write_bytes(ca)
        ca = authority.directory / "ca.pem"
    with make("tls://127.0.0.1:0", cert=authority.issue("localhost"), client_ca=ca) as engine:
        listener = engine.listeners[0]
        with resay.Client(listener.url, sni="localhost", ca=ca, cert=cert, key=key) as client:
            client.send(b"x")
            assert client.recv() == b"x"
        with pytest.raises(ssl.SSLError):  # TLS 1.3: the server refuses when the client has done its part already
            with resay.Client(listener.url, sni="localhost", ca=ca) as client:
                client.recv()
        assert listener.connections[-1].wait_closed() is resay.CloseReason.LAYER_FAILED
        asked = engine.listen("tls://127.0.0.1:0", cert=authority.issue("localhost"), client_ca=ca, client="ask")
        with resay.Client(asked.url, sni="localhost", ca=ca) as client:
            client.send(b"x")
            assert client.recv() == b"x"


def test_a_client_needs_no_descriptor_in_memory(tcp, authority, monkeypatch):
    monkeypatch.delattr(os, "memfd_create")
    with resay.Client(tcp.url, ca=authority.bytes, cert=authority.issue("me@example.org")) as client:
        client.send(b"x")
        assert client.recv() == b"x"


def test_an_end_without_close_notify_is_told_apart(tcp, authority):
    with talk(tcp, authority) as sock:
        assert ask(sock, b"x") == b"x"
    assert tcp.connections[0].wait_closed() is resay.CloseReason.LAYER_TRUNCATED


def test_why_a_handshake_failed_is_an_event(tcp):
    with closing(tcp._engine.events(resay.EventKind.TRANSFORM_LOG)) as events:
        with tcp.connect() as sock:
            sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert sock.recv(1) == b"\x15"  # an alert
        assert re.match(r"tls: connection \d+: received corrupt message", next(events).text)
    assert tcp.connections[0].wait_closed() is resay.CloseReason.LAYER_FAILED


# ---------------------------------------------------------------- the client


def test_a_client_speaks_tls(served, authority):
    with resay.Client(served.url, ca=authority.bytes) as client:
        client.send(b"hello")
        assert client.recv_exactly(5) == b"HELLO"
        client.send(b"")
        assert client.recv(0) == b""
        client.send(b"more")
        assert client.recv(1) + client.recv_exactly(3) == b"MORE"
        client.shutdown()
        assert client.recv() == b""
    assert served.connections[0].wait_closed() is resay.CloseReason.PEER_ENDED
    assert served.received.data == b"hellomore"


def test_a_client_that_closes_says_so(tcp, authority):
    for _ in range(20):
        with resay.Client(tcp.url, ca=authority.bytes) as client:
            client.send(b"x")
            assert client.recv() == b"x"
        assert tcp.connections[-1].wait_closed() is resay.CloseReason.PEER_ENDED


def test_a_half_close_brings_all_answers(served, authority):
    data = bytes(range(97, 123)) * 10_000
    with resay.Client(served.url, ca=authority.bytes) as client:
        client.send(b"first")
        served.received.wait_data(b"first")  # its answer waits here while our side ends
        client.send(data)
        client.shutdown()
        client.shutdown()
        with pytest.raises(resay.StateError):
            client.send(b"x")
        assert b"".join(iter(client.recv, b"")) == b"FIRST" + data.upper()
        assert client.recv() == b""
    assert served.connections[0].wait_closed() is resay.CloseReason.PEER_ENDED


def test_one_thread_sends_while_another_receives(tcp, authority):
    data = os.urandom(1 << 22)
    with resay.Client(tcp.url, ca=authority.bytes, timeout=60) as client:
        sender = threading.Thread(target=lambda: (client.send(data), client.shutdown()))
        sender.start()
        try:
            assert b"".join(iter(client.recv, b"")) == data
        finally:
            sender.join()


def test_frames_are_found_within(make, authority):
    with make("tls://127.0.0.1:0?frame=lines", chain="reverse", record=True, cert=authority.issue("localhost")) as engine:
        with resay.Client(engine.listeners[0].url, ca=authority.bytes, sni="localhost") as client:
            for piece in (b"a", b"bc\nde", b"f\n"):
                client.send(piece)
            assert client.recv_exactly(8) == b"cba\nfed\n"
        assert [bytes(each) for each in engine.received] == [b"abc", b"def"]


@pytest.mark.parametrize("timeout", [0, 0.05])
def test_waiting_has_an_end(tcp, authority, timeout):
    with resay.Client(tcp.url, ca=authority.bytes) as client:
        with pytest.raises(TimeoutError):
            client.recv(timeout=timeout)
        client.send(b"x")
        assert client.recv() == b"x"
        tcp.pause()
        with pytest.raises(TimeoutError):
            client.send(bytes(64 << 20), timeout=timeout)
        with pytest.raises(resay.StateError, match="cut off"):
            client.send(b"x")
        tcp.resume()


def test_a_handshake_has_an_end_too(make, authority):
    with make("tcp://127.0.0.1:0") as engine:
        engine.chain(resay.faults.hold())
        url = engine.listeners[0].url.replace("tcp:", "tls:")
        with pytest.raises(TimeoutError):
            resay.Client(url, insecure=True, timeout=0.05)
        engine.listeners[0].connections[0].wait_closed()
        engine.listeners[0].chain(lambda data: resay.Last(b"this is not TLS"))
        with pytest.raises(ssl.SSLError):
            resay.Client(url, insecure=True)
        engine.listeners[0].chain(lambda data: resay.CLOSE)
        with pytest.raises(ssl.SSLEOFError, match="the server ended the handshake"):
            resay.Client(url, insecure=True)
        engine.listeners[0].chain(lambda data: resay.RESET)
        with pytest.raises(ConnectionResetError):
            resay.Client(url, insecure=True)


def test_a_server_is_checked(tcp, authority):
    stranger = trustme.CA().cert_pem.bytes()
    for arguments in ({}, {"ca": stranger}, {"ca": authority.bytes, "sni": "other.example"}, {"sni": "localhost"}):
        with pytest.raises(ssl.SSLCertVerificationError):
            resay.Client(tcp.url, **arguments)
        assert tcp.connections[-1].wait_closed() is resay.CloseReason.LAYER_FAILED
    for arguments in ({"insecure": True}, {"insecure": True, "sni": "other.example"}, {"ca": authority.bytes, "sni": "localhost"}):
        with resay.Client(tcp.url, **arguments) as client:
            client.send(b"x")
            assert client.recv() == b"x"


def test_arguments_that_do_not_fit_are_refused(tcp, authority):
    ca, context = authority.bytes, authority.context()
    for arguments in ({"insecure": True, "ca": ca}, {"key": ca}, {"context": context, "ca": ca}, {"ca": b"no PEM"}):
        with pytest.raises(ValueError):
            resay.Client(tcp.url, **arguments)
    with pytest.raises(FileNotFoundError):
        resay.Client(tcp.url, ca="/nowhere.pem")
    with pytest.raises(ValueError, match="^ca, sni: for addresses that begin with tls: or"):
        resay.Client("tcp://127.0.0.1:1", ca=ca, sni="x")
    for url, place in (("tls://127.0.0.1", 15), ("unix+tls:", 9), ("tls://[::1]x:1", 11)):
        with pytest.raises(resay.SpecError) as raised:
            resay.Client(url)
        assert (raised.value.text, raised.value.position) == (url, place)


def test_the_host_of_a_url_is_the_name():
    names = {
        "tls://localhost:8443": "localhost", "tls://127.0.0.1:1": "127.0.0.1", "tls://[::1]:1": "::1", "tls://:1": "localhost",
        "tls://[fe80::1%25eth0]:1": "fe80::1", "unix+tls:/run/x": "localhost",
    }
    assert {url: _tls.name_in(url) for url in names} == names


def test_a_server_that_cuts_the_stream_off(authority):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.ca.issue_cert("localhost").configure_cert(context)

    def serve(server):
        with server.accept()[0] as plain, context.wrap_socket(plain, server_side=True) as sock:
            sock.recv(1)
            sock.sendall(b"half")  # and no close_notify: that takes unwrap()

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, args=[server])
        thread.start()
        url = f"tls://127.0.0.1:{server.getsockname()[1]}"
        with resay.Client(url, sni="localhost", ca=authority.bytes) as client:
            client.send(b"x")
            assert client.recv() == b"half"
            for _ in range(2):
                with pytest.raises(ssl.SSLEOFError, match="without close_notify"):
                    client.recv()
        thread.join()


def test_a_reset_is_a_reset(tcp, authority):
    with resay.Client(tcp.url, ca=authority.bytes) as client:
        tcp.wait_connection().reset()
        with pytest.raises(ConnectionResetError):
            client.recv()
    client.close()
    with pytest.raises(resay.StateError):
        client.recv()


# ---------------------------------------------------------------- asyncio


def test_streams_of_asyncio(served, authority):
    async def main():
        where = {"path": served.path} if served.path else dict(zip(("host", "port"), served.address))
        connect = asyncio.open_unix_connection if served.path else asyncio.open_connection
        reader, writer = await connect(**where, ssl=authority.context(), server_hostname="localhost")
        writer.write(b"hello\n")
        assert await reader.readline() == b"HELLO\n"
        writer.close()
        await writer.wait_closed()

    asyncio.run(main())
    assert served.connections[0].wait_closed() is resay.CloseReason.PEER_ENDED


def test_start_tls_of_asyncio(tcp, authority):
    class Client(asyncio.Protocol):
        def __init__(self):
            self.received, self.lost = (asyncio.get_running_loop().create_future() for _ in range(2))

        def data_received(self, data):
            self.received.set_result(data)

        def connection_lost(self, error):
            self.lost.set_result(error)

    async def main():
        loop = asyncio.get_running_loop()
        plain, protocol = await loop.create_connection(Client, *tcp.address)
        transport = await loop.start_tls(plain, protocol, authority.context(), server_hostname="localhost")
        transport.write(b"hello")
        assert await protocol.received == b"hello"
        transport.close()
        assert await protocol.lost is None
        if sys.version_info < (3, 11):
            return
        reader, writer = await tcp.open()
        await writer.start_tls(authority.context(), server_hostname="localhost")
        writer.write(b"hello\n")
        assert await reader.readline() == b"hello\n"
        writer.close()
        await writer.wait_closed()

    asyncio.run(main())


def test_an_engine_in_the_loop_serves_tls(authority, backend):
    async def main():
        cert = authority.issue("localhost")
        async with resay.Engine("tls://127.0.0.1:0", chain=bytes.upper, backend=backend, cert=cert) as engine:
            address = engine.listeners[0].address
            reader, writer = await asyncio.open_connection(*address, ssl=authority.context(), server_hostname="localhost")
            writer.write(b"hello\n")
            assert await reader.readline() == b"HELLO\n"
            writer.close()
            await writer.wait_closed()

    asyncio.run(main())


# ---------------------------------------------------------------- what goes wrong


def test_no_error_shows_a_key(make, authority):
    pem = authority.issue("localhost")
    engine = make()
    wrong = [
        ("tls://127.0.0.1:0", {"frame": "no"}, "tls://127.0.0.1:0?frame=no&cert=PEM", 24),
        ("tls://127.0.0.1:0?x", {}, "tls://127.0.0.1:0?x&cert=PEM", 19),
        ("tls://127.0.0.1:99999", {}, "tls://127.0.0.1:99999?cert=PEM", 16),
        ("tls://127.0.0.1:0", {"chain": "a|"}, None, None),
        ("tls://127.0.0.1:0", {"nothing": 1}, None, None),
        ("tcp://127.0.0.1:0", {}, None, None),
    ]
    for url, options, text, place in wrong:
        with pytest.raises(resay.ResayError) as raised:
            engine.listen(url, cert=pem, **options)
        error = raised.value
        assert "BEGIN" not in str(error) and "PRIVATE" not in repr(error) and "BEGIN" not in repr(error.__dict__), error
        if text is not None:
            assert (error.text, error.position) == (text, place)
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(resay.SpecError) as raised:
        engine.adopt(server, cert=pem, frame="no", zebra="x")
    assert "BEGIN" not in str(raised.value) and "BEGIN" not in repr(raised.value.__dict__)


def test_what_is_wrong_with_a_certificate_is_said(make, authority):
    cert, key = authority.files("localhost")
    stranger = authority.issue("other.example")
    engine = make()
    for options, expected in (
        ({}, "cert"),
        ({"cert": cert}, "has no private key"),
        ({"cert": cert, "key": stranger}, "does not go with its key"),
        ({"cert": [cert, cert], "key": key}, "'key' is given 1 times, 'cert' 2 times"),
        ({"cert": "/nowhere.pem"}, "/nowhere.pem: No such file"),
        ({"cert": cert, "key": key, "client": "require"}, "client_ca"),
    ):
        with pytest.raises(resay.PluginError, match=expected):
            engine.listen("tls://127.0.0.1:0", **options)
    key.chmod(0o644)
    with pytest.raises(resay.PluginError, match="everyone can read"):
        engine.listen("tls://127.0.0.1:0", cert=cert, key=key)
    for wrong in (b"", b"no PEM", bytearray(b"-----BEGIN CERTIFICATE-----")):
        with pytest.raises(ValueError, match="^cert: these bytes are not PEM"):
            engine.listen("tls://127.0.0.1:0", cert=wrong)
    with pytest.raises(TypeError):
        engine.listen("tls://127.0.0.1:0", cert=7)
    with pytest.raises(resay.SpecError, match="cert, alpn: options of TLS"):
        engine.listen("udp://127.0.0.1:0", cert=cert, alpn="x")
    assert engine.listeners == ()


def test_the_options_are_those_of_the_plugin(make):
    error = _native.resay_error()
    with make()._use() as handle:
        code = _native.lib.resay_listen(handle, b"tls://127.0.0.1:0?zebra=1", None, error)
    assert code == _native.RESAY_E_PLUGIN
    text = _native.lib.resay_last_error().decode()
    assert set(re.findall(r"(\w+)=<", text)) == set(_tls.OPTIONS), text
