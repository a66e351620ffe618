"""Engines inside event loops: asyncio, uvloop, trio."""

import asyncio
import sys
import threading

import pytest
import resay
from conftest import PROGRAM_SECONDS_MAX

LOOPS = ["asyncio", "uvloop", "trio"]


@pytest.fixture(params=LOOPS)
def run(request):
    """Runs a coroutine function in a loop of each kind."""
    if request.param == "trio":
        trio = pytest.importorskip("trio")

        async def bounded(function):
            with trio.fail_after(PROGRAM_SECONDS_MAX):
                return await function()

        return lambda function: trio.run(bounded, function)
    if request.param == "uvloop":
        loop = pytest.importorskip("uvloop").new_event_loop()
    else:
        loop = asyncio.new_event_loop()

    def run(function):
        return loop.run_until_complete(asyncio.wait_for(function(), PROGRAM_SECONDS_MAX))

    request.addfinalizer(loop.close)
    return run


async def in_thread(function, *arguments):
    from resay import _loops

    return await _loops.in_thread(lambda: function(*arguments))


def converse(sock, *messages):
    answers = []
    for message in messages:
        sock.sendall(message)
        answers.append(sock.recv(100))
    return answers


def test_it_serves_in_the_loop_without_a_thread(run, make):
    engine = make("tcp://127.0.0.1:0", "udp://127.0.0.1:0", chain=bytes.upper, record=True)
    threads = []

    def transform(data):
        threads.append(threading.get_ident())
        return data.upper()

    async def main():
        engine.chain(transform)
        await engine.start_async()
        assert engine.is_running
        for listener in engine.listeners:
            with listener.connect() as sock:
                assert await in_thread(converse, sock, b"a", b"b") == [b"A", b"B"]
        assert [m.data for m in await engine.received.wait_async(4)] == [b"a", b"b"] * 2
        await engine.drain_async(5)
        assert not engine.is_running
        await engine.aclose()

    run(main)
    assert set(threads) == {threading.get_ident()}


def test_async_with(run, make):
    async def main():
        async with make("tcp://127.0.0.1:0") as engine:
            with engine.listeners[0].connect() as sock:
                assert await in_thread(converse, sock, b"a") == [b"a"]
                connection = await engine.listeners[0].wait_connection_async()
            assert await connection.wait_closed_async() is resay.CloseReason.PEER_ENDED
        with pytest.raises(resay.StateError):
            engine.stats()

    run(main)


def test_delays_are_kept_in_the_loop(run, make):
    async def main():
        async with make("tcp://127.0.0.1:0", chain=resay.faults.delay(0.03)) as engine:
            with engine.listeners[0].connect() as sock:
                assert await in_thread(converse, sock, b"a", b"b") == [b"a", b"b"]

    run(main)


def test_changes_from_the_loop_hold_at_once(run, make):
    async def main():
        async with make("tcp://127.0.0.1:0", record=True) as engine:
            listener = engine.listeners[0]
            with listener.connect() as sock:
                assert await in_thread(converse, sock, b"a") == [b"a"]
                listener.chain("uppercase")
                assert await in_thread(converse, sock, b"a") == [b"A"]
                (await listener.wait_connection_async()).send(b"pushed")
                assert await in_thread(sock.recv, 100) == b"pushed"
            listener.refuse()
            with pytest.raises(ConnectionRefusedError):
                listener.connect()
            listener.accept()
            listener.connect().close()

    run(main)


def test_a_call_that_would_stop_the_loop_is_refused(run, make):
    async def main():
        async with make("udp://127.0.0.1:0", record=True) as engine:
            with pytest.raises(resay.StateError, match="wait_async"):
                engine.received.wait()
            with pytest.raises(resay.WaitTimeout):
                await engine.received.wait_async(timeout=0.01)

    run(main)


def test_a_drain_that_would_stop_the_loop_is_refused(run, make):
    engine = make("tcp://127.0.0.1:0")

    async def main():
        await engine.start_async()
        with engine.listeners[0].connect() as sock:
            with pytest.raises(resay.StateError, match="drain_async"):
                engine.drain(10)
            assert await in_thread(converse, sock, b"a") == [b"a"]
        await engine.drain_async(10)
        engine.drain(10)  # it is over: there is nothing to wait for

    run(main)


