"""An echo peer inside a Python test, through the C library and nothing but ctypes.

RESAY_LIBRARY names the library; without it the system's own search decides.
"""

import ctypes
import os
import socket


class Error(ctypes.Structure):
    _fields_ = [("code", ctypes.c_int32), ("os_errno", ctypes.c_int32),
                ("position", ctypes.c_uint32), ("length", ctypes.c_uint32), ("message", ctypes.c_char * 240)]


resay = ctypes.CDLL(os.environ.get("RESAY_LIBRARY", "libresay.so.1"))
resay.resay_version.restype = ctypes.c_char_p
resay.resay_abi.restype = ctypes.c_uint32

engine, listener, error = ctypes.c_void_p(), ctypes.c_uint64(), Error()


def check(code):
    if code < 0:
        raise RuntimeError(f"{code}: {error.message.decode()}")


check(resay.resay_engine_new(resay.resay_abi(), ctypes.byref(engine), ctypes.byref(error)))
check(resay.resay_chain(engine, ctypes.c_uint64(0), b"uppercase:unicode=1", ctypes.byref(error)))
check(resay.resay_listen(engine, b"udp://127.0.0.1:0", ctypes.byref(listener), ctypes.byref(error)))
check(resay.resay_start(engine, 1, ctypes.byref(error)))
port = resay.resay_listener_port(engine, listener)

with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
    client.settimeout(10)
    client.sendto("straße".encode(), ("127.0.0.1", port))
    answer, source = client.recvfrom(2048)
print(resay.resay_version().decode(), source, answer.decode())
assert answer.decode() == "STRASSE" and source == ("127.0.0.1", port)

try:
    check(resay.resay_listen(engine, b"tcp://127.0.0.1", ctypes.byref(listener), ctypes.byref(error)))
except RuntimeError as refused:
    print("refused:", refused)
else:
    raise AssertionError("an address without a port was accepted")

check(resay.resay_drain(engine, 5000))
resay.resay_engine_free(engine)
