"""What all tests share. The driver is that of --resay-backend."""

import asyncio
import faulthandler
import os
import subprocess

import pytest
import resay

pytest_plugins = ["pytester"]

# Or pytest-asyncio, which asks for the current loop, has one made on Pythons before 3.12, which nobody closes.
asyncio.set_event_loop(None)

# Far more than any test takes on a busy machine. One that waits for ever is ended with its process, and all threads say where
# they wait.
TEST_SECONDS_MAX = 300
# Of a program that a test runs: less, so that the test can show what that has printed.
PROGRAM_SECONDS_MAX = 240

KINDS = ["tcp", "udp", "unix", "unix-dgram", "unix-seqpacket"]


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config):
    config.addinivalue_line("markers", "tls: takes the plugin file libtls.so")
    # Standard error as it was before pytest caught it.
    capture = config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        config.add_cleanup(faulthandler.cancel_dump_traceback_later)
        config.stash[_said_to] = open(os.dup(2), "w")
        config.add_cleanup(config.stash[_said_to].close)


_said_to = pytest.StashKey()


def pytest_collection_modifyitems(items):
    of_tls = [item for item in items if item.get_closest_marker("tls")]
    if of_tls and _has_no_tls():
        for item in of_tls:
            item.add_marker(pytest.mark.skip(reason="there is no libtls.so in the directories of RESAY_PLUGIN_PATH"))


def _has_no_tls():
    with resay.Engine() as engine:
        try:
            engine.listen("tls://127.0.0.1:0")
        except resay.PluginError as error:  # without a certificate it is refused in any case
            return "libtls.so" in str(error)


@pytest.fixture(autouse=True)
def bounded(request):
    faulthandler.dump_traceback_later(TEST_SECONDS_MAX, exit=True, file=request.config.stash[_said_to])
    yield
    faulthandler.cancel_dump_traceback_later()


def finished(arguments, **options):
    """A program that has ended. One that does not fails the test with what it has printed."""
    try:
        return subprocess.run(arguments, capture_output=True, text=True, timeout=PROGRAM_SECONDS_MAX, **options)
    except subprocess.TimeoutExpired as expired:
        printed = [each.decode() if isinstance(each, bytes) else each or "" for each in (expired.stdout, expired.stderr)]
        pytest.fail(f"not over after {PROGRAM_SECONDS_MAX} s: {arguments}\n{''.join(printed)}")


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
