"""The first ten minutes in Python with ctypes: three kinds of sockets, a transform that is a function of the program,
another chain while a connection is open, the end.

    python3 examples/python/tour_ctypes.py

RESAY_LIBRARY names the library; without it the system's own search decides.
"""

import ctypes
import os
import socket
from ctypes import POINTER, c_char_p, c_int, c_int32, c_size_t, c_uint32, c_uint64, c_void_p

# What resay.h has. resay.json has it for programs that would rather generate this.
RESAY_ABI, RESAY_REPLACE, RESAY_DROP = 1, 1, 3


class Message(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("flags", c_uint32),
        ("data", c_void_p),
        ("len", c_size_t),
        ("listener", c_uint64),
        ("connection", c_uint64),
        ("kind", c_uint32),
        ("zero", c_uint32),
    ]


Call = ctypes.CFUNCTYPE(c_int, c_void_p, POINTER(c_void_p), POINTER(Message), c_void_p)


class Function(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("needs", c_uint32),
        ("user", c_void_p),
        ("begin", c_void_p),
        ("call", Call),
        ("end", c_void_p),
        ("release", c_void_p),
    ]


resay = ctypes.CDLL(os.environ.get("RESAY_LIBRARY", "libresay.so.1"))
# Without these ctypes passes every number as an int.
resay.resay_engine_new.argtypes = [c_uint32, POINTER(c_void_p), c_void_p]
resay.resay_register_function.argtypes = [c_void_p, c_char_p, POINTER(Function), c_void_p]
resay.resay_chain.argtypes = [c_void_p, c_uint64, c_char_p, c_void_p]
resay.resay_listen.argtypes = [c_void_p, c_char_p, POINTER(c_uint64), c_void_p]
resay.resay_listener_port.argtypes = [c_void_p, c_uint64]
resay.resay_start.argtypes = [c_void_p, c_uint32, c_void_p]
resay.resay_out_write.argtypes = [c_void_p, c_char_p, c_size_t]
resay.resay_drain.argtypes = [c_void_p, c_int32]
resay.resay_engine_free.argtypes = [c_void_p]
resay.resay_last_error.restype = c_char_p

engine = c_void_p()


def check(code):
    if code < 0:
        raise RuntimeError(resay.resay_last_error().decode())


@Call  # it must be there for as long as the engine
def shout(_user, _session, message, out):
    # An exception cannot leave a callback: ctypes prints it and returns 0, which is RESAY_PASS.
    text = ctypes.string_at(message.contents.data, message.contents.len) + b"!"
    return RESAY_REPLACE if resay.resay_out_write(out, text, len(text)) >= 0 else RESAY_DROP


def listen(url):
    listener = c_uint64()
    check(resay.resay_listen(engine, url.encode(), listener, None))
    return "127.0.0.1", resay.resay_listener_port(engine, listener)


def dial(family, kind, address):
    connection = socket.socket(family, kind)
    connection.settimeout(5)
    connection.connect(address)
    return connection


def ask(connection, name, message):
    """On a stream a message is a line, as the listener says."""
    connection.sendall(message)
    answer = connection.recv(64)
    print(f"{name}: {message.decode().rstrip()} -> {answer.decode().rstrip()}")


check(resay.resay_engine_new(RESAY_ABI, engine, None))
function = Function(struct_size=ctypes.sizeof(Function), call=shout)
check(resay.resay_register_function(engine, b"shout", function, None))
check(resay.resay_chain(engine, 0, b"shout", None))
tcp = listen("tcp://127.0.0.1:0?frame=lines")  # port 0: a free one
udp = listen("udp://127.0.0.1:0")
listen("unix:tour-ctypes.sock?frame=lines&mode=600")
check(resay.resay_start(engine, 2, None))

client = dial(socket.AF_INET, socket.SOCK_STREAM, tcp)
ask(client, "tcp", b"hello\n")
with dial(socket.AF_INET, socket.SOCK_DGRAM, udp) as other:
    ask(other, "udp", b"hello")
with dial(socket.AF_UNIX, socket.SOCK_STREAM, "tour-ctypes.sock") as other:
    ask(other, "unix", b"hello\n")

check(resay.resay_chain(engine, 0, b"shout | uppercase", None))  # of all connections, the open one too
ask(client, "tcp", b"hello\n")
client.close()

# Every answer is sent; the file of the unix socket is gone. Both before the interpreter ends: no callback may come then.
check(resay.resay_drain(engine, 5000))
resay.resay_engine_free(engine)
