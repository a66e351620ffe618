"""A transform in Python, through the C library and nothing but ctypes, and the end of a program in the middle of traffic.

Engine threads call the function while Python runs its own code. Before the interpreter ends, nobody may call it any more:
atexit drains the engine and frees it. Without that, a thread that waits for the interpreter's lock when it ends is ended
by it; the engine survives that, but a function that ctypes has freed meanwhile may still be called.

RESAY_LIBRARY names the library; without it the system's own search decides.
"""

import atexit
import ctypes
import os
import socket
import threading

RESAY_PASS, RESAY_REPLACE, RESAY_E_PLUGIN = 0, 1, -109

resay = ctypes.CDLL(os.environ.get("RESAY_LIBRARY", "libresay.so.1"))
resay.resay_abi.restype = ctypes.c_uint32
resay.resay_last_error.restype = ctypes.c_char_p
resay.resay_out_write.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t]



class Message(ctypes.Structure):
    """resay_message, as far as it is used."""

    _fields_ = [("struct_size", ctypes.c_uint32), ("flags", ctypes.c_uint32), ("data", ctypes.c_void_p),
                ("len", ctypes.c_size_t)]


Call = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.POINTER(Message), ctypes.c_void_p)


class Function(ctypes.Structure):
    """resay_function: what is NULL is not called."""

    _fields_ = [("struct_size", ctypes.c_uint32), ("needs", ctypes.c_uint32), ("user", ctypes.c_void_p),
                ("begin", ctypes.c_void_p), ("call", Call), ("end", ctypes.c_void_p), ("release", ctypes.c_void_p)]


Begin = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_char_p)
End = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


def check(code):
    if code < 0:
        raise RuntimeError(f"{code}: {resay.resay_last_error().decode()}")
    return code


class Engine:
    """An engine whose callbacks are over before the interpreter is."""

    def __init__(self):
        self.engine, self.kept, self.threads = ctypes.c_void_p(), [], []
        check(resay.resay_engine_new(resay.resay_abi(), ctypes.byref(self.engine), None))
        atexit.register(self.close)
        begin, end = Begin(self._begin), End(self._end)
        self.kept += begin, end
        check(resay.resay_thread_hooks(self.engine, begin, end, None, None))

    def _begin(self, _user, name):
        self.threads.append(name.decode())

    def _end(self, _user):
        self.threads.pop()

    def register(self, name, function):
        def call(_user, _session, message, out):
            # An exception must not leave a callback: ctypes would print it, and answer 0.
            try:
                data, length = message.contents.data, message.contents.len
                answer = function(ctypes.string_at(data, length) if length else b"")
                if answer is None:
                    return RESAY_PASS
                code = resay.resay_out_write(out, answer, len(answer))
                return RESAY_REPLACE if code == 0 else RESAY_E_PLUGIN
            except Exception:
                return RESAY_E_PLUGIN

        made = Function(ctypes.sizeof(Function), call=Call(call))
        self.kept.append(made)  # The engine has only the address of the function.
        check(resay.resay_register_function(self.engine, name, ctypes.byref(made), None))

    def close(self):
        """Ends the engine. While these calls wait, ctypes has given the lock back: callbacks can end."""
        if self.engine:
            if resay.resay_drain(self.engine, 200) < 0:
                resay.resay_stop(self.engine)
            check(resay.resay_engine_free(self.engine))
            self.engine = None
            atexit.unregister(self.close)
            print("threads left:", len(self.threads))


engine, listener = Engine(), ctypes.c_uint64()
engine.register(b"shout", lambda message: None if message.endswith(b"!") else message.upper() + b"!")
check(resay.resay_chain(engine.engine, ctypes.c_uint64(0), b"shout", None))
check(resay.resay_listen(engine.engine, b"tcp://127.0.0.1:0", ctypes.byref(listener), None))
check(resay.resay_start(engine.engine, 2, None))
address = ("127.0.0.1", check(resay.resay_listener_port(engine.engine, listener)))

with socket.create_connection(address) as client:
    client.sendall(b"hello")
    print(client.recv(100).decode())


def talk(is_warm):
    """Goes on for as long as somebody answers."""
    try:
        with socket.create_connection(address) as client:
            while True:
                client.sendall(b"again")
                if not client.recv(100):
                    return
                is_warm.set()
    except OSError:
        pass


for warm in [threading.Event() for _ in range(4)]:
    threading.Thread(target=talk, args=(warm,), daemon=True).start()
    assert warm.wait(60)
print("the program ends, and callbacks are running")
