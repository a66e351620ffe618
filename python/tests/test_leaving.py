"""How processes end: cleanly, with clients busy, after fork, by signals; and what an import costs."""

import os
import signal
import sys
import textwrap

import pytest
from conftest import finished


@pytest.fixture
def python(backend):
    """Runs a program: its output."""

    def python(program, *, expect=0, options=()):
        done = finished(
            [sys.executable, "-X", "faulthandler", *options, "-c", textwrap.dedent(program)],
            env={**os.environ, "RESAY_TEST_BACKEND": backend},
        )
        assert done.returncode == expect, done.stdout + done.stderr
        return done.stdout + done.stderr

    return python


BUSY = """
import os, socket, subprocess, sys, threading, time
import resay

engine = resay.Engine("tcp://127.0.0.1:0", backend=os.environ["RESAY_TEST_BACKEND"], chain=lambda data: data, record=True)
engine.start()
CLIENT = '''
import socket, sys
sock = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
print("up", flush=True)
try:
    while True:
        sock.sendall(b"x" * 64)
        if not sock.recv(64):
            break
except OSError:
    pass
'''
clients = [
    subprocess.Popen([sys.executable, "-S", "-c", CLIENT, str(engine.listeners[0].port)], stdout=subprocess.PIPE)
    for _ in range(3)
]
for client in clients:
    client.stdout.readline()
engine.received.wait(100)
"""


@pytest.mark.parametrize("ending", ["", "sys.exit(0)", "engine.close()", "del engine"], ids=["end", "exit", "close", "del"])
def test_a_process_ends_while_clients_are_busy(python, ending):
    for _ in range(3):
        python(BUSY + ending, options=["-W", "ignore::ResourceWarning"])


def test_what_was_left_open_is_said_at_the_end(python):
    said = python(
        """
        import resay
        def main():
            resay.Engine("tcp://127.0.0.1:0").start()
        main()
        """,
        options=["-W", "always"],
    )
    assert "ResourceWarning: unclosed engine <Engine tcp://127.0.0.1:" in said


@pytest.mark.parametrize("kept_by", ["a cycle", "a module"])
def test_a_client_that_was_left_open_is_closed_at_the_very_end(python, kept_by):
    program = """
        import builtins, os
        import resay
        engine = resay.Engine("tcp://127.0.0.1:0", backend=os.environ["RESAY_TEST_BACKEND"]).start()
        class Holder:
            pass
        holder = Holder()
        holder.client, holder.itself = resay.Client(engine.listeners[0].url), holder
        %s
        engine.close()
    """ % ("builtins.keep = holder" if kept_by == "a module" else "")
    assert python(program, options=["-Wignore"]) == ""


def test_an_engine_of_a_loop_that_was_left_open_ends_too(python):
    said = python(
        """
        import asyncio, os, resay
        engine = resay.Engine("tcp://127.0.0.1:0", backend=os.environ["RESAY_TEST_BACKEND"], chain=bytes.upper)
        asyncio.run(engine.start_async())
        """,
        options=["-W", "ignore::ResourceWarning"],
    )
    assert said == ""


def test_a_transform_that_never_returns_does_not_keep_the_process(python):
    python(
        """
        import os, threading, resay
        entered = threading.Event()
        def forever(data):
            entered.set()
            while True:
                pass
        engine = resay.Engine("udp://127.0.0.1:0", backend=os.environ["RESAY_TEST_BACKEND"], chain=forever).start()
        engine.listeners[0].connect().send(b"x")
        entered.wait()
        """
    )


RUN = """
    import os, signal, sys, threading
    import resay

    def ready():
        with engine.listeners[0].connect() as sock:
            sock.sendall(b"x")
            assert sock.recv(1) == b"x"
            os.kill(os.getpid(), SIGNAL)
            assert sock.recv(1) == b"", "a drain ends connections in good order"
        print("drained")

    engine = resay.Engine("tcp://127.0.0.1:0", backend=os.environ["RESAY_TEST_BACKEND"], chain=lambda data: data)
    thread = threading.Thread(target=ready)
    thread.start()
"""


def test_ctrl_c_in_run_raises_after_a_drain(python):
    said = python(
        textwrap.dedent(RUN.replace("SIGNAL", "signal.SIGINT"))
        + textwrap.dedent(
            """
            try:
                engine.run()
            except KeyboardInterrupt:
                thread.join()
                print("interrupted")
            engine.close()
            """
        )
    )
    assert said.split() == ["drained", "interrupted"]


def test_sigterm_ends_run_after_a_drain(python):
    said = python(textwrap.dedent(RUN.replace("SIGNAL", "signal.SIGTERM")) + "engine.run()\nthread.join()\nengine.close()\nprint('over')")
    assert said.split() == ["drained", "over"]


def test_a_signal_handler_may_stop_what_runs(python):
    said = python(
        textwrap.dedent(RUN.replace("SIGNAL", "signal.SIGUSR1"))
        + textwrap.dedent(
            """
            signal.signal(signal.SIGUSR1, lambda *_: engine.drain())
            engine.run()
            thread.join()
            engine.close()
            print("over")
            """
        )
    )
    assert said.split() == ["drained", "over"]


def test_a_signal_handler_may_come_inside_any_call(python):
    said = python(
        """
        import os, signal, resay
        engine = resay.Engine("tcp://127.0.0.1:0", backend=os.environ["RESAY_TEST_BACKEND"]).start()
        signal.signal(signal.SIGUSR1, lambda *_: engine.stop())
        with engine._lock:  # as each call has it for a moment
            signal.raise_signal(signal.SIGUSR1)
        print(engine.is_running)
        engine.close()
        """
    )
    assert said.split() == ["False"]


