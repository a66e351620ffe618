"""Addresses: from a `sockaddr` or a text of Resay to what the socket module takes."""

import sys

_AF_UNIX, _AF_INET, _AF_INET6 = 1, 2, 10
_PATH_AT = 2


def of_sockaddr(raw):
    """The address in the bytes of a sockaddr: `(host, port)`, `(host, port, flow, scope)`, a path, or None."""
    if len(raw) < 2:
        return None
    family = int.from_bytes(raw[:2], sys.byteorder)
    if family == _AF_INET and len(raw) >= 8:
        return "%d.%d.%d.%d" % tuple(raw[4:8]), int.from_bytes(raw[2:4], "big")
    if family == _AF_INET6 and len(raw) >= 28:
        import socket

        host = socket.inet_ntop(socket.AF_INET6, raw[8:24])
        flow, scope = int.from_bytes(raw[4:8], "big"), int.from_bytes(raw[24:28], sys.byteorder)
        if scope:
            try:
                host = f"{host}%{socket.if_indextoname(scope)}"
            except OSError:
                pass  # the interface has gone: the number stays
        return host, int.from_bytes(raw[2:4], "big"), flow, scope
    if family == _AF_UNIX:
        path = raw[_PATH_AT:]
        if not path:
            return None
        if path[0] == 0:
            return path  # an abstract name is bytes, as socket has it
        return path.split(b"\0", 1)[0].decode("utf-8", "surrogateescape") or None
    return None


def of_struct(address):
    """The address in a resay_address."""
    return of_sockaddr(bytes(memoryview(address.words).cast("B")[: address.len]))


def of_text(text):
    """The address in the text of a peer, such as `127.0.0.1:80`, `[::1]:80`, `unix:/run/x` or `unix:@name`."""
    if text.startswith("unix:"):
        name = text[5:]
        if name.startswith("@"):
            return b"\0" + name[1:].encode("latin-1", "replace").decode("unicode_escape").encode("latin-1", "replace")
        return name or None
    host, _, port = text.rpartition(":")
    if not port.isdigit():
        return None
    if host.startswith("["):
        return host.strip("[]"), int(port), 0, 0
    return host, int(port)


def kind_of(url):
    """The kind of socket that a URL is about."""
    scheme = url.partition("://")[0] if "://" in url else url.partition(":")[0]
    return "unix" if scheme == "unix-stream" else scheme


def reachable(address):
    """Where a client on this machine connects to: a wildcard address stands for the loopback."""
    if isinstance(address, tuple):
        if address[0] == "0.0.0.0":
            return ("127.0.0.1",) + address[1:]
        if address[0] == "::":
            return ("::1",) + address[1:]
    return address


def text_of(address):
    """An address as a transcript shows it."""
    if address is None:
        return "-"
    if isinstance(address, bytes):
        return "@" + address[1:].decode("utf-8", "backslashreplace")
    if isinstance(address, str):
        return address
    return f"[{address[0]}]:{address[1]}" if ":" in address[0] else f"{address[0]}:{address[1]}"
