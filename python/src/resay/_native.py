"""The C interface by ctypes: constants, structs, prototypes, and the library itself.

`tests/test_interface.py` compares every name in here with `resay.json`, which Resay generates beside `resay.h`.

`lib` releases the interpreter's lock during a call; `held` keeps it, and is only for calls that never wait.
"""

import ctypes
import os
from ctypes import (
    CFUNCTYPE, POINTER, Structure, c_char, c_char_p, c_int, c_int32, c_size_t, c_uint32, c_uint64, c_void_p, sizeof,
)

RESAY_ABI = 1

RESAY_E_STATE = -103
RESAY_E_HANDLE = -104
RESAY_E_SYS = -105
RESAY_E_TIMEOUT = -106
RESAY_E_INTR = -107
RESAY_E_SPEC = -108
RESAY_E_PLUGIN = -109
RESAY_E_FORKED = -111
RESAY_E_BUG = -112
RESAY_E_FULL = -113

RESAY_ERROR_MESSAGE_BYTES = 240
RESAY_EVENT_TEXT_BYTES = 96

RESAY_FD_DUP = 2

# Statuses of a transform.
RESAY_PASS = 0
RESAY_REPLACE = 1
RESAY_DROP = 3
RESAY_CLOSE = 4
RESAY_RESET = 5
RESAY_E_DATA = -1

RESAY_IO_EOF = 4

RESAY_DATAGRAM = 2

RESAY_TAP_ANSWERS = 1

RESAY_EVENT_ACCEPTED = 4
RESAY_EVENT_CLOSED = 8
RESAY_EVENT_DROPPED = 64
RESAY_EVENT_IDENTIFIED = 8192


class resay_error(Structure):
    _fields_ = [
        ("code", c_int32),
        ("os_errno", c_int32),
        ("position", c_uint32),
        ("length", c_uint32),
        ("message", c_char * RESAY_ERROR_MESSAGE_BYTES),
    ]


class resay_stats(Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("open", c_uint32),
        ("accepted", c_uint64),
        ("closed", c_uint64),
        ("messages_in", c_uint64),
        ("messages_out", c_uint64),
        ("bytes_in", c_uint64),
        ("bytes_out", c_uint64),
        ("dropped", c_uint64),
        ("rejected", c_uint64),
        ("transform_errors", c_uint64),
        ("accept_errors", c_uint64),
        ("events_lost", c_uint64),
        ("undelivered_bytes", c_uint64),
        ("dropped_bytes", c_uint64),
        ("transforms_stuck", c_uint64),
    ]


class resay_event(Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("kind", c_uint32),
        ("listener", c_uint64),
        ("connection", c_uint64),
        ("code", c_int32),
        ("zero", c_uint32),
        ("text", c_char * RESAY_EVENT_TEXT_BYTES),
        ("time_ns", c_uint64),
    ]


class resay_address(Structure):
    _fields_ = [("len", c_uint32), ("zero", c_uint32), ("words", c_uint64 * 16)]


class resay_connection(Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("kind", c_uint32),
        ("connection", c_uint64),
        ("listener", c_uint64),
        ("state", c_uint32),
        ("worker", c_uint32),
        ("pid", c_int32),
        ("uid", c_uint32),
        ("gid", c_uint32),
        ("is_paused", c_uint32),
        ("bytes_in", c_uint64),
        ("bytes_out", c_uint64),
        ("waiting_bytes", c_uint64),
        ("idle_ms", c_uint64),
        ("peer", resay_address),
        ("local", resay_address),
        ("via", resay_address),
    ]


class resay_peer(Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("kind", c_uint32),
        ("id", c_uint64),
        ("local", c_char_p),
        ("peer", c_char_p),
        ("listener", c_char_p),
        ("via", c_char_p),
        ("facts", c_void_p),
    ]


class resay_message(Structure):
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


class resay_function(Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("needs", c_uint32),
        ("user", c_void_p),
        ("begin", c_void_p),
        ("call", c_void_p),
        ("end", c_void_p),
        ("release", c_void_p),
    ]


class resay_tap_options(Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("flags", c_uint32),
        ("listener", c_uint64),
        ("capacity_bytes", c_size_t),
        ("data_bytes_max", c_size_t),
    ]


class resay_tap_record(Structure):
    _fields_ = [
        ("sequence", c_uint64),
        ("time_ns", c_uint64),
        ("listener", c_uint64),
        ("connection", c_uint64),
        ("kind", c_uint32),
        ("flags", c_uint32),
        ("outcome", c_uint32),
        ("reason", c_int32),
        ("peer", c_void_p),
        ("peer_len", c_size_t),
        ("data", c_void_p),
        ("data_len", c_size_t),
        ("answer", c_void_p),
        ("answer_len", c_size_t),
        ("message_bytes", c_uint64),
        ("answer_bytes", c_uint64),
    ]


