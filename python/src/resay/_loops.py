"""An engine inside the event loop of asyncio, uvloop or trio: no thread. Waiting for a descriptor in either."""

import sys
import threading

from ._errors import StateError
from ._native import RESAY_E_INTR
from ._transforms import turn_of

# While another thread's loop may end.
_LOOK_AGAIN = 0.25


def _trio():
    """The trio module, if this runs in it."""
    trio = sys.modules.get("trio")
    if trio is not None:
        try:
            trio.lowlevel.current_task()
            return trio
        except RuntimeError:
            pass
    return None


async def readable(fd, timeout):
    """Waits until a descriptor is readable or the time is over: whether it is. Nobody else may watch this descriptor."""
    trio = _trio()
    if trio is not None:
        with trio.move_on_after(timeout):
            await trio.lowlevel.wait_readable(fd)
            return True
        return False

    import asyncio

    loop = asyncio.get_running_loop()
    future = loop.create_future()

    def is_readable():
        if not future.done():
            future.set_result(True)

    timer = loop.call_later(timeout, lambda: future.done() or future.set_result(False))
    loop.add_reader(fd, is_readable)
    try:
        return await future
    finally:
        loop.remove_reader(fd)
        timer.cancel()


async def in_thread(function):
    """Runs a function that waits in another thread."""
    trio = _trio()
    if trio is not None:
        return await trio.to_thread.run_sync(function)

    import asyncio

    return await asyncio.get_running_loop().run_in_executor(None, function)


def attach(engine):
    """Puts an engine into the running loop."""
    trio = _trio()
    if trio is not None:
        return _Trio(engine, trio)

    import asyncio

    try:
        return _Asyncio(engine, asyncio.get_running_loop())
    except RuntimeError:
        raise StateError("there is no running loop of asyncio, uvloop or trio here") from None


class _Loop:
    """What both have in common: a turn, and whose thread it is."""

    def __init__(self, engine):
        self.handle, self.failures = engine._handle, engine._failures
        self.fd = engine._poll_fd()
        self.thread, self.owner = threading.get_ident(), threading.current_thread()
        self.over = threading.Event()
        # Serves whatever is ready: false once the engine has ended.
        self.turn = turn_of(self.handle, self.failures.has_interrupt, self.ended)

    @property
    def is_over(self):
        return self.over.is_set()

    def is_here(self):
        return self.thread == threading.get_ident()

    async def wait_over(self):
        """Waits until it is over, in this loop or in another."""
        if self.is_here():
            await self.over_here.wait()
        else:
            await in_thread(self.over.wait)

    def is_left(self):
        """Whether nobody makes turns any more, or not for now: the loop does not run, or its thread is gone."""
        return not (self.is_running() and self.owner.is_alive())

    def finish(self):
        """Detaches it from the loop, or waits for that, once the engine has ended."""
        if self.is_here():
            self.detach()
        while not self.is_left() and not self.over.wait(_LOOK_AGAIN):
            pass  # its thread returns from its last turn
        self.over.set()

    def detach(self):
        """Ends it, in its own thread."""
        if self.is_over:
            return
        self.forget()
        self.over_here.set()
        self.over.set()

    def ended(self, code):
        """Most likely: what a turn returns when resay_run has returned `code`."""
        self.failures.raise_interrupt()
        if code == 1 or code == RESAY_E_INTR:
            return True
        self.detach()
        return False


class _Asyncio(_Loop):
    def __init__(self, engine, loop):
        super().__init__(engine)
        import asyncio

        self.loop, self.over_here = loop, asyncio.Event()
        loop.add_reader(self.fd, self.turn)  # readable for deadlines too
        self.turn()

    def is_running(self):
        return self.loop.is_running()

    def forget(self):
        if not self.loop.is_closed():
            self.loop.remove_reader(self.fd)


class _Trio(_Loop):
    def __init__(self, engine, trio):
        super().__init__(engine)
        self.trio, self.scope, self.over_here, self.has_ended = trio, None, trio.Event(), False
        trio.lowlevel.spawn_system_task(self._serve)

    async def _serve(self):
        try:
            with self.trio.CancelScope() as self.scope:
                while not self.is_over and self.turn():
                    await self.trio.lowlevel.wait_readable(self.fd)
        finally:
            self.has_ended = True

    def is_running(self):
        return not self.has_ended

    def forget(self):
        if self.scope is not None:
            self.scope.cancel()
        try:
            self.trio.lowlevel.notify_closing(self.fd)
        except RuntimeError:
            pass  # the loop has ended
