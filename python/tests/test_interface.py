"""The prototypes, structs and constants of `_native` are those of the headers: include/resay.json says what they are."""

import ctypes
import json
import re

import pytest
import resay
from resay import _native, _transforms

INTERFACE = json.loads((resay.get_include() / "resay.json").read_text())
FUNCTIONS = {each["name"]: each for each in INTERFACE["functions"]}
STRUCTS = {each["name"]: each for each in INTERFACE["structs"]}
CONSTANTS = {each["name"]: each["value"] for each in INTERFACE["constants"]}
CALLBACKS = {each["name"] for each in INTERFACE["callbacks"]}

PLAIN = {
    "int": ctypes.c_int, "int32_t": ctypes.c_int32, "uint32_t": ctypes.c_uint32, "uint64_t": ctypes.c_uint64,
    "size_t": ctypes.c_size_t, "resay_id": ctypes.c_uint64, "uint8_t": ctypes.c_uint8, "char": ctypes.c_char,
    "int64_t": ctypes.c_int64,
}


def fits(type_, declared):
    """Whether a ctypes type stands for a type of C."""
    text = re.sub(r"\bconst\b|\bstruct\b", "", declared).strip()
    is_pointer = text.endswith("*") or "(" in text or text in CALLBACKS
    if not is_pointer:
        if text == "void":
            return type_ is None
        plain = PLAIN.get(text) or getattr(_native, text, None)
        return plain is not None and type_ is not None and ctypes.sizeof(plain) == ctypes.sizeof(type_) and is_signed(plain) == is_signed(type_)
    if type_ is ctypes.c_void_p or (isinstance(type_, type) and issubclass(type_, ctypes._CFuncPtr)):
        return True
    pointee = text[:-1].strip()
    if type_ is ctypes.c_char_p:
        return pointee in ("char", "void", "uint8_t")
    if isinstance(type_, type) and issubclass(type_, ctypes._Pointer):
        if type_._type_ is ctypes.c_void_p:
            return pointee.endswith("*")
        if issubclass(type_._type_, ctypes.Structure):
            return type_._type_.__name__ == pointee
        return fits(type_._type_, pointee)
    return False


def is_signed(type_):
    if issubclass(type_, (ctypes.Structure, ctypes.Array)):
        return None
    value = type_(-1).value if type_ is not ctypes.c_char else 0
    return value == -1


@pytest.mark.parametrize("name", sorted(_native.PROTOTYPES))
def test_a_prototype_is_that_of_the_header(name):
    result, arguments = _native.PROTOTYPES[name]
    declared = FUNCTIONS[name]
    assert fits(result, declared["returns"]), declared
    assert len(arguments) == len(declared["parameters"]), declared
    for type_, parameter in zip(arguments, declared["parameters"]):
        assert fits(type_, parameter["type"]), (parameter, type_)


@pytest.mark.parametrize("name", sorted(_native.PROTOTYPES))
def test_the_library_has_the_function(name):
    assert getattr(_native.lib, name)


OURS = [
    each for each in vars(_native).values()
    if isinstance(each, type) and issubclass(each, ctypes.Structure) and each.__name__.startswith("resay_")
]


@pytest.mark.parametrize("struct", OURS, ids=lambda struct: struct.__name__)
def test_a_struct_is_that_of_the_header(struct):
    declared = STRUCTS[struct.__name__]
    assert [field[0] for field in struct._fields_] == [field["name"] for field in declared["fields"]]
    for name, type_ in struct._fields_:
        field = next(each for each in declared["fields"] if each["name"] == name)
        assert (getattr(struct, name).offset, getattr(struct, name).size) == (field["offset"], field["size"]), name
        if "count" not in field:
            assert fits(type_, field["type"]), (field, type_)
    assert ctypes.sizeof(struct) == declared["size"]


def test_every_constant_is_that_of_the_header():
    ours = {name: value for name, value in vars(_native).items() if name.startswith("RESAY_") and isinstance(value, int)}
    assert ours and ours == {name: CONSTANTS[name] for name in ours}


def test_the_enums_name_all_that_the_header_has():
    def of(prefix):
        return {value for name, value in CONSTANTS.items() if name.startswith(prefix) and isinstance(value, int)}

    assert {int(each) for each in resay.CloseReason} == of("RESAY_CLOSED_")
    kinds = {int(each) for each in resay.EventKind.__members__.values()}
    assert kinds == of("RESAY_EVENT_") - {CONSTANTS["RESAY_EVENT_TEXT_BYTES"]}
    from resay import _recording

    assert set(_recording._OUTCOMES) == {
        value for name, value in CONSTANTS.items() if name.startswith("RESAY_TAP_") and name != "RESAY_TAP_ANSWERS"
    } | {CONSTANTS["RESAY_TAP_ANSWERED"]}


def test_numbers_are_seconds_where_an_option_is_a_time():
    from resay import _engine

    times = set()

    @_native.each_option_function
    def each(_user, info):
        if info.contents.type == b"duration":
            times.add(info.contents.key.decode())

    assert _native.lib.resay_options(each, None) >= 0
    # keepalive is a flag too.
    assert times == _engine._TIMES | {"keepalive"}


def test_the_trampoline_is_there():
    """Every test of transforms runs through it; test_transforms.py also runs without."""
    assert _transforms._trampoline is not None


def test_the_version_is_one():
    from importlib.metadata import version

    assert resay.__version__ == version("resay")
    assert resay.abi == CONSTANTS["RESAY_ABI"]


def test_the_licences_of_what_is_inside_come_with_it():
    from importlib.metadata import files

    found = {each.name: each.read_text() for each in files("resay") if each.parent.name == "licenses"}
    assert set(found) == {"LICENSE-APACHE", "LICENSE-MIT", "THIRD-PARTY-NOTICES"}
    assert "  libc " in found["THIRD-PARTY-NOTICES"] and "  clap " in found["THIRD-PARTY-NOTICES"]
