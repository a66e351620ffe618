"""TLS: what listeners and clients are told of it, and a client's side of a connection by the standard library's `ssl`.

A listener's TLS is the plugin file libtls.so. Certificates and keys that are bytes go to it inside the listener's URL, so that no
file has them: `explained` takes them out of errors. `ssl` is imported when a client first speaks TLS.
"""

import os
import re
import threading
import time
from contextlib import contextmanager

from . import _arguments
from ._errors import PluginError, SpecError, StateError

# Options of listeners with TLS: those of the filter, plugins/tls/src/lib.rs.
OPTIONS = ("cert", "key", "client_ca", "client", "alpn", "min", "tickets")
_FILES = ("cert", "key", "client_ca")

_BEGIN = "-----BEGIN "
# One section of PEM (RFC 7468). What stands between sections is for people.
_SECTION = re.compile(rb"-----BEGIN [^-]*-----.*?-----END [^-]*-----", re.DOTALL)
# PEM in the query of a URL.
_IN_QUERY = re.compile(r"-----BEGIN[^&]*")
_HIDDEN = "PEM"

# The most that one record has (RFC 8446, 5.1), a few times: what is encrypted, sent and received at once.
_PIECE = 64 << 10


# ---------------------------------------------------------------- listeners


def is_tls(url):
    """Whether an address is one with TLS."""
    return url.startswith(("tls:", "unix+tls:"))


def take(options):
    """Takes the options of TLS out of `options`: pairs of a key and its text, in the order in which the filter counts them."""
    pairs = []
    for key in OPTIONS:
        value = options.pop(key, None)
        if value is None:
            continue
        several = value if isinstance(value, (list, tuple)) else (value,)
        pairs += [(key, _text_of(key, each)) for each in several]
    return pairs


def _text_of(key, value):
    if key not in _FILES:
        return str(value)
    if value is None:  # in a list of keys: the key is in the file of its certificate
        return ""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return pem_of(key, bytes(value)).decode("ascii", "replace")
    return os.fsdecode(_arguments.path(key, value))


def pem_of(key, data):
    """The sections of PEM in bytes."""
    sections = _SECTION.findall(data)
    if not sections:
        raise ValueError(f"{key}: these bytes are not PEM, which begins with {_BEGIN}…; the name of a file is a str or a path")
    return b"\n".join(sections) + b"\n"


def has_options(url):
    """Whether the query of a URL has options of TLS."""
    return any(pair.partition("=")[0] in OPTIONS for pair in url.partition("?")[2].split("&"))


def filter_of(pairs):
    """The option `filter` of a socket that the program has opened."""
    return "tls" + ":" * bool(pairs) + ",".join(f"{key}={_quoted(value)}" for key, value in pairs)


def _quoted(value):
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t").replace("\r", "\\x0d")
    return f'"{escaped}"'


def refuse(pairs, url):
    """Refuses options of TLS for an address without TLS."""
    if pairs:
        named = ", ".join(dict.fromkeys(key for key, _ in pairs))
        raise SpecError(f"{named}: options of TLS, for addresses that begin with tls: or unix+tls:, and not for {url}")


def explained(error, text):
    """The error of a listener, for people: no key is in it, and it says what to do where there is no libtls.so."""
    if isinstance(error, SpecError):
        return _without_pem(error, text)
    if isinstance(error, PluginError):
        found = re.match(r"filter tls: there is no libtls\.so in (.*)", str(error), re.DOTALL)
        if found:
            return PluginError(
                "TLS needs the plugin file libtls.so, which is not in the wheel, and not in the directories where it was looked "
                "for. Build it in a checkout of Resay (cargo build --release --package resay-tls --example tls) and name the "
                "directory that it is in (target/release/examples, or another to which you copy it): Engine(plugin_path=[...]), or "
                f"RESAY_PLUGIN_PATH. It was looked for in {found[1]}",
                code=error.code,
            )
    return error


