"""What all tests share. The driver is that of --resay-backend."""

import asyncio

import pytest
import resay

pytest_plugins = ["pytester"]

# Or pytest-asyncio, which asks for the current loop, has one made on Pythons before 3.12, which nobody closes.
asyncio.set_event_loop(None)

KINDS = ["tcp", "udp", "unix", "unix-dgram", "unix-seqpacket"]


@pytest.fixture
def backend(request):
    return request.config.getoption("--resay-backend")


@pytest.fixture
def make(backend):
    """Makes engines of the driver under test, and closes them."""
    made = []

    def make(*urls, **options):
        engine = resay.Engine(*urls, backend=backend, **options)
        made.append(engine)
        return engine

    yield make
    for engine in made:
        engine.close()


@pytest.fixture
def url(tmp_path_factory):
    """A URL of a kind that nobody else uses."""
    import itertools
    import shutil
    import tempfile

    directory, numbers = tempfile.mkdtemp(prefix="resay-", dir="/tmp"), itertools.count()

    def url(kind):
        if kind in ("tcp", "udp"):
            return f"{kind}://127.0.0.1:0"
        return f"{kind}:{directory}/{next(numbers)}"

    yield url
    shutil.rmtree(directory)


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


def ask(sock, data, size=65536):
    sock.sendall(data)
    return sock.recv(size)