def test_an_engine_of_a_loop_that_was_left_can_be_drained(make):
    loop = asyncio.new_event_loop()
    engine = make("tcp://127.0.0.1:0")
    loop.run_until_complete(engine.start_async())
    engine.drain(10)
    assert not engine.is_running
    loop.close()


def test_a_call_that_is_refused_names_its_form_for_coroutines(run, make):
    engine = make("tcp://127.0.0.1:0", record=True)

    async def main():
        await engine.start_async()
        for call, name in (
            (lambda: engine.received.wait(), "wait_async"),
            (lambda: engine.received.wait_data(b"x"), "wait_data_async"),
            (lambda: engine.received.expect(b"x"), "expect_async"),
        ):
            with pytest.raises(resay.StateError, match=f"use {name}$"):
                call()
        await engine.aclose()

    run(main)


def test_waits_for_an_engine_with_threads(run, make):
    engine = make("udp://127.0.0.1:0", record=True).start()

    async def main():
        with engine.listeners[0].connect() as sock:
            sock.send(b"hello")
            assert await engine.received.wait_data_async(b"hello") == b"hello"
            await engine.received.expect_async(b"hello")
        await engine.drain_async(5)

    run(main)


def test_events_in_a_loop(run, make):
    async def main():
        async with make("tcp://127.0.0.1:0") as engine:
            events = engine.events(resay.EventKind.ACCEPTED)
            engine.listeners[0].connect().close()
            async for event in events:
                assert event.kind is resay.EventKind.ACCEPTED
                break
            events.close()

    run(main)


def test_several_waiters(run, make):
    """Two coroutines may wait for one engine, and each sees what it waits for."""

    async def main():
        async with make("udp://127.0.0.1:0", record=True) as engine:
            with engine.listeners[0].connect() as sock:
                done = []

                async def waiter(count):
                    await engine.received.wait_async(count)
                    done.append(count)

                if "trio" in sys.modules and _in_trio():
                    import trio

                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(waiter, 1)
                        nursery.start_soon(waiter, 2)
                        sock.send(b"a")
                        sock.send(b"b")
                else:
                    waiters = asyncio.gather(waiter(1), waiter(2))
                    sock.send(b"a")
                    sock.send(b"b")
                    await waiters
                assert sorted(done) == [1, 2]

    run(main)


def _in_trio():
    import trio

    try:
        trio.lowlevel.current_task()
    except RuntimeError:
        return False
    return True


def test_streams_of_asyncio(make, url):
    async def main():
        async with make("tcp://127.0.0.1:0", url("unix"), chain="uppercase") as engine:
            for listener in engine.listeners:
                reader, writer = await listener.open()
                writer.write(b"hello\n")
                assert await reader.readline() == b"HELLO\n"
                writer.close()
                await writer.wait_closed()
            with pytest.raises(resay.StateError):
                await engine.listen("udp://127.0.0.1:0").open()

    asyncio.run(asyncio.wait_for(main(), PROGRAM_SECONDS_MAX))


def test_outside_of_a_loop_it_does_not_start(make):
    coroutine = make("tcp://127.0.0.1:0").start_async()
    with pytest.raises(resay.StateError, match="no running loop"):
        coroutine.send(None)


def test_a_loop_that_ends_first(make):
    engine = make("tcp://127.0.0.1:0")
    asyncio.run(engine.start_async())
    engine.close()


def test_a_loop_of_another_thread_that_ends_first(run, make):
    engine = make("tcp://127.0.0.1:0")
    thread = threading.Thread(target=run, args=(engine.start_async,))
    thread.start()
    thread.join()
    engine.close()


def test_another_thread_closes_an_engine_of_a_loop(run, make):
    async def main():
        engine = await make("tcp://127.0.0.1:0").start_async()
        with engine.listeners[0].connect() as sock:
            assert await in_thread(converse, sock, b"a") == [b"a"]
        await in_thread(engine.close)
        assert not engine.is_running

    run(main)
