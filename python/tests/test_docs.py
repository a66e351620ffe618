"""Every block of docs/python.md and of the README runs."""

import json
import re
from pathlib import Path

import pytest
from conftest import PROGRAM_SECONDS_MAX

try:
    import trustme  # before pytester is used: it forgets what was imported since, and cryptography cannot be imported twice
except ImportError:
    trustme = None

HERE = Path(__file__).parent
# Of the repository, or in an sdist, which has what the package is built from in rust/.
ROOT = next(root for root in (HERE.parent / "rust", HERE.parent.parent) if (root / "docs/python.md").is_file())
PAGES = [ROOT / "docs/python.md", ROOT / "README.md"]
BLOCKS = [
    pytest.param(block, id=f"{page.stem}-{number}", marks=[pytest.mark.tls] if "tls:" in block else [])
    for page in PAGES
    for number, block in enumerate(re.findall(r"^```python\n(.*?)^```", page.read_text(), re.S | re.M), 1)
]


@pytest.mark.parametrize("block", BLOCKS)
def test_a_block_runs(block, pytester, request):
    if "import trustme" in block and trustme is None:
        pytest.skip("trustme is not installed")
    if "def test_" not in block:
        exec(compile(block, request.node.name, "exec"), {"__name__": "docs"})
        return
    pytester.makepyfile(block)
    backend = request.config.getoption("--resay-backend")
    options = ["-p", "no:cacheprovider", f"--resay-backend={backend}"]
    result = pytester.runpytest_subprocess(*options, timeout=PROGRAM_SECONDS_MAX)
    result.assert_outcomes(passed=block.count("def test_"))


def test_the_notebook_runs_and_runs_again():
    notebook = json.loads((HERE / "notebook.ipynb").read_text())
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    names = {}
    for cell in [*cells[:3], cells[1], *cells[2:]]:
        exec(compile(cell, "notebook.ipynb", "exec"), names)
    assert (names["answer"], names["cut"]) == (b"HELLO!", b"hel")
