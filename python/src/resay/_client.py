"""A blocking client, and a chain without sockets."""

import ctypes
import time
import warnings

from . import _arguments, _native, _tls
from ._engine import Engine
from ._errors import StateError, check
from ._native import lib
from ._transforms import CLOSE, RESET, Last


def _ms(timeout):
    return _arguments.milliseconds("timeout", timeout)


def _deadline(timeout):
    return None if timeout is None else time.monotonic() + _arguments.seconds("timeout", timeout)


def _left(deadline):
    return None if deadline is None else max(0.0, deadline - time.monotonic())


class Client:
    """A blocking client for every kind of socket. Listener.connect() gives a plain socket instead.

    The rest is for addresses that begin with tls: or unix+tls:. `ca` has the certificates that the server's is checked against, in
    place of the system's; `insecure` checks none; `sni` is the name to ask for and to expect, in place of the URL's host; `cert` and
    `key` are for servers that ask for a certificate. Files are names or bytes of PEM. `context`, an ssl.SSLContext, is in place of
    all these but `sni`.
    """

    _client = _tls = None

    def __init__(
        self, url, *, timeout=5.0, ca=None, insecure=False, sni=None, cert=None, key=None, context=None
    ):
        _arguments.encoded("a URL", url)
        self._timeout, self.url = timeout, url
        of_context = {"ca": ca, "insecure": insecure or None, "cert": cert, "key": key}
        given = [name for name, value in {**of_context, "sni": sni, "context": context}.items() if value is not None]
        if not _tls.is_tls(url):
            if given:
                raise ValueError(f"{', '.join(given)}: for addresses that begin with tls: or unix+tls:, and not for {url}")
            self._client = _connect(url, url, timeout)
            return
        if context is None:
            context = _tls.context_of(ca, insecure, cert, key)
        elif set(given) - {"sni", "context"}:
            raise ValueError("context is in place of ca, insecure, cert and key")
        deadline = _deadline(timeout)
        self._client = _connect(_tls.plain_url(url), url, timeout)
        try:
            self._tls = _tls.Layer(context, sni or _tls.name_in(url), self._send_bytes, self._recv_bytes, self._send_fin)
            self._tls.handshake(deadline)
        except BaseException:
            self._free()
            raise

    def __repr__(self):
        return f"<Client of {self.url}{'' if self._client else ': closed'}>"

    def _open(self):
        if not self._client:
            raise StateError("the client is closed")
        return self._client

    def _time(self, timeout):
        return self._timeout if timeout is None else timeout

    def send(self, data, *, timeout=None):
        """Sends all of data; on a datagram or seqpacket socket as one message."""
        data, timeout = _arguments.data("send", data), self._time(timeout)
        self._open()
        if self._tls is not None:
            self._tls.send(data, _deadline(timeout))
        else:
            self._send_now(data, timeout)

    def _send_now(self, data, timeout):
        while True:
            code = lib.resay_client_send(self._open(), data, len(data), _ms(timeout))
            if code != _native.RESAY_E_INTR:
                check(code)
                return

    def recv(self, size=65536, *, timeout=None):
        """Receives what there is, at most `size` bytes: one message where the socket has messages. b"" is the end of a stream."""
        timeout = self._time(timeout)
        self._open()
        if self._tls is not None:
            return self._tls.recv(size, _deadline(timeout))
        return self._recv_now(size, timeout)

    def _recv_now(self, size, timeout):
        buf, got = ctypes.create_string_buffer(size), ctypes.c_size_t()
        while True:
            code = lib.resay_client_recv(self._open(), buf, size, ctypes.byref(got), _ms(timeout))
            if code != _native.RESAY_E_INTR:
                check(code)
                return buf.raw[: got.value]

    def recv_exactly(self, size, *, timeout=None):
        """Receives `size` bytes. EOFError: the stream ended before."""
        pieces, left = [], size
        while left:
            piece = self.recv(left, timeout=timeout)
            if not piece:
                raise EOFError(f"the stream ended {left} bytes before {size}")
            pieces.append(piece)
            left -= len(piece)
        return b"".join(pieces)

    def shutdown(self):
        """Half-closes: sends FIN, with TLS close_notify before that. Answers can still be received."""
        self._open()
        if self._tls is not None:
            self._tls.shutdown(_deadline(self._timeout))
        else:
            self._send_fin()

    def _send_fin(self):
        check(lib.resay_client_shutdown(self._open()))

    # What TLS does with the connection.
    def _send_bytes(self, data, deadline):
        self._send_now(data, _left(deadline))

    def _recv_bytes(self, size, deadline):
        return self._recv_now(size, _left(deadline))

    def close(self):
        """Closes. A second call does nothing."""
        if self._client and self._tls is not None:
            self._tls.end()
        self._free()

    def _free(self):
        client, self._client = self._client, None
        if client:
            lib.resay_client_free(client)

    def __enter__(self):
        return self

    def __exit__(self, exc_type, exc, tb):
        self.close()

    def __del__(self):
        if self._client:
            try:
                warnings.warn(f"unclosed client of {self.url}", ResourceWarning, stacklevel=2, source=self)
            finally:
                self.close()


