"""The pytest plugin, used by tests of its own."""

import os

import pytest
from conftest import PROGRAM_SECONDS_MAX


@pytest.fixture
def run(pytester, request):
    """Runs tests with the plugin: the result."""

    def run(source, *options, passed=0, failed=0, skipped=0, errors=0):
        pytester.makepyfile(source)
        backend = request.config.getoption("--resay-backend")
        options = ["-p", "no:cacheprovider", f"--resay-backend={backend}", *options]
        result = pytester.runpytest_subprocess(*options, timeout=PROGRAM_SECONDS_MAX)
        result.assert_outcomes(passed=passed, failed=failed, skipped=skipped, errors=errors)
        return result.stdout.str()

    return run


def test_the_plugin_imports_nothing_until_it_is_used(run):
    run(
        """
        import sys
        def test_nothing():
            assert "resay" not in sys.modules
        """,
        passed=1,
    )


def test_every_socket_opens_when_it_is_asked_for(run):
    run(
        """
        def test_sockets(resay_server):
            assert resay_server.listeners == () and resay_server.is_running
            names = ["tcp", "udp", "unix", "unix_dgram", "unix_seqpacket"]
            for name in names:
                listener = getattr(resay_server, name)
                assert listener is getattr(resay_server, name)
                with listener.connect() as sock:
                    sock.send(b"x")
                    assert sock.recv(1) == b"x"
            assert len(resay_server.received) == len(resay_server.listeners) == 5
            assert len(resay_server.unix.path) < 60

        def test_ipv6(resay_server):
            with resay_server.tcp6.connect() as sock:
                sock.send(b"x")
                assert sock.recv(1) == b"x"
            assert resay_server.udp6.kind == "udp"
        """,
        passed=2,
    )


def test_a_fresh_engine_for_each_test_and_within_one(run):
    run(
        """
        import pytest
        import resay

        @pytest.mark.parametrize("number", range(2))
        def test_fresh(resay_server, number):
            assert len(resay_server.received) == 0
            sock = resay_server.tcp.connect()
            sock.sendall(b"x")
            assert sock.recv(1) == b"x"
            resay_server.tcp.chain("uppercase")
            resay_server.tcp.refuse()
            resay_server.fresh()
            with pytest.raises(ConnectionResetError):
                sock.recv(1)
            sock.close()
            assert len(resay_server.received) == 0 == len(resay_server.tcp.connections)
            with resay_server.tcp.connect() as sock:
                sock.sendall(b"y")
                assert sock.recv(1) == b"y"
        """,
        passed=2,
    )


def test_a_fresh_engine_has_its_first_chains(run):
    run(
        """
        import pytest

        @pytest.mark.resay(chain="uppercase")
        def test_chains(resay_server):
            own = resay_server.listen("udp://127.0.0.1:0", chain="hex")
            resay_server.chain("reverse")
            for listener in (own, resay_server.tcp):
                listener.chain("lowercase")
            resay_server.fresh()
            assert [each.chain() for each in (own, resay_server.tcp, resay_server.udp)] == ["hex", "uppercase", "uppercase"]
            resay_server.chain("reverse")
            assert [each.chain() for each in (own, resay_server.tcp, resay_server.udp)] == ["hex", "reverse", "reverse"]
        """,
        passed=1,
    )


def test_a_chain_that_cannot_be_leaves_nothing_open(run):
    said = run(
        """
        import gc
        import pytest

        @pytest.mark.resay(chain="upercase")
        def test_wrong(resay_server):
            pass

        def test_right(resay_server):
            gc.collect()
        """,
        "-Walways::ResourceWarning",
        passed=1,
        errors=1,
    )
    assert "upercase" in said and "unclosed" not in said


def test_the_marker_sets_chain_and_options(run):
    run(
        """
        import pytest

        @pytest.mark.resay(chain="uppercase", frame="lines")
        def test_marked(resay_server):
            with resay_server.tcp.connect() as sock:
                sock.sendall(b"a")
                sock.sendall(b"b\\n")
                assert sock.recv(10) == b"AB\\n"
            assert resay_server.received == [b"ab"]
        """,
        "--strict-markers",
        passed=1,
    )


def test_the_marker_takes_keywords_only(run):
    said = run(
        """
        import pytest

        @pytest.mark.resay("uppercase")
        def test_marked(resay_server):
            pass
        """,
        errors=1,
    )
    assert "it takes keywords only, such as chain='uppercase'" in said


def test_an_exception_in_a_transform_fails_the_test(run):
    said = run(
        """
        def wrong(data):
            return 1 // 0

        def test_fails(resay_server):
            resay_server.udp.chain(wrong)
            with resay_server.udp.connect() as sock:
                sock.send(b"hello")
                resay_server.received.wait()

        def test_expects_it(resay_server):
            with resay_server.expect_failures():
                test_fails(resay_server)
        """,
        passed=1,
        failed=1,
    )
    assert "ZeroDivisionError" in said and "return 1 // 0" in said


