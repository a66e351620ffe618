"""An echo in asyncio's own terms: a protocol that writes what it is given.

    python3 echo.py asyncio|uvloop tcp|unix|udp PORT|PATH
"""

import asyncio
import socket
import sys

BACKLOG = 4096
DATAGRAM_SOCKET_BYTES = 4 << 20


class Stream(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


class Datagrams(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport
        transport.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_RCVBUF, DATAGRAM_SOCKET_BYTES
        )

    def datagram_received(self, data, address):
        self.transport.sendto(data, address)


async def serve(kind, place):
    loop = asyncio.get_running_loop()
    if kind == "udp":
        await loop.create_datagram_endpoint(Datagrams, local_addr=("127.0.0.1", int(place)))
    elif kind == "unix":
        await loop.create_unix_server(Stream, place, backlog=BACKLOG)
    else:
        await loop.create_server(Stream, "127.0.0.1", int(place), backlog=BACKLOG)
    await asyncio.Event().wait()


def main():
    name, kind, place = sys.argv[1:]
    if name == "uvloop":
        import uvloop

        uvloop.run(serve(kind, place))
    else:
        asyncio.run(serve(kind, place))


main()
