"""Pictures of what `resay bench --json FILE` has measured. It needs matplotlib."""
import os
from collections.abc import Mapping
from typing import Any, Union
from typing_extensions import TypeAlias

Document: TypeAlias = Union[str, os.PathLike[str], Mapping[str, Any]]

def latency(*documents: Document, axes: Any = None) -> Any: ...
def throughput(*documents: Document, axes: Any = None) -> Any: ...