def _connect(to, url, timeout):
    """A client of C that is connected to `to`, the address in `url` without TLS."""
    client, error = ctypes.c_void_p(), _native.resay_error()
    while True:
        code = lib.resay_client_open(_arguments.encoded("a URL", to), _ms(timeout), ctypes.byref(client), ctypes.byref(error))
        if code != _native.RESAY_E_INTR:
            break
    if code == _native.RESAY_E_SPEC and to != url:
        # In the terms of the address that was given.
        code = lib.resay_client_open(_arguments.encoded("a URL", url), _ms(timeout), ctypes.byref(client), ctypes.byref(error))
    check(code, error, url)
    return client


def dry_run(chain, messages, *, kind="tcp", frame="raw"):
    """What a chain would answer to messages, without a socket: for unit tests of transforms and for Hypothesis.

    An answer is bytes, or None, CLOSE, RESET or Last(...), as a transform's is. Exceptions of transforms are raised. One message
    is a list of one.
    """
    if isinstance(messages, (bytes, bytearray, memoryview, str)):  # whose items are numbers or letters
        raise TypeError(f"dry_run takes a list of messages, not {type(messages).__name__}")
    if _is_in_callback():  # the engine could not be closed there
        raise StateError("dry_run cannot be called inside a transform or a conversation")
    engine = Engine()
    try:
        with engine._prepared(chain) as text:
            run, error = ctypes.c_void_p(), _native.resay_error()
            with engine._use() as handle:
                code = lib.resay_dry_run_new(
                    handle, _arguments.encoded("a chain", text), _arguments.encoded("kind", kind),
                    _arguments.encoded("frame", frame), ctypes.byref(run), ctypes.byref(error),
                )
            check(code, error, text)
        try:
            answers = []
            for message in messages:
                answers.append(_answer(run, _arguments.data("a message", message), engine))
            return answers
        finally:
            lib.resay_dry_run_free(run)
    finally:
        engine.close()


def _is_in_callback():
    """Whether this thread is in a transform of some engine. C has no function for that: one that may wait refuses there, before
    it looks at its arguments, and an empty URL is refused elsewhere."""
    code = lib.resay_client_open(b"", 0, ctypes.byref(ctypes.c_void_p()), None)
    return code == _native.RESAY_E_STATE


def _answer(run, message, engine):
    cap, need = max(4096, 2 * len(message)), ctypes.c_size_t()
    buf = ctypes.create_string_buffer(cap)
    code = lib.resay_dry_run_process(run, message, len(message), buf, cap, ctypes.byref(need))
    if code == _native.RESAY_E_FULL:
        buf = ctypes.create_string_buffer(need.value)
        code = lib.resay_dry_run_process(run, message, len(message), buf, need.value, ctypes.byref(need))
    engine.raise_failures()
    check(code)
    answer = buf.raw[: need.value]
    if code == _native.RESAY_DROP:
        return None
    if code == _native.RESAY_RESET:
        return RESET
    if code == _native.RESAY_CLOSE:
        return Last(answer) if answer else CLOSE
    return answer
