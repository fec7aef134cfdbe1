"""Attackers: peers with good keys and bad manners, who reach every layer and protocol of a node over real sockets."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

import trio
from tests.fuzz.live.inputs import (
    LAYERS,
    MULTISTREAM,
    NOISE,
    YAMUX,
    bad_frames,
    bad_handshake,
    bad_message,
    bad_negotiation,
    corpora,
)
from tests.fuzz.live.seeds import Corpus
from trio.abc import Stream

from dms.network.libp2p import Libp2pNetwork, Limits
from dms.network.libp2p.connections.swarm import GuardedSwarm, innermost
from dms.network.libp2p.core import GuardedHost

# The library, for attackers: only after our package has put its placeholder in place.
from libp2p.abc import INetStream  # isort: skip
from libp2p.crypto.ed25519 import create_new_key_pair  # isort: skip
from libp2p.custom_types import TProtocol  # isort: skip
from libp2p.exceptions import BaseLibp2pError  # isort: skip
from libp2p.peer.id import ID  # isort: skip
from multiaddr import Multiaddr  # isort: skip

SESSION_INPUTS = 25
"""What one attacker sends before the next one comes, with another key."""
ATTACKERS = 4
"""At once."""
MAX_LEFT_OPEN = 8
"""Streams that one attacker leaves half open."""
GIVE_UP_S = 5.0
"""For one input: the victim may have closed, or read no more."""

ENDED = (BaseLibp2pError, OSError, trio.TooSlowError, trio.BrokenResourceError, trio.ClosedResourceError)
"""What an attacker gets to see when its victim has had enough."""


Act = Callable[[GuardedHost, ID], Awaitable[None]]
Answer = Callable[[INetStream], Awaitable[None]]


@dataclass
class Tally:
    """What was sent."""

    sent: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)
    """Bad answers to questions that the victim asked by itself."""
    refused: Counter[str] = field(default_factory=Counter)

    @property
    def total(self) -> int:
        """Inputs that arrived."""
        return self.sent.total() + self.answered.total()


@dataclass
class Attack:
    """The attack on one node."""

    victim: Libp2pNetwork
    protocols: Sequence[str]
    """All that the victim serves."""
    seed: str
    tally: Tally = field(default_factory=Tally)

    def __post_init__(self) -> None:
        self._corpora = corpora(self.protocols)
        self.targets = [*self.protocols, *LAYERS]
        self._next_session = 0

    async def run(self, inputs: int) -> None:
        """Send that many bad inputs, or fail to three times in a row for every one."""
        async with trio.open_nursery() as nursery:
            for _ in range(ATTACKERS):
                nursery.start_soon(self._go_on, inputs)

    async def _go_on(self, inputs: int) -> None:
        while self.tally.total < inputs:
            assert self.tally.refused.total() < 3 * inputs, f"the victim lets nobody in: {self.tally.refused}"
            number = self._next_session
            self._next_session += 1
            await Session(self, number, random.Random(f"{self.seed} {number}")).run()


class Session:
    """One attacker, from its connection to its end."""

    def __init__(self, attack: Attack, number: int, rng: random.Random) -> None:
        self._attack = attack
        self._number = number
        self._rng = rng
        self._open: list[INetStream] = []

    async def run(self) -> None:
        """Send a few inputs, one to each layer and protocol in turn."""
        targets = self._attack.targets
        first = self._number * SESSION_INPUTS
        chosen = [targets[(first + step) % len(targets)] for step in range(SESSION_INPUTS)]
        for target in (one for one in chosen if one in (NOISE, YAMUX)):
            await self._try(target, self._on_noise if target == NOISE else self._on_yamux)
        left = [one for one in chosen if one not in (NOISE, YAMUX)]

        async def all_of_them(host: GuardedHost, peer: ID) -> None:
            for target in left:
                if not host.swarm.get_connections(peer):
                    self._attack.tally.refused[f"{target}: the connection is gone"] += 1
                    return
                await self._try(target, self._on_stream, host, peer, target)

        try:
            await self._connected(all_of_them)
        except ENDED as error:
            self._attack.tally.refused[f"a connection: {innermost(error)}"] += 1

    async def _try(self, target: str, act: Callable[..., Awaitable[None]], *args: object) -> None:
        try:
            with trio.fail_after(GIVE_UP_S):
                await act(*args)
        except ENDED as error:
            self._attack.tally.refused[f"{target}: {type(error).__name__}"] += 1
        else:
            self._attack.tally.sent[target] += 1

    async def _on_stream(self, host: GuardedHost, peer: ID, target: str) -> None:
        if target == MULTISTREAM:
            (connection, *_) = host.swarm.get_connections(peer)
            muxed = await connection.muxed_conn.open_stream()
            await muxed.write(bad_negotiation(self._rng, self._attack.protocols))
            await (muxed.close() if self._rng.random() < 0.5 else muxed.reset())
            return
        data = bad_message(self._rng, self._corpora[target])
        stream = await host.new_stream(peer, [TProtocol(target)])
        cut = self._rng.choice((len(data), self._rng.randrange(len(data) + 1)))
        for piece in (data[:cut], data[cut:]):
            if piece:
                await stream.write(piece)
        ending = self._rng.random()
        if ending < 0.4:
            await stream.close()
        elif ending < 0.7 or len(self._open) >= MAX_LEFT_OPEN:
            await stream.reset()
        else:
            self._open.append(stream)

    async def _on_noise(self) -> None:
        """Before the handshake, or in the middle of what it protects."""
        if self._rng.random() < 0.7:
            async with await self._dial() as raw:
                await raw.send_all(bad_handshake(self._rng))
            return

        async def spoil(host: GuardedHost, peer: ID) -> None:
            (connection, *_) = host.swarm.get_connections(peer)
            secured = connection.muxed_conn.secured_conn  # type: ignore[attr-defined]
            await secured.secured.conn.read_writer.read_write_closer.write(bad_handshake(self._rng))

        await self._connected(spoil)

    async def _on_yamux(self) -> None:
        async def spoil(host: GuardedHost, peer: ID) -> None:
            (connection, *_) = host.swarm.get_connections(peer)
            await connection.muxed_conn.secured_conn.write(bad_frames(self._rng))  # type: ignore[attr-defined]

        await self._connected(spoil)

    async def _answer(self, stream: INetStream) -> None:
        """What the victim gets to hear when it asks."""
        protocol = str(stream.get_protocol())
        try:
            with trio.fail_after(GIVE_UP_S):
                await stream.write(bad_message(self._rng, self._corpora[protocol]))
                await (stream.close() if self._rng.random() < 0.7 else stream.reset())
        except ENDED as error:
            self._attack.tally.refused[f"answer on {protocol}: {type(error).__name__}"] += 1
        else:
            self._attack.tally.answered[protocol] += 1

    @property
    def _corpora(self) -> dict[str, Corpus]:
        return self._attack._corpora

    async def _dial(self) -> Stream:
        port = int(self._attack.victim.listen_addresses[0].split("/")[4])
        return await trio.open_tcp_stream("127.0.0.1", port)

    async def _connected(self, act: Act) -> None:
        protocols = self._attack.protocols
        answers = dict.fromkeys(protocols, self._answer)
        await intrude(self._attack.victim, self._rng.randbytes(32), answers, act)


async def intrude(victim: Libp2pNetwork, seed: bytes, answers: Mapping[str, Answer], act: Act) -> None:
    """Do something as a host that is connected to the victim, and that answers its questions as it likes.

    :raises BaseLibp2pError, OSError: the victim lets nobody in, or has had enough.
    """
    target = Multiaddr(victim.listen_addresses[0].rpartition("/p2p/")[0])
    counters: Counter[str] = Counter()
    swarm = GuardedSwarm(create_new_key_pair(seed), limits=Limits(), addresses_of=lambda _: [target], counters=counters)
    host = GuardedHost(swarm, counters=counters)
    for protocol, answer in answers.items():
        host.set_stream_handler(TProtocol(protocol), answer)
    peer = ID.from_base58(victim.peer_id)
    problem: BaseException | None = None
    async with host.serving():
        try:
            await swarm.dial_peer(peer)
            await act(host, peer)
        except ENDED as error:
            problem = error
        finally:
            with trio.CancelScope(shield=True):
                await swarm.close_connections(1.0)
    if problem is not None:
        raise problem