def test_a_second_ctrl_c_ends_the_drain_and_the_engine_can_be_closed(python):
    said = python(
        """
        import os, signal, threading, resay

        def interrupt():
            listener = engine.listeners[0]
            with listener.connect() as sock:
                sock.sendall(b"x")
                while not engine.stats().messages_in:
                    pass
                os.kill(os.getpid(), signal.SIGINT)
                try:
                    while True:
                        listener.connect().close()
                except OSError:  # it drains
                    os.kill(os.getpid(), signal.SIGINT)

        engine = resay.Engine(
            "tcp://127.0.0.1:0", backend=os.environ["RESAY_TEST_BACKEND"], chain=resay.faults.delay(3600), timeout=3600
        )
        thread = threading.Thread(target=interrupt)
        thread.start()
        try:
            engine.run()
        except KeyboardInterrupt:
            engine.close()
            print("closed")
        thread.join()
        """
    )
    assert said.split() == ["closed"]


def test_ctrl_c_inside_a_transform_is_raised_by_run(python):
    said = python(
        """
        import os, signal, threading, resay
        def interrupted(data):
            signal.raise_signal(signal.SIGINT)
            return data
        engine = resay.Engine("udp://127.0.0.1:0", backend=os.environ["RESAY_TEST_BACKEND"], chain=interrupted)
        sock = engine.listeners[0].connect()
        sock.send(b"x")
        try:
            engine.run()
        except KeyboardInterrupt:
            print("interrupted")
        engine.close()
        """
    )
    assert said.split() == ["interrupted"]


def test_the_child_of_a_fork_leaves_the_engine_to_its_parent(python):
    said = python(
        """
        import os, sys, resay
        engine = resay.Engine("tcp://127.0.0.1:0", backend=os.environ["RESAY_TEST_BACKEND"], record=True, chain=bytes.upper).start()
        listener = engine.listeners[0]
        child = os.fork()
        if not child:
            try:
                listener.chain("hex")
            except resay.ForkedError:
                print("forked", flush=True)
            assert not engine.is_running
            engine.close()
            with resay.Engine("tcp://127.0.0.1:0", chain=bytes.upper) as own:
                with own.listeners[0].connect() as sock:
                    sock.sendall(b"a")
                    print(sock.recv(1), flush=True)
            sys.exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        with listener.connect() as sock:
            sock.sendall(b"b")
            print(sock.recv(1))
        engine.close()
        """,
        options=["-W", "ignore"],
    )
    assert said.split() == ["forked", "b'A'", "b'B'"]


def test_an_import_brings_little(python):
    said = python(
        """
        import sys
        import resay
        print([name for name in ("asyncio", "dataclasses", "typing", "inspect", "socket", "ssl", "logging") if name in sys.modules])
        """,
        options=["-I"],
    )
    assert said.strip() == "[]"


SUBINTERPRETER = """
import sys
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
number = interpreters.create("legacy") if sys.version_info >= (3, 13) else interpreters.create()
code = '''
try:
    import resay
    resay.Engine()
except Exception as error:
    print(type(error).__name__, flush=True)
'''
try:
    interpreters.exec(number, code) if hasattr(interpreters, "exec") else interpreters.run_string(number, code)
except Exception as error:
    print(type(error).__name__, flush=True)
"""


def test_a_subinterpreter_is_refused(python):
    try:
        import _xxsubinterpreters  # noqa: F401
    except ImportError:
        if sys.version_info < (3, 13):
            pytest.skip("there are no subinterpreters here")
    said = python(SUBINTERPRETER)
    assert said.split()[-1] in ("StateError", "ImportError")


def test_gevent_with_all_its_patches(python):
    pytest.importorskip("gevent")
    said = python(
        """
        from gevent import monkey
        monkey.patch_all()
        import gevent, os, threading
        import resay
        with resay.Engine("tcp://127.0.0.1:0", backend=os.environ["RESAY_TEST_BACKEND"], chain=bytes.upper, record=True) as engine:
            listener = engine.listeners[0]
            def client():
                with listener.connect() as sock:
                    sock.sendall(b"a")
                    return sock.recv(1)
            jobs = [gevent.spawn(client) for _ in range(5)]
            gevent.joinall(jobs)
            print([job.value for job in jobs])
            engine.received.wait(5)
        """
    )
    assert said.strip() == "[b'A', b'A', b'A', b'A', b'A']"


def test_the_command_is_the_packaged_one(python):
    import resay

    command = resay.find_command()
    assert os.access(command, os.X_OK)
    for arguments in ([str(command)], [sys.executable, "-m", "resay"]):
        assert resay.__version__ in finished([*arguments, "--version"]).stdout
    assert (resay.get_include() / "resay.h").is_file() and resay.get_library().is_file()


def test_coverage_sees_every_line_of_a_transform(python, tmp_path):
    pytest.importorskip("coverage")
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent(
            """
            import resay
            def transform(data):
                doubled = data + data
                return doubled
            with resay.Engine("tcp://127.0.0.1:0", chain=transform) as engine:
                with engine.listeners[0].connect() as sock:
                    sock.sendall(b"x")
                    assert sock.recv(2) == b"xx"
            """
        )
    )
    cores = ["ctrace", "pytrace"] + (["sysmon"] if sys.version_info >= (3, 12) else [])
    for core in cores:
        environment = {**os.environ, "COVERAGE_CORE": core, "COVERAGE_FILE": str(tmp_path / core)}
        done = finished([sys.executable, "-m", "coverage", "run", str(program)], env=environment, cwd=tmp_path)
        assert done.returncode == 0, (core, done)
        report = finished([sys.executable, "-m", "coverage", "report"], env=environment, cwd=tmp_path)
        assert report.stdout.split()[-1] == "100%", (core, report)


def test_signals_are_left_alone():
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
