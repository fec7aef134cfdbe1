"""Two hosts of the libp2p library as it is, in a process of their own, told on stdin what to do.

`trips N`: round trips of 1 KiB on one stream; `bulk N`: so many writes of 1 MiB, until the other end has read them;
`connect N`: new connections. Each is answered with the seconds it took.
"""

from __future__ import annotations

import runpy
import sys
import time
from pathlib import Path

import trio

# The library imports a package that it does not need; what stands in for it must be there before, and nothing else of ours.
runpy.run_path(str(Path(__file__).resolve().parents[1] / "src/dms/network/libp2p/_placeholder.py"))["install"]()

from libp2p import new_host  # noqa: E402
from libp2p.crypto.ed25519 import create_new_key_pair  # noqa: E402
from libp2p.crypto.x25519 import create_new_key_pair as create_noise_key_pair  # noqa: E402
from libp2p.custom_types import TProtocol  # noqa: E402
from libp2p.network.stream.exceptions import StreamEOF  # noqa: E402
from libp2p.peer.peerinfo import info_from_p2p_addr  # noqa: E402
from libp2p.security.noise.transport import PROTOCOL_ID  # noqa: E402
from libp2p.security.noise.transport import Transport as NoiseTransport  # noqa: E402
from multiaddr import Multiaddr  # noqa: E402

ECHO, SINK = TProtocol("/bench/echo"), TProtocol("/bench/sink")
PAYLOAD, MEBIBYTE = bytes(1024), bytes(1 << 20)


def make(seed: int):  # type: ignore[no-untyped-def]  # the library's host  # noqa: ANN201
    """A host with Noise and yamux, as ours has."""
    keys = create_new_key_pair(bytes([seed]) * 32)
    noise = NoiseTransport(keys, noise_privkey=create_noise_key_pair().private_key)
    return new_host(key_pair=keys, sec_opt={PROTOCOL_ID: noise}, muxer_preference="YAMUX")


async def read_exactly(stream, count: int) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    """Read so many bytes."""
    while count:
        count -= len(await stream.read(count))


async def echo(stream) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    """Send back whatever comes."""
    try:
        while True:
            await stream.write(await stream.read(len(PAYLOAD)))
    except StreamEOF:
        return


async def sink(stream) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    """Say how many mebibytes were read, one byte each."""
    while True:
        await read_exactly(stream, len(MEBIBYTE))
        await stream.write(b".")


async def main() -> None:
    """Serve stdin."""
    listen = Multiaddr("/ip4/127.0.0.1/tcp/0")
    server, client = make(1), make(2)
    async with server.run(listen_addrs=[listen]), client.run(listen_addrs=[listen]):
        server.set_stream_handler(ECHO, echo)
        server.set_stream_handler(SINK, sink)
        address = info_from_p2p_addr(server.get_addrs()[0])
        await client.connect(address)
        echoing = await client.new_stream(address.peer_id, [ECHO])
        sinking = await client.new_stream(address.peer_id, [SINK])
        print("ready", flush=True)
        seeds = iter(range(3, 256))

        async def measured(what: str, count: int) -> float:
            took = []
            for _ in range(count if what == "connect" else 0):
                fresh = make(next(seeds))
                async with fresh.run(listen_addrs=[listen]):
                    started = time.perf_counter()
                    await fresh.connect(address)
                    took.append(time.perf_counter() - started)
            if took:
                return min(took)
            started = time.perf_counter()
            for _ in range(count if what == "trips" else 0):
                await echoing.write(PAYLOAD)
                await read_exactly(echoing, len(PAYLOAD))
            for _ in range(count if what == "bulk" else 0):
                await sinking.write(MEBIBYTE)
            await read_exactly(sinking, count if what == "bulk" else 0)
            return time.perf_counter() - started

        while line := await trio.to_thread.run_sync(sys.stdin.readline):
            what, count = line.split()[0], int(line.split()[1])
            print(await measured(what, count), flush=True)


if __name__ == "__main__":
    trio.run(main)