class resay_option(Structure):
    _fields_ = [
        ("key", c_char_p),
        ("type", c_char_p),
        ("fallback", c_char_p),
        ("help", c_char_p),
        ("unit", c_char_p),
        ("min", c_char_p),
        ("max", c_char_p),
    ]


class resay_transform_info(Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("caps", c_uint32),
        ("needs", c_uint32),
        ("threading", c_uint32),
        ("id", c_char_p),
        ("version", c_char_p),
        ("summary", c_char_p),
        ("origin", c_char_p),
        ("options", c_void_p),
        ("options_count", c_size_t),
        ("option_size", c_uint32),
        ("zero", c_uint32),
        ("fault", c_char_p),
    ]


class resay_option_info(Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("flags", c_uint32),
        ("key", c_char_p),
        ("type", c_char_p),
        ("unit", c_char_p),
        ("fallback", c_char_p),
        ("min", c_char_p),
        ("max", c_char_p),
        ("help", c_char_p),
        ("value", c_char_p),
    ]


# Types of callbacks. They keep the interpreter's lock while they run; `held` finds it held.
begin_function = CFUNCTYPE(c_int, c_void_p, POINTER(c_void_p), POINTER(resay_peer), c_void_p)
call_function = CFUNCTYPE(c_int, c_void_p, POINTER(c_void_p), POINTER(resay_message), c_void_p)
end_function = CFUNCTYPE(None, c_void_p, c_void_p)
release_function = CFUNCTYPE(None, c_void_p)
thread_begin_function = CFUNCTYPE(None, c_void_p, c_char_p)
thread_end_function = CFUNCTYPE(None, c_void_p)
each_transform_function = CFUNCTYPE(None, c_void_p, POINTER(resay_transform_info))
each_option_function = CFUNCTYPE(None, c_void_p, POINTER(resay_option_info))

_engine = c_void_p
_id = c_uint64
_error = POINTER(resay_error)
_size_out = POINTER(c_size_t)

