"""Types of arguments, for annotations that are looked at while a program runs. The stubs have them for type checkers."""

import os
from collections.abc import Callable, Generator, Sequence
from typing import Literal, Union

from ._transforms import Last, Peer, Verdict
from .faults import Stage

Address = Union[tuple[str, int], tuple[str, int, int, int], str, bytes, None]
Kind = Literal["tcp", "udp", "unix", "unix-dgram", "unix-seqpacket"]
Pem = Union[str, "os.PathLike[str]", bytes]
Reply = Union[bytes, bytearray, memoryview, Verdict, Last, None]
Function = Callable[[bytes], Reply]
Conversation = Callable[[Peer], Generator[Reply, bytes, Reply]]
Transform = Union[Function, Conversation]
Chain = Union[str, Stage, Function, Sequence[Union[str, Stage, Function]]]
