"""The figures of docs/python.md: processor time a message, beside uvloop; starting; importing.

    python figures.py [SECONDS [ROUNDS]]

SECONDS of load a measurement (1), in so many ROUNDS (5). It needs uvloop, and prints a table. Each pair is measured in turns, since
machines drift: compare the ratios.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

import resay

SECONDS = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0
ROUNDS = int(sys.argv[2]) if len(sys.argv) > 2 else 5

SERVERS = {
    "function": """
import resay, sys
engine = resay.Engine(sys.argv[1], chain=bytes.upper)
print(engine.listeners[0].url, flush=True)
engine.run()
""",
    "native": """
import resay, sys
engine = resay.Engine(sys.argv[1], chain="uppercase")
print(engine.listeners[0].url, flush=True)
engine.run()
""",
    "recorded": """
import resay, sys
engine = resay.Engine(sys.argv[1], chain="uppercase", record=True)
print(engine.listeners[0].url, flush=True)
engine.run()
""",
    "loop": """
import asyncio, resay, sys, uvloop
async def main():
    async with resay.Engine(sys.argv[1], chain=bytes.upper) as engine:
        print(engine.listeners[0].url, flush=True)
        await asyncio.Event().wait()
uvloop.run(main())
""",
    "uvloop": """
import asyncio, os, socket, sys, uvloop
class Stream(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
    def data_received(self, data):
        self.transport.write(data.upper())
class Datagram(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport
    def datagram_received(self, data, peer):
        self.transport.sendto(data.upper(), peer)
async def main():
    loop, url = asyncio.get_running_loop(), sys.argv[1]
    if url.startswith("tcp"):
        server = await loop.create_server(Stream, "127.0.0.1", 0)
        url = "tcp://127.0.0.1:%d" % server.sockets[0].getsockname()[1]
    elif url.startswith("udp"):
        transport, _ = await loop.create_datagram_endpoint(Datagram, ("127.0.0.1", 0))
        url = "udp://127.0.0.1:%d" % transport.get_extra_info("sockname")[1]
    else:
        await loop.create_unix_server(Stream, url.partition(":")[2])
    print(url, flush=True)
    await asyncio.Event().wait()
uvloop.run(main())
""",
}


def pin():
    """Server and load on one core: the steadiest figures of processor time."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def measure(server, url, connections=50):
    """Loads a server: processor time and latency as `resay bench` reports them."""
    process = subprocess.Popen([sys.executable, "-c", SERVERS[server], url], stdout=subprocess.PIPE, text=True, preexec_fn=pin)
    try:
        address = process.stdout.readline().strip()
        arguments = [
            str(resay.find_command()), "bench", address, "-c", str(connections), "-s", "64", "-d", f"{SECONDS}s", "--warmup", "300ms",
            "--expect", "uppercase", "--server-pid", str(process.pid), "--json", "-",
        ]
        done = subprocess.run(arguments, capture_output=True, text=True, check=True, preexec_fn=pin)
        return json.loads(done.stdout)
    finally:
        process.kill()
        process.wait()


def compare(title, servers, url_of, figure, connections=50):
    """Measures servers in turns, and prints the median of each and its ratio to the last. `figure` is a section and a name of the report."""
    section, name = figure
    values = {server: [] for server in servers}
    for _ in range(ROUNDS):
        for server in servers:
            values[server].append(measure(server, url_of(), connections)[section][name])
    medians = {server: statistics.median(values[server]) for server in servers}
    for server in servers:
        print(f"{title:28} {server:10} {medians[server]:10.3f}  {medians[server] / medians[servers[-1]]:.2f} of {servers[-1]}", flush=True)


def starting():
    """All sockets of a test's server, up and down."""
    from resay.pytest import Server

    times = []
    for _ in range(200):
        begin = time.perf_counter()
        with Server() as server:
            for name in ("tcp", "tcp6", "udp", "udp6", "unix", "unix_dgram", "unix_seqpacket"):
                getattr(server, name)
        times.append((time.perf_counter() - begin) * 1000)
    print(f"{'seven sockets, up and down':28} {'median':10} {statistics.median(times):10.3f} ms")


def importing():
    """Processor time of `import resay` over `pass`, and of that with an engine."""
    import resource

    def processor_ms(code):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        for _ in range(50):
            subprocess.run([sys.executable, "-c", code], check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return (after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime) / 50 * 1000

    nothing = processor_ms("pass")
    for code in ("import resay", "import resay; resay.Engine"):
        print(f"{code:28} {'mean':10} {processor_ms(code) - nothing:10.3f} ms")


def main():
    with tempfile.TemporaryDirectory(prefix="resay-", dir="/tmp") as directory:
        measure_all(directory)


def measure_all(directory):
    numbers = iter(range(1_000_000))
    urls = {
        "tcp": lambda: "tcp://127.0.0.1:0", "udp": lambda: "udp://127.0.0.1:0", "unix": lambda: f"unix:{directory}/{next(numbers)}",
    }
    starting()
    importing()
    for kind, url_of in urls.items():
        compare(f"{kind}, CPU a message", ["function", "native", "recorded", "uvloop"], url_of, ("server", "cpu_us_per_answer"))
    compare("tcp in the loop, p50", ["loop", "uvloop"], urls["tcp"], ("latency_us", "p50"), connections=1)


if __name__ == "__main__":
    main()
