#!/usr/bin/env bash
# Resay beside the tools that people echo with: memory of a connection, and three behaviours. Figures are this
# machine's; what the tools do is theirs.
#
#   cargo build --release && bash benches/compare_tools.sh [CONNECTIONS]
#
# Memory: the proportional set size (smaps_rollup, Pss) of the server and of all processes that it made, with so many
# connections that have echoed once, less that without any, for each connection. The kernel's own is not in it.
# Half-close: a client sends 4 MiB, ends its side, reads nothing for a second, then everything.
# UDP source: a client asks a wildcard server at 127.0.0.5; which address answers?
# UDP empty: a client sends a datagram of no bytes; does one come back?
set -euo pipefail
cd "$(dirname "$0")/.."
connections=${1:-200}
resay=${CARGO_TARGET_DIR:-target}/release/resay
[[ -x $resay ]] || { echo "there is no $resay: cargo build --release" >&2; exit 2; }
command -v python3 >/dev/null || { echo "python3 is not installed" >&2; exit 2; }

echo "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1), Linux $(uname -r | cut -d- -f1), $(date -u +%F)"
"$resay" --version
command -v socat >/dev/null && socat -V | sed -n 's/^socat version \([^ ]*\).*/socat \1/p'
command -v ncat >/dev/null && ncat --version 2>&1 | sed -n 's/^Ncat: Version \([^ ]*\).*/ncat \1/p'
echo

exec python3 - "$resay" "$connections" <<'PYTHON'
import os, resource, shutil, signal, socket, subprocess, sys, threading, time

RESAY, COUNT = sys.argv[1], int(sys.argv[2])
HALF_CLOSE_BYTES = 4 << 20
PATIENCE = 20

soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def free_port(kind):
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def processes(root):
    """The process and all that come from it."""
    children = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat") as stat:
                parent = int(stat.read().rpartition(")")[2].split()[1])
        except OSError:
            continue
        children.setdefault(parent, []).append(int(name))
    found, new = [], [root]
    while new:
        found.append(new.pop())
        new += children.get(found[-1], [])
    return found


def memory(root):
    total = 0
    for pid in processes(root):
        try:
            with open(f"/proc/{pid}/smaps_rollup") as rollup:
                total += sum(int(line.split()[1]) for line in rollup if line.startswith("Pss:"))
        except OSError:
            continue
    return total


class Server:
    """One server in a session of its own, so that its children end with it."""

    def __init__(self, command, kind=socket.SOCK_STREAM):
        self.port = free_port(kind)
        command = [word.replace("PORT", str(self.port)) for word in command]
        quiet = subprocess.DEVNULL
        self.process = subprocess.Popen(
            command, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True)
        until = time.monotonic() + PATIENCE
        table = "/proc/net/tcp" if kind == socket.SOCK_STREAM else "/proc/net/udp"
        while True:
            tables = "".join(open(name).read() for name in (table, table + "6"))
            if f":{self.port:04X} " in tables:
                return
            if time.monotonic() > until or self.process.poll() is not None:
                raise RuntimeError(f"{command[0]} did not start")
            time.sleep(0.01)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def measure_memory(command):
    with Server(command) as server:
        def ask():
            peer = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)
            peer.sendall(b"once")
            answer = b""
            while len(answer) < 4:
                part = peer.recv(4 - len(answer))
                if not part:
                    raise RuntimeError("ended early")
                answer += part
            return peer

        ask().close()
        time.sleep(1)
        before, count_before = memory(server.process.pid), len(processes(server.process.pid))
        peers = [ask() for _ in range(COUNT)]
        time.sleep(0.5)
        after, count_after = memory(server.process.pid), len(processes(server.process.pid))
        for peer in peers:
            peer.close()
        each = (after - before) / COUNT
        return f"{each:.1f} KiB", f"{(count_after - count_before) / COUNT:.0f}"


def measure_half_close(command):
    with Server(command) as server:
        peer = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)
        # What the kernel's buffers hold would hide what the server does.
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
        sent = []

        def send():
            try:
                peer.sendall(b"x" * HALF_CLOSE_BYTES)
                peer.shutdown(socket.SHUT_WR)
                sent.append(True)
            except OSError:
                pass

        sender = threading.Thread(target=send)
        sender.start()
        time.sleep(1)
        got = 0
        try:
            while part := peer.recv(1 << 16):
                got += len(part)
            end = "then the end"
        except OSError as error:
            end = f"then {type(error).__name__}"
        sender.join()
        peer.close()
        return "all" if got == HALF_CLOSE_BYTES and end == "then the end" else f"{got >> 10} KiB, {end}"


def measure_udp(command):
    with Server(command, socket.SOCK_DGRAM) as server, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.settimeout(2)
        peer.sendto(b"who?", ("127.0.0.5", server.port))
        try:
            source = peer.recvfrom(64)[1]
            text = source[0] if source[1] == server.port else f"{source[0]}, another port"
        except TimeoutError:
            text = "no answer"
    with Server(command, socket.SOCK_DGRAM) as server, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.settimeout(2)
        peer.sendto(b"", ("127.0.0.1", server.port))
        try:
            empty = "yes" if peer.recvfrom(64)[0] == b"" else "no"
        except (TimeoutError, ConnectionRefusedError):
            empty = "no"
    return text, empty


def attempt(measure, *arguments):
    try:
        return measure(*arguments)
    except (RuntimeError, OSError) as error:
        return f"failed: {error}"


TOOLS = [
    ("resay serve", [RESAY, "serve", "tcp://:PORT"], [RESAY, "serve", "udp://:PORT"]),
    ("socat ... PIPE",
     ["socat", "TCP-LISTEN:PORT,fork,backlog=256", "PIPE"],
     ["socat", "UDP-RECVFROM:PORT,fork", "PIPE"]),
    ("socat ... EXEC:cat",
     ["socat", "TCP-LISTEN:PORT,fork,backlog=256", "EXEC:cat"],
     ["socat", "UDP-LISTEN:PORT,fork", "EXEC:cat"]),
    ("ncat -e /bin/cat",
     ["ncat", "-lk", "-m", "100000", "-e", "/bin/cat", "0.0.0.0", "PORT"],
     ["ncat", "-luk", "-e", "/bin/cat", "0.0.0.0", "PORT"]),
]
row = "| {:18} | {:>16} | {:>9} | {:>30} | {:>12} | {:>9} |".format
print(row("server", f"memory, {COUNT} conn.", "processes", "half-close, 4 MiB", "UDP source", "UDP empty"))
print(row("", "a connection", "a connec.", "", "of 127.0.0.5", "answered"))
for name, tcp, udp in TOOLS:
    if not shutil.which(tcp[0]):
        print(f"| {name}: not installed |")
        continue
    used = attempt(measure_memory, tcp)
    used = used if isinstance(used, tuple) else (used, "")
    told = attempt(measure_udp, udp)
    told = told if isinstance(told, tuple) else (told, "")
    print(row(name, *used, attempt(measure_half_close, tcp), *told), flush=True)
PYTHON