def _without_pem(error, text):
    """The same error with every PEM of the text hidden, and the place moved accordingly."""
    spans = [found.span() for found in _IN_QUERY.finditer(text)]
    if not spans:
        return error
    # The place counts bytes; PEM, and what is quoted, is ASCII.
    at, place, shown, end = error.position, error.position, "", 0
    for start, stop in spans:
        shown += text[end:start] + _HIDDEN
        end = stop
        if at >= stop:
            place -= stop - start - len(_HIDDEN)
        elif at >= start:
            place = len(shown) - len(_HIDDEN)
    # The message goes on with the text.
    message = re.split(r' \((?:address|option|chain) "', error.args[0], maxsplit=1)[0]
    return SpecError(message, shown + text[end:] if error.text else "", place if error.text else -1, code=error.code)


# ---------------------------------------------------------------- clients


def context_of(ca=None, insecure=False, cert=None, key=None):
    """How a client speaks TLS, out of its arguments."""
    import ssl

    if insecure and ca is not None:
        raise ValueError("insecure checks no certificate: there is no use for ca")
    if key is not None and cert is None:
        raise ValueError("key is the key of cert, which is missing")
    if isinstance(ca, (bytes, bytearray, memoryview)):
        context = ssl.create_default_context(cadata=pem_of("ca", bytes(ca)).decode("ascii", "replace"))
    else:
        context = ssl.create_default_context(cafile=ca)
    if context.minimum_version < ssl.TLSVersion.TLSv1_2:  # as Python 3.9 may have it
        context.minimum_version = ssl.TLSVersion.TLSv1_2
    if insecure:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if cert is not None:
        with _as_file("cert", cert) as cert_file, _as_file("key", key) as key_file:
            context.load_cert_chain(cert_file, key_file)
    return context


@contextmanager
def _as_file(key, value):
    """The name of a file with that PEM: `ssl` reads certificates from files only. It is nobody else's, and not for long."""
    if not isinstance(value, (bytes, bytearray, memoryview)):
        yield value
        return
    data = pem_of(key, bytes(value))
    try:
        fd = os.memfd_create("resay", os.MFD_CLOEXEC)
    except (AttributeError, OSError):  # a Python for old systems, or a sandbox
        import tempfile

        with tempfile.NamedTemporaryFile() as file:
            file.write(data)
            file.flush()
            yield file.name
        return
    with open(fd, "wb") as file:
        file.write(data)
        file.flush()
        yield f"/proc/self/fd/{fd}"


def plain_url(url):
    """Where the bytes go."""
    return "unix:" + url[len("unix+tls:"):] if url.startswith("unix+tls:") else "tcp:" + url[len("tls:"):]


def name_in(url):
    """The name that a server is asked for, and that its certificate must have: the host of its URL."""
    if not url.startswith("tls://"):
        return "localhost"
    host = url[len("tls://"):].rpartition(":")[0]
    if host.startswith("["):
        return host[1:].partition("]")[0].partition("%")[0]
    return host or "localhost"


