"""Round trips of small messages over libp2p, beside plain TCP: what the network library and its defences cost.

Two nodes in this process, connected over loopback; two tasks of trio echoing frames over one loopback connection beside
them, turn by turn. Both ends share one processor in either case, so the rates are lower than those of two processes and
the ratio is the same. A message of ours is handed to its handler and answered for on the stream that two nodes keep; a
round trip is two messages. A gossip round trip is two broadcasts, signed and verified.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import trio

from bench.networks import Bench
from bench.report import Report
from dms.network.framing import HEADER_BYTES, encode_frame
from dms.types.ids import PeerID

TURNS = 7
SEQUENTIAL, PARALLEL, AT_ONCE, BROADCASTS = 100, 200, 16, 50
PAYLOAD = bytes(256)
ASK, ANSWER, TOPIC = "actor/ask/messages/0.0.1", "actor/answer/messages/0.0.1", "/nunet/bench"
GIVE_UP_S = 20.0

RoundTrip = Callable[[], Awaitable[None]]


def measure(_bench: Bench) -> Report:
    """See the module."""
    return trio.run(_measure)


async def _measure() -> Report:
    report = Report("messages", "what does a small message cost over libp2p, beside plain TCP?")
    rates: dict[str, list[float]] = defaultdict(list)
    async with AsyncExitStack() as stack:
        nursery = await stack.enter_async_context(trio.open_nursery())
        tcp = await _tcp_pair(nursery)
        libp2p, gossip, ping = await _libp2p_pair(stack)
        for turn in range(TURNS + 1):
            found = {
                "plain TCP, one after the other": await _rate(tcp, SEQUENTIAL),
                "libp2p ping, one after the other": await _rate(ping, SEQUENTIAL),
                "libp2p messages, one after the other": await _rate(libp2p, SEQUENTIAL),
                f"libp2p messages, {AT_ONCE} at once": await _rate_at_once(libp2p, PARALLEL),
                "gossip, one after the other": await _rate(gossip, BROADCASTS),
            }
            if turn:
                for name, rate in found.items():
                    rates[name].append(rate)
        nursery.cancel_scope.cancel()
    plain = rates["plain TCP, one after the other"]
    for name, values in rates.items():
        rate = report.median(f"{name}: round trips", values, "/s")
        report.single(f"{name}: time of one", 1000 / rate, "ms")
        if values is not plain:
            report.ratio(f"plain TCP / {name}", plain, values)
    return report


async def _libp2p_pair(stack: AsyncExitStack) -> tuple[RoundTrip, RoundTrip, RoundTrip]:
    """A round trip of messages, of broadcasts, and the library's own ping."""
    from dms.network.libp2p import Libp2pNetwork

    one, other = (Libp2pNetwork(seed=bytes([n]) * 32, listen=["/ip4/127.0.0.1/tcp/0"]) for n in (1, 2))
    await stack.enter_async_context(one.run())
    await stack.enter_async_context(other.run())
    waiting: dict[bytes, trio.Event] = {}
    numbers = iter(range(1 << 62))

    async def answer(peer: PeerID, data: bytes) -> None:
        await other.send(peer, ANSWER, data)

    async def answered(_peer: PeerID, data: bytes) -> None:
        waiting.pop(data).set()

    async def echo(peer: PeerID, data: bytes) -> None:
        if peer == one.peer_id:
            await other.publish(TOPIC, data[::-1])

    async def echoed(peer: PeerID, data: bytes) -> None:
        if peer == other.peer_id and data[::-1] in waiting:
            waiting.pop(data[::-1]).set()

    other.handle(ASK, answer)
    one.handle(ANSWER, answered)
    await one.subscribe(TOPIC, echoed)
    await other.subscribe(TOPIC, echo)
    await one.connect(other.listen_addresses[0])

    async def exchange(send: Callable[[bytes], Awaitable[None]]) -> None:
        data = next(numbers).to_bytes(8, "big") + PAYLOAD[8:]
        waiting[data] = event = trio.Event()
        await send(data)
        with trio.fail_after(GIVE_UP_S):
            await event.wait()

    async def messages() -> None:
        await exchange(lambda data: one.send(other.peer_id, ASK, data))

    async def broadcasts() -> None:
        await exchange(lambda data: one.publish(TOPIC, data))

    async def ping() -> None:
        await one.ping(other.peer_id)

    await _until_heard(broadcasts)
    return messages, broadcasts, ping


async def _until_heard(broadcasts: RoundTrip) -> None:
    """Nodes tell each other only after a while to what they listen; what is published before reaches nobody."""
    with trio.fail_after(GIVE_UP_S):
        while True:
            with trio.move_on_after(0.5):
                await broadcasts()
                return


async def _tcp_pair(nursery: trio.Nursery) -> RoundTrip:
    """One connection; frames of the same size there and back."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    frame = encode_frame(PAYLOAD)

    async def serve(stream: trio.SocketStream) -> None:
        while True:
            await stream.send_all(await _receive(stream))

    nursery.start_soon(trio.serve_listeners, serve, listeners)
    stream = await trio.open_tcp_stream("127.0.0.1", listeners[0].socket.getsockname()[1])

    async def round_trip() -> None:
        await stream.send_all(frame)
        await _receive(stream)

    return round_trip


async def _receive(stream: trio.abc.ReceiveStream) -> bytes:
    size, data = HEADER_BYTES + len(PAYLOAD), b""
    while len(data) < size:
        data += await stream.receive_some(size - len(data))
    return data


async def _rate(round_trip: RoundTrip, count: int) -> float:
    started = time.perf_counter()
    for _ in range(count):
        await round_trip()
    return count / (time.perf_counter() - started)


async def _rate_at_once(round_trip: RoundTrip, count: int) -> float:
    async def some() -> None:
        for _ in range(count // AT_ONCE):
            await round_trip()

    started = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for _ in range(AT_ONCE):
            nursery.start_soon(some)
    return count // AT_ONCE * AT_ONCE / (time.perf_counter() - started)