def test_a_failing_test_shows_what_arrived_and_the_seed(run):
    source = """
        def test_fails(resay_server):
            with resay_server.udp.connect() as sock:
                sock.send(b"hello")
                sock.recv(10)
            assert not resay_server.udp.url

        def test_passes(resay_server, resay_seed):
            assert resay_server.seed == resay_seed == 4711
    """
    said = run(source, "--resay-seed=4711", passed=1, failed=1)
    assert "--resay-seed=4711 repeats it" in said and "68 65 6c 6c 6f" in said and "udp://127.0.0.1:" in said
    said = run(source, "--resay-seed=4711", "--resay-transcript=never", passed=1, failed=1)
    assert "68 65 6c 6c 6f" not in said
    said = run(source, "--resay-seed=4711", "--resay-transcript=always", "-rP", passed=1, failed=1)
    assert said.count("repeats it") == 2


def test_the_seed_decides_all_faults(run):
    source = """
        import resay

        def test_faults(resay_server):
            resay_server.udp.chain(resay.faults.drop(0.5))
            with resay_server.udp.connect() as sock:
                for number in range(40):
                    sock.send(b"%d" % number)
                resay_server.received.wait(40)
            print("OUTCOMES", "".join(message.outcome[0] for message in resay_server.received))
    """

    def outcomes(seed):
        said = run(source, f"--resay-seed={seed}", "-rP", passed=1)
        return next(line for line in said.splitlines() if line.startswith("OUTCOMES"))

    first = outcomes(1)
    assert first == outcomes(1) != outcomes(2)


def test_the_timeout_is_an_option_of_the_ini_file(run, pytester):
    pytester.makeini("[pytest]\nresay_timeout = 0.01")
    said = run(
        """
        def test_waits(resay_server):
            resay_server.udp.received.wait()
        """,
        failed=1,
    )
    assert "WaitTimeout" in said


def test_servers_of_the_factory(run):
    run(
        """
        import pytest

        def test_two(resay_server_factory):
            with resay_server_factory("tcp://127.0.0.1:0", chain="uppercase") as one, resay_server_factory(frame="lines") as two:
                for server, data in ((one, b"A"), (two, b"a\\n")):
                    with server.tcp.connect() as sock:
                        sock.sendall(data.lower())
                        assert sock.recv(10) == data
            with pytest.raises(ZeroDivisionError):
                with resay_server_factory(chain=lambda data: 1 // 0) as server:
                    with server.udp.connect() as sock:
                        sock.send(b"x")
                        server.received.wait()
        """,
        passed=1,
    )


def test_a_failing_test_shows_servers_of_the_factory_that_have_ended(run):
    said = run(
        """
        import pytest

        def talk(server, data):
            with server.udp.connect() as sock:
                sock.send(data)
                sock.recv(100)

        def test_inside(resay_server_factory):
            with resay_server_factory() as good:
                talk(good, b"of no interest")
            with resay_server_factory() as one, resay_server_factory() as two:
                talk(one, b"the first")
                talk(two, b"the second")
                assert not two.seed

        def test_behind(resay_server_factory):
            with resay_server_factory() as server:
                talk(server, b"the third")
            assert not server.seed

        def test_transform(resay_server_factory):
            with resay_server_factory(chain=lambda data: 1 // 0) as server:
                with server.udp.connect() as sock:
                    sock.send(b"the fourth")
                    server.received.wait()

        @pytest.fixture
        def wrong(resay_server_factory):
            with resay_server_factory() as server:
                talk(server, b"the fifth")
                assert not server.seed
                yield server

        def test_fixture(wrong):
            pass

        def test_passes(resay_server_factory):
            with resay_server_factory() as server:
                talk(server, b"all is well")
        """,
        "--resay-seed=4711",
        passed=1,
        failed=3,
        errors=1,
    )
    assert said.count("--resay-seed=4711 repeats it") == 5
    for data in ("the first", "the second", "the third", "the fourth", "the fifth"):
        assert said.count(f"  {data}\n") == 1, data
    assert "  of no interest\n" not in said and "  all is well\n" not in said


def test_a_failing_test_of_hypothesis_shows_the_example(run):
    pytest.importorskip("hypothesis")
    source = """
        from hypothesis import given, settings, strategies as st

        def talk(server, number):
            with server.udp.connect() as sock:
                sock.send(b"number %%d" %% number)
                sock.recv(100)

        @settings(deadline=None, max_examples=20, database=None)
        @given(number=st.integers(0, 1000))
        def test_fails(resay_server_factory, number):
            with resay_server_factory() as server:
                talk(server, number)
            %sassert number < 3
    """
    for inside in ("", "    "):
        said = run(source % inside, "--resay-seed=4711", failed=1)
        assert said.count("--resay-seed=4711 repeats it") == 1 and said.count("  number 3\n") == 1, said


def test_under_xdist(run):
    pytest.importorskip("xdist")
    run(
        """
        import pytest

        @pytest.mark.parametrize("number", range(8))
        def test_one(resay_server, number):
            with resay_server.unix.connect() as sock:
                sock.sendall(b"x")
                assert sock.recv(1) == b"x"
        """,
        "-n2",
        passed=8,
    )


def test_nothing_is_left_in_tmp(run):
    said = run(
        """
        import os

        def test_unix(resay_server):
            resay_server.unix.connect().close()
            print("DIRECTORY", os.path.dirname(resay_server.unix.path))
        """,
        "-rP",
        passed=1,
    )
    [directory] = [line.split()[1] for line in said.splitlines() if line.startswith("DIRECTORY")]
    assert directory.startswith("/tmp/resay-") and not os.path.exists(directory)
