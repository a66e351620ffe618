"""Types of the fixtures of resay's pytest plugin, `Server` and `ServerFactory`. The plugin itself is the module _resay_pytest."""

import os
import shutil
import tempfile
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from ._engine import Engine
from ._errors import StateError

__all__ = ["Server", "ServerFactory"]

class Server(Engine):
    """resay_server: a running engine that records. Each socket is opened when it is first asked for."""

    _directory = None

    def __init__(self, *urls, host="127.0.0.1", seed=1, chain="", record=True, **options):
        self._host, self._expects_failures, self._sockets = host, False, {}
        self.seed = self._seed = seed
        self._initial = chain
        super().__init__(*urls, chain=chain, record=record, **options)

    def _socket(self, name, url):
        known = self._sockets.get(name)
        if known is None or not known._is_open:
            known = self._sockets[name] = self.listen(url)
        return known

    def _path(self, name):
        # Short: a path of a unix socket has at most 107 bytes.
        if self._directory is None:
            self._directory = tempfile.mkdtemp(prefix="resay-", dir="/tmp" if os.path.isdir("/tmp") else None)
        return os.path.join(self._directory, name)

    def _socket6(self, scheme):
        import errno

        try:
            return self._socket(f"{scheme}6", f"{scheme}://[::1]:0")
        except OSError as error:
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                raise
            import pytest

            pytest.skip("there is no IPv6 here")

    @property
    def tcp(self):
        """A TCP listener on the fixture resay_host."""
        return self._socket("tcp", f"tcp://{_host(self._host)}:0")

    @property
    def tcp6(self):
        """A TCP listener on ::1. Skips the test where there is no IPv6."""
        return self._socket6("tcp")

    @property
    def udp(self):
        """A UDP listener on the fixture resay_host."""
        return self._socket("udp", f"udp://{_host(self._host)}:0")

    @property
    def udp6(self):
        """A UDP listener on ::1. Skips the test where there is no IPv6."""
        return self._socket6("udp")

    @property
    def unix(self):
        """A unix stream listener on a short path under /tmp."""
        return self._socket("unix", f"unix:{self._path('s')}")

    @property
    def unix_dgram(self):
        """A unix datagram listener."""
        return self._socket("unix-dgram", f"unix-dgram:{self._path('d')}")

    @property
    def unix_seqpacket(self):
        """A unix seqpacket listener."""
        return self._socket("unix-seqpacket", f"unix-seqpacket:{self._path('q')}")

    def fresh(self):
        """As new: no connection, no recording, the first chains."""
        self.chain(self._initial)
        for listener in self.listeners:
            if listener.kind not in ("udp", "unix-dgram"):
                listener.reset_all()
            listener.accept()
            listener.resume()
            listener._set_chain(listener._first)
        for listener in self.listeners:
            for connection in listener.connections:
                connection.wait_closed()
        if self._tape is not None:
            self._tape.clear()
        self._connections.clear()
        self.failures.clear()

    @contextmanager
    def expect_failures(self):
        """Inside a `with`, exceptions of transforms do not fail the test."""
        before, self._expects_failures = self._expects_failures, True
        try:
            yield
        finally:
            self.failures.clear()
            self._expects_failures = before

    def _raise_unexpected(self):
        if not self._expects_failures:
            self.raise_failures()

    def _report(self):
        lines = [f"seed {self.seed} (--resay-seed={self.seed} repeats it)"]
        lines += [f"{listener.kind}: {listener.url}" for listener in self.listeners]
        if self._tape is not None:
            try:
                lines.append(self.received.transcript())
            except StateError:
                pass
        return "\n".join(lines)

    def close(self):
        super().close()
        directory, self._directory = self._directory, None
        if directory is not None and self._pid == os.getpid():
            shutil.rmtree(directory, ignore_errors=True)


def _host(host):
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


class ServerFactory(Protocol):
    """resay_server_factory: makes running engines that record."""

    def __call__(
        self, *urls, chain="", record=True, cert=None, key=None, client_ca=None, **options
    ) -> "AbstractContextManager[Server]":
        """A running engine, which is closed at the end of the `with`."""
        ...
