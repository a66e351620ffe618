"""The first ten minutes in Python with cffi: three kinds of sockets, a transform that is a function of the program, another
chain while a connection is open, the end.

    python3 examples/python/tour_cffi.py PREFIX/include/resay.cdef

RESAY_LIBRARY names the library; without it the system's own search decides.
"""

import os
import socket
import sys

import cffi

ffi = cffi.FFI()
with open(sys.argv[1]) as declarations:
    ffi.cdef(declarations.read())
resay = ffi.dlopen(os.environ.get("RESAY_LIBRARY", "libresay.so.1"))


def check(code):
    if code < 0:
        raise RuntimeError(ffi.string(resay.resay_last_error()).decode())


# What an exception makes of a message is error=. It must be there for as long as the engine.
@ffi.callback("int(void *, void **, const resay_message *, resay_out *)", error=resay.RESAY_DROP)
def shout(_user, _session, message, out):
    text = ffi.buffer(message.data, message.len)[:] + b"!"
    return resay.RESAY_REPLACE if resay.resay_out_write(out, text, len(text)) >= 0 else resay.RESAY_DROP


def listen(url):
    listener = ffi.new("resay_id *")
    check(resay.resay_listen(engine, url.encode(), listener, ffi.NULL))
    return "127.0.0.1", resay.resay_listener_port(engine, listener[0])


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


out = ffi.new("resay_engine **")
check(resay.resay_engine_new(resay.RESAY_ABI, out, ffi.NULL))
engine = out[0]
function = ffi.new("resay_function *", {"struct_size": ffi.sizeof("resay_function"), "call": shout})
check(resay.resay_register_function(engine, b"shout", function, ffi.NULL))
check(resay.resay_chain(engine, 0, b"shout", ffi.NULL))
tcp = listen("tcp://127.0.0.1:0?frame=lines")  # port 0: a free one
udp = listen("udp://127.0.0.1:0")
listen("unix:tour-cffi.sock?frame=lines&mode=600")
check(resay.resay_start(engine, 2, ffi.NULL))

client = dial(socket.AF_INET, socket.SOCK_STREAM, tcp)
ask(client, "tcp", b"hello\n")
with dial(socket.AF_INET, socket.SOCK_DGRAM, udp) as other:
    ask(other, "udp", b"hello")
with dial(socket.AF_UNIX, socket.SOCK_STREAM, "tour-cffi.sock") as other:
    ask(other, "unix", b"hello\n")

check(resay.resay_chain(engine, 0, b"shout | uppercase", ffi.NULL))  # of all connections, the open one too
ask(client, "tcp", b"hello\n")
client.close()

# Every answer is sent; the file of the unix socket is gone. Both before the interpreter ends: no callback may come then.
check(resay.resay_drain(engine, 5000))
resay.resay_engine_free(engine)
