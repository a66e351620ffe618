"""A blocking client, and a chain without sockets."""

import ctypes

from . import _native
from ._engine import Engine
from ._errors import StateError, check
from ._native import lib
from ._transforms import CLOSE, RESET, Last


def _ms(timeout):
    return -1 if timeout is None else max(0, round(timeout * 1000))


class Client:
    """A blocking client for every kind of socket. Listener.connect() gives a plain socket instead."""

    _client = None

    def __init__(self, url, *, timeout=5.0):
        self._timeout, self.url = timeout, url
        client, error = ctypes.c_void_p(), _native.resay_error()
        while True:
            code = lib.resay_client_open(url.encode(), _ms(timeout), ctypes.byref(client), ctypes.byref(error))
            if code != _native.RESAY_E_INTR:
                break
        check(code, error, url)
        self._client = client

    def __repr__(self):
        return f"<Client of {self.url}{'' if self._client else ': closed'}>"

    def _open(self):
        if not self._client:
            raise StateError("the client is closed")
        return self._client

    def _time(self, timeout):
        return _ms(self._timeout if timeout is None else timeout)

    def send(self, data, *, timeout=None):
        """Sends all of data; on a datagram or seqpacket socket as one message."""
        data = bytes(data)
        while True:
            code = lib.resay_client_send(self._open(), data, len(data), self._time(timeout))
            if code != _native.RESAY_E_INTR:
                check(code)
                return

    def recv(self, size=65536, *, timeout=None):
        """Receives what there is, at most `size` bytes: one message where the socket has messages. b"" is the end of a stream."""
        buf, got = ctypes.create_string_buffer(size), ctypes.c_size_t()
        while True:
            code = lib.resay_client_recv(self._open(), buf, size, ctypes.byref(got), self._time(timeout))
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
        """Half-closes: sends FIN. Answers can still be received."""
        check(lib.resay_client_shutdown(self._open()))

    def close(self):
        """Closes. A second call does nothing."""
        client, self._client = self._client, None
        if client:
            lib.resay_client_free(client)

    def __enter__(self):
        return self

    def __exit__(self, exc_type, exc, tb):
        self.close()

    def __del__(self):
        if self._client:
            import warnings

            warnings.warn(f"unclosed client of {self.url}", ResourceWarning, stacklevel=2, source=self)
            self.close()


def dry_run(chain, messages, *, kind="tcp", frame="raw"):
    """What a chain would answer to messages, without a socket: for unit tests of transforms and for Hypothesis.

    An answer is bytes, or None, CLOSE, RESET or Last(...), as a transform's is. Exceptions of transforms are raised.
    """
    engine = Engine()
    try:
        with engine._prepared(chain) as text:
            run, error = ctypes.c_void_p(), _native.resay_error()
            with engine._use() as handle:
                code = lib.resay_dry_run_new(
                    handle, text.encode(), kind.encode(), frame.encode(), ctypes.byref(run), ctypes.byref(error)
                )
            check(code, error, text)
        try:
            answers = []
            for message in messages:
                answers.append(_answer(run, bytes(message), engine))
            return answers
        finally:
            lib.resay_dry_run_free(run)
    finally:
        engine.close()


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