class Layer:
    """A client's side of TLS, between its user and the client of the bytes. One thread may send while another receives.

    `send(data, deadline)` and `recv(size, deadline)` are those of the bytes, `shutdown()` sends FIN.
    """

    def __init__(self, context, name, send, recv, shutdown):
        import ssl

        self._ssl, self._send, self._recv, self._fin = ssl, send, recv, shutdown
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_hostname=name)
        self._ready = bytearray()  # decrypted, for the next recv
        self._has_ended, self._has_shut_down, self._is_cut = False, False, False
        # Of `_tls` and its memory, which is never held while waiting; of who sends, so that records leave in their order; of who
        # receives. Whoever sends or receives takes the first inside the other.
        self._state, self._sending, self._receiving = threading.Lock(), threading.Lock(), threading.Lock()

    def handshake(self, deadline):
        while True:
            try:
                with self._state:
                    self._tls.do_handshake()
            except self._ssl.SSLWantReadError:
                self._flush(deadline)
                self._feed(deadline)
                if self._in.eof:
                    raise self._ssl.SSLEOFError(self._ssl.SSL_ERROR_EOF, "the server ended the handshake") from None
            except self._ssl.SSLError:
                self._farewell()  # the alert that says why
                raise
            else:
                return self._flush(deadline)

    def send(self, data, deadline):
        rest = memoryview(data)
        with _held(self._sending, deadline):
            self._refuse_more()
            while rest:
                with self._state:
                    count = self._tls.write(rest[:_PIECE])
                    # A record is a quarter of that: as many as fit leave together.
                    while count < min(len(rest), _PIECE):
                        count += self._tls.write(rest[count:_PIECE])
                rest = rest[count:]
                self._leave(deadline)

    def recv(self, size, deadline):
        with _held(self._receiving, deadline):
            while True:
                with self._state:
                    data = self._read(size)
                if data is not None:
                    return data
                self._feed(deadline)
                # What TLS itself has to say waits for whoever is sending: waiting for them could be for ever.
                if self._sending.acquire(blocking=False):
                    try:
                        self._leave(deadline)
                    finally:
                        self._sending.release()

    def shutdown(self, deadline):
        """Sends close_notify, then FIN. Answers can still be received."""
        with _held(self._sending, deadline):
            if self._has_shut_down:
                return
            self._refuse_more()
            with self._state:
                self._notify()
            self._leave(deadline)
            self._fin()

    def end(self):
        """Sends close_notify, if that can be done without waiting: the connection is about to be closed."""
        if self._has_shut_down or self._is_cut or not self._sending.acquire(blocking=False):
            return
        try:
            with self._state:
                self._notify()
            self._farewell()
        except self._ssl.SSLError:
            pass  # a handshake that was not complete
        finally:
            self._sending.release()

    def _refuse_more(self):
        if self._has_shut_down:
            raise StateError("the client has been shut down")
        if self._is_cut:
            raise StateError("an earlier send was cut off in the middle of a record: nothing can be sent behind that")

    def _notify(self):
        """Makes close_notify. What has come before is taken first: where it stays, OpenSSL breaks the connection."""
        self._has_shut_down = True
        while not self._has_ended:
            data = self._decrypt(_PIECE)
            if data is None:
                break
            self._ready += data
        try:
            self._tls.unwrap()
        except self._ssl.SSLWantReadError:
            pass  # the other side's is still to come

    def _read(self, size):
        """What there is, b"" at the end; None: nothing yet."""
        if self._ready:
            data = bytes(self._ready[:size])
            del self._ready[:size]
            return data
        if self._has_ended or not size:
            return b""
        return self._decrypt(size)

    def _decrypt(self, size):
        # All that came before the end was decrypted before that was known: close_notify was not in it. How OpenSSL calls this,
        # or whether it does, depends on its version and on that of Python.
        if self._in.eof:
            text = "the connection ended without close_notify: what was received may have been cut off"
            raise self._ssl.SSLEOFError(self._ssl.SSL_ERROR_EOF, text)
        try:
            data = self._tls.read(size)
        except self._ssl.SSLWantReadError:
            return None
        except self._ssl.SSLZeroReturnError:
            data = b""
        self._has_ended = not data
        return data

    def _feed(self, deadline):
        wire = self._recv(_PIECE, deadline)
        with self._state:
            if wire:
                self._in.write(wire)
            else:
                self._in.write_eof()

    def _flush(self, deadline):
        with _held(self._sending, deadline):
            self._leave(deadline)

    def _leave(self, deadline):
        """Sends what was made. `_sending` is held."""
        with self._state:
            wire = self._out.read()
        if wire and not self._is_cut:
            self._is_cut = True  # unless all of it leaves
            self._send(wire, deadline)
            self._is_cut = False

    def _farewell(self):
        """Sends what was made, if that can be done without waiting: the last that the other side hears."""
        try:
            self._leave(0.0)
        except OSError:
            pass


@contextmanager
def _held(lock, deadline):
    if not lock.acquire(timeout=-1 if deadline is None else min(max(0.0, deadline - time.monotonic()), threading.TIMEOUT_MAX)):
        raise TimeoutError("timed out behind another thread")
    try:
        yield
    finally:
        lock.release()
