"""The pytest plugin of resay. It imports nothing of resay until a test asks for one of its fixtures.

Fixtures: `resay_server` (a running engine for one test), `resay_server_factory` (several, and for Hypothesis), `resay_seed`,
`resay_host`. Marker: `@pytest.mark.resay(chain="uppercase", frame="lines", backend="epoll")`.
"""

import collections

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
        if marker.args:
            given = ", ".join(map(repr, marker.args))
            raise pytest.UsageError(f"@pytest.mark.resay({given}): it takes keywords only, such as chain={marker.args[0]!r}")
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
        error = None
        try:
            with server:
                yield server
            server._raise_unexpected()
        except BaseException as raised:
            error = raised
            raise
        finally:
            _made.remove(server)
            if wants_transcript:
                _ended.append((server._report(), error))

    wants_transcript = request.config.getoption("--resay-transcript") != "never"
    return factory


# Servers of the factory that live: a failing test shows them too.
_made = []
# What the last ones had to tell that have ended in this phase of the test, and the exceptions with which they did: the report is
# made when they are gone. Hypothesis makes one for each example.
_ended = collections.deque(maxlen=8)


def _reports_of_ended(item, error):
    """Of the servers that `error` has ended. Where it came later: of all; with Hypothesis, of the last, whose example failed."""
    causes = _leaves(error)
    found = [report for report, cause in _ended if any(each is cause for each in causes)]
    if found:
        return found
    is_of_examples = getattr(getattr(item, "obj", None), "is_hypothesis_test", False)
    return [report for report, _ in _ended][-1 if is_of_examples else 0 :]


def _leaves(error):
    """The exceptions in a group, with the group itself."""
    found = [] if error is None else [error]
    for each in getattr(error, "exceptions", ()):
        found += _leaves(each)
    return found


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
    error = call.excinfo.value if call.excinfo is not None else None
    ended = _reports_of_ended(item, error)
    _ended.clear()  # or the exceptions would keep all that their frames have
    wanted = item.config.getoption("--resay-transcript")
    report = outcome.get_result()
    # A fixture may fail too.
    if wanted == "never" or not (report.failed or (wanted == "always" and call.when == "call")):
        return
    report.sections += [("resay", each) for each in [*ended, *(server._report() for server in [*_of(item), *_made])]]