# name: (result, arguments). A pointer to bytes is c_char_p if it is a text or may be read from a bytes object.
PROTOTYPES = {
    "resay_strerror": (c_char_p, [c_int]),
    "resay_version": (c_char_p, []),
    "resay_abi": (c_uint32, []),
    "resay_engine_new": (c_int, [c_uint32, POINTER(_engine), _error]),
    "resay_engine_free": (c_int, [_engine]),
    "resay_thread_hooks": (c_int, [_engine, c_void_p, c_void_p, c_void_p, c_void_p]),
    "resay_set": (c_int, [_engine, c_char_p, c_char_p, _error]),
    "resay_listen": (c_int, [_engine, c_char_p, POINTER(_id), _error]),
    "resay_listen_fd": (c_int, [_engine, c_int, c_uint32, c_char_p, POINTER(_id), _error]),
    "resay_listener_url": (c_int, [_engine, _id, c_char_p, c_size_t, _size_out]),
    "resay_listener_close": (c_int, [_engine, _id]),
    "resay_listener_address": (c_int, [_engine, _id, POINTER(resay_address)]),
    "resay_listener_chain": (c_int, [_engine, _id, c_char_p, c_size_t, _size_out]),
    "resay_listener_option": (c_int, [_engine, _id, c_char_p, c_char_p, c_size_t, _size_out]),
    "resay_listener_pause": (c_int, [_engine, _id]),
    "resay_listener_resume": (c_int, [_engine, _id]),
    "resay_listener_reset": (c_int, [_engine, _id]),
    "resay_listener_accept": (c_int, [_engine, _id, c_int]),
    "resay_sync": (c_int, [_engine, c_int32]),
    "resay_connections": (c_int, [_engine, _id, POINTER(c_uint64), c_size_t, _size_out]),
    "resay_connection_get": (c_int, [_engine, c_uint64, POINTER(resay_connection)]),
    "resay_connection_send": (c_int, [_engine, c_uint64, c_char_p, c_size_t]),
    "resay_connection_shutdown": (c_int, [_engine, c_uint64]),
    "resay_connection_close": (c_int, [_engine, c_uint64]),
    "resay_connection_reset": (c_int, [_engine, c_uint64]),
    "resay_connection_pause": (c_int, [_engine, c_uint64]),
    "resay_connection_resume": (c_int, [_engine, c_uint64]),
    "resay_load": (c_int, [_engine, c_char_p, _error]),
    "resay_plugin_dir": (c_int, [_engine, c_char_p, _error]),
    "resay_transforms": (c_int, [_engine, each_transform_function, c_void_p, _error]),
    "resay_options": (c_int, [each_option_function, c_void_p]),
    "resay_register_function": (c_int, [_engine, c_char_p, POINTER(resay_function), _error]),
    "resay_unregister": (c_int, [_engine, c_char_p]),
    "resay_out_write": (c_int, [c_void_p, c_char_p, c_size_t]),
    "resay_out_delay": (c_int, [c_void_p, c_uint64]),
    "resay_out_peer": (c_int, [c_void_p, POINTER(resay_address), POINTER(resay_address)]),
    "resay_chain": (c_int, [_engine, _id, c_char_p, _error]),
    "resay_start": (c_int, [_engine, c_uint32, _error]),
    "resay_run": (c_int, [_engine, c_int32]),
    "resay_poll_fd": (c_int, [_engine]),
    "resay_stop": (c_int, [_engine]),
    "resay_drain": (c_int, [_engine, c_int32]),
    "resay_join": (c_int, [_engine, c_int32]),
    "resay_stats_get": (c_int, [_engine, _id, POINTER(resay_stats)]),
    "resay_events_open": (c_int, [_engine, c_uint32, c_uint32, POINTER(c_void_p), _error]),
    "resay_events_fd": (c_int, [c_void_p]),
    "resay_events_next": (c_int, [c_void_p, POINTER(resay_event), c_int32]),
    "resay_events_lost": (c_uint64, [c_void_p]),
    "resay_events_close": (c_int, [c_void_p]),
    "resay_event_code_name": (c_char_p, [c_uint32, c_int32]),
    "resay_tap_open": (c_int, [_engine, POINTER(resay_tap_options), POINTER(c_void_p), _error]),
    "resay_tap_fd": (c_int, [c_void_p]),
    "resay_tap_read": (c_int, [c_void_p, POINTER(resay_tap_record), c_size_t, c_size_t, c_void_p, c_size_t, c_int32]),
    "resay_tap_lost": (c_uint64, [c_void_p]),
    "resay_tap_close": (c_int, [c_void_p]),
    "resay_dry_run_new": (c_int, [_engine, c_char_p, c_char_p, c_char_p, POINTER(c_void_p), _error]),
    "resay_dry_run_process": (c_int, [c_void_p, c_char_p, c_size_t, c_void_p, c_size_t, _size_out]),
    "resay_dry_run_free": (c_int, [c_void_p]),
    "resay_client_open": (c_int, [c_char_p, c_int32, POINTER(c_void_p), _error]),
    "resay_client_send": (c_int, [c_void_p, c_char_p, c_size_t, c_int32]),
    "resay_client_recv": (c_int, [c_void_p, c_void_p, c_size_t, _size_out, c_int32]),
    "resay_client_shutdown": (c_int, [c_void_p]),
    "resay_client_free": (None, [c_void_p]),
    "resay_last_error": (c_char_p, []),
}


def _find(name, variable):
    """A file of the wheel; `variable` names another in its place."""
    other = os.environ.get(variable)
    return other or os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib", name)


library_path = _find("libresay.so.1", "RESAY_LIBRARY")
trampoline_path = _find("libresay_python.so", "RESAY_PYTHON_TRAMPOLINE")


class _Library:
    """Functions of a library, each with its prototype, looked up when it is first used."""

    def __init__(self, loaded):
        self._loaded = loaded

    def __getattr__(self, name):
        prototype = PROTOTYPES.get(name)
        if prototype is None:
            raise AttributeError(name)
        function = getattr(self._loaded, name)
        function.restype, function.argtypes = prototype
        setattr(self, name, function)
        return function


def _load():
    try:
        return ctypes.CDLL(library_path), ctypes.PyDLL(library_path)
    except OSError as error:
        raise ImportError(f"cannot load the library of resay: {error}", path=library_path) from None


_released, _held = _load()
lib, held = _Library(_released), _Library(_held)

if lib.resay_abi() != RESAY_ABI:
    raise ImportError(f"{library_path} has the C interface {lib.resay_abi()}, but this package needs {RESAY_ABI}")


def address_of(function):
    """The address of a C function, or of a callback that ctypes made."""
    return ctypes.cast(function, c_void_p).value


def text_of(call):
    """The text that a C function writes: `call(buf, cap, need)` is made again until the buffer suffices."""
    cap, need = 256, c_size_t()
    while True:
        buf = ctypes.create_string_buffer(cap)
        code = call(buf, cap, ctypes.byref(need))
        if code != RESAY_E_FULL or need.value <= cap:
            return code, buf.value.decode("utf-8", "surrogateescape")
        cap = need.value


def sized(struct):
    """A new struct whose struct_size is set."""
    made = struct()
    made.struct_size = sizeof(struct)
    return made
