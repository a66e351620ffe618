"""The pytest plugin of resay. It imports nothing of resay until a test asks for one of its fixtures.

Fixtures: `resay_server` (a running engine for one test), `resay_server_factory` (several, and for Hypothesis), `resay_seed`,
`resay_host`. Marker: `@pytest.mark.resay(chain="uppercase", frame="lines", backend="epoll")`.
"""

import pytest

_MARKER = "resay(chain=..., record=..., **options): how the engine of resay_server is made"


def pytest_addoption(parser):
    group = parser.getgroup("resay", "resay: a real peer for tests")
    group.addoption("--resay-seed", type=int, default=None, metavar="N", help="seed of all faults; the default is another one each time")
    group.addoption("--resay-backend", choices=("auto", "epoll", "uring"), default="auto", help="how resay waits for the kernel")
    group.addoption(
        "--resay-transcript", choices=("never", "failed", "always"), default="failed", help="for which tests to show what arrived"
    )
    parser.addini("resay_timeout", "seconds that a wait of resay may take", default="5")


def pytest_configure(config):
    config.addinivalue_line("markers", _MARKER)


_servers = pytest.StashKey()


def _of(item):
    return item.stash.setdefault(_servers, [])


@pytest.fixture(scope="session")
def resay_host():
    """The address on which servers listen. Override it in a conftest.py."""
    return "127.0.0.1"


@pytest.fixture(scope="session")
def resay_seed(request):
    """The seed of all faults of this run."""
    seed = request.config.getoption("--resay-seed")
    if seed is None:
        import random

        seed = random.SystemRandom().randrange(1 << 32)
    return seed


def _settings(config):
    return {"backend": config.getoption("--resay-backend"), "timeout": float(config.getini("resay_timeout"))}


@pytest.fixture
def resay_server(request, resay_host, resay_seed):
    """A running engine that records, for this test. Each socket is opened when it is first asked for."""
    from resay.pytest import Server

    settings = _settings(request.config)
    for marker in reversed(list(request.node.iter_markers("resay"))):
        settings.update(marker.kwargs)
    server = Server(host=resay_host, seed=resay_seed, **settings)
    _of(request.node).append(server)
    try:
        server.start()
        yield server
    finally:
        server.close()
    server._raise_unexpected()


@pytest.fixture(scope="session")
def resay_server_factory(request, resay_host, resay_seed):
    """Makes running engines: `with resay_server_factory("tcp://127.0.0.1:0", chain=...) as server`."""
    from contextlib import contextmanager

    from resay.pytest import Server

    @contextmanager
    def factory(*urls, chain="", record=True, **options):
        settings = {**_settings(request.config), **options}
        server = Server(*urls, chain=chain, record=record, host=resay_host, seed=resay_seed, **settings)
        _made.append(server)
        try:
            with server:
                yield server
        finally:
            _made.remove(server) if server in _made else None
        server._raise_unexpected()

    return factory


# Servers of the factory that live: a failing test shows them too.
_made = []


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item):
    """An exception in a transform fails the test in whose time it came."""
    outcome = yield
    if outcome.excinfo is None:
        for server in _of(item):
            try:
                server._raise_unexpected()
            except BaseException as error:
                outcome.force_exception(error)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    wanted = item.config.getoption("--resay-transcript")
    if call.when != "call" or wanted == "never":
        return
    report = outcome.get_result()
    if wanted == "failed" and not report.failed:
        return
    for server in [*_of(item), *_made]:
        report.sections.append(("resay", server._report()))
