"""How a node finds others: bootstrap peers, and asking those it is connected to.

``nunet/peers/0.0.1``, with the id of the network before ``peers`` if it has one: one question, one answer, both JSON in
a frame. ``{"peer": "<id>"}`` asks where a peer listens, ``{"sample": n}`` for some peers. The answer is
``{"peers": [{"peer": "<id>", "addresses": ["/ip4/…/tcp/…"]}]}``.

An answer is a hint and never believed: the handshake proves who answers at an address. So it needs no signature; it is
bounded in size and count, and what we tell is limited to peers that we are connected to and what they said themselves.
"""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence

import trio
from libp2p.abc import INetStream
from libp2p.utils.dns_utils import resolve_multiaddr_with_retry
from multiaddr import Multiaddr

from dms.network.addresses import (
    MAX_ADDRESSES_PER_PEER,
    AddressBook,
    is_loopback,
    parse_address,
    parse_peer_id,
    split_address,
)
from dms.network.errors import InvalidAddress, NetworkError
from dms.network.framing import encode_frame, read_frame
from dms.network.libp2p.messages.streams import receiver
from dms.types.ids import PeerID

log = logging.getLogger(__name__)

LOOKUP_S = 3.0
"""How long a send may look for an unknown peer (``spec/network.md`` 2.5)."""
ASK_AT_ONCE = 16
MAX_SAMPLE = 16
ENOUGH_PEERS = 16
"""With that many connections no more are looked for."""
EXCHANGE_S = 15 * 60.0
RETRY_FIRST_S = 1.0
RETRY_MAX_S = 60.0

_QUESTION_BYTES = 1024
_ANSWER_BYTES = 64 * 1024
_ANSWER_S = 5.0

Peers = list[tuple[PeerID, tuple[Multiaddr, ...]]]


def encode_question(*, peer: PeerID | None = None, sample: int = 0) -> bytes:
    """Ask for one peer, or for some."""
    return json.dumps({"peer": peer} if peer is not None else {"sample": sample}).encode()


def decode_question(data: bytes) -> tuple[PeerID | None, int]:
    """The peer asked for, or how many.

    :raises InvalidAddress: it is not a question.
    """
    value = _load(data)
    peer = value.get("peer")
    if isinstance(peer, str):
        return parse_peer_id(peer), 0
    sample = value.get("sample")
    if not isinstance(sample, int) or sample < 1:
        raise InvalidAddress("not a question for peers")
    return None, min(sample, MAX_SAMPLE)


def encode_answer(peers: Iterable[tuple[PeerID, Sequence[Multiaddr]]]) -> bytes:
    """Peers and where they listen."""
    return json.dumps(
        {"peers": [{"peer": peer, "addresses": [str(a) for a in addresses]} for peer, addresses in peers]}
    ).encode()


def decode_answer(data: bytes) -> Peers:
    """The peers of an answer; entries that make no sense are left out.

    :raises InvalidAddress: it is not an answer.
    """
    entries = _load(data).get("peers")
    if not isinstance(entries, list):
        raise InvalidAddress("not an answer with peers")
    found: Peers = []
    for entry in entries[:MAX_SAMPLE]:
        try:
            peer = parse_peer_id(entry["peer"])
            addresses = tuple(parse_address(text) for text in entry["addresses"][:MAX_ADDRESSES_PER_PEER])
        except (InvalidAddress, KeyError, TypeError, AttributeError):
            continue
        found.append((peer, addresses))
    return found


def _load(data: bytes) -> dict[str, object]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InvalidAddress("not JSON") from error
    if not isinstance(value, dict):
        raise InvalidAddress("not a JSON object")
    return value


class Discovery:
    """Answers the questions of others, and asks our own."""

    def __init__(
        self,
        *,
        own: PeerID,
        book: AddressBook,
        connected: Callable[[], Sequence[PeerID]],
        ask: Callable[[PeerID, bytes, int, float], Awaitable[bytes]],
        dial: Callable[[PeerID, Sequence[Multiaddr]], Awaitable[None]],
        is_nearby: Callable[[PeerID], bool],
        is_member: Callable[[PeerID], bool],
        rng: random.Random,
    ) -> None:
        self._own = own
        self._book = book
        self._connected = connected
        self._ask = ask
        self._dial = dial
        self._is_nearby = is_nearby
        self._is_member = is_member
        self._rng = rng
        self._wake = trio.Event()
        self._hurry = trio.Event()

    # serving ---------------------------------------------------------------------------------------------------------

    async def answer(self, stream: INetStream) -> None:
        """Handle one question; whoever asks nonsense, or too slowly, has his stream reset by the guard around us."""
        asker = PeerID(stream.muxed_conn.peer_id.to_base58())
        with trio.fail_after(_ANSWER_S):
            peer, sample = decode_question(await read_frame(receiver(stream), limit_bytes=_QUESTION_BYTES))
            members = [one for one in self._connected() if one != asker and self._is_member(one)]
            known = [one for one in members if self._book.addresses(one)]
            one = [peer] if peer in known else []
            chosen = one if peer is not None else self._rng.sample(known, min(sample, len(known)))
            await stream.write(encode_frame(encode_answer((one, self._tell(asker, one)) for one in chosen)))
            await stream.close()

    def _tell(self, asker: PeerID, peer: PeerID) -> tuple[Multiaddr, ...]:
        nearby = self._is_nearby(asker)
        return tuple(one for one in self._book.addresses(peer) if nearby or not is_loopback(one))

    # asking ----------------------------------------------------------------------------------------------------------

    async def find(self, peer: PeerID) -> bool:
        """Ask connected peers where somebody listens, and connect there; takes up to :data:`LOOKUP_S`."""
        asked = list(self._connected())
        self._rng.shuffle(asked)
        found = False

        async def ask_one(other: PeerID) -> None:
            nonlocal found
            try:
                for answered, addresses in await self._query(other, encode_question(peer=peer)):
                    if answered == peer and addresses:
                        await self._dial(peer, addresses)
                        found = True
                        nursery.cancel_scope.cancel()
            except NetworkError as error:
                log.debug("asking %s for %s: %s", other, peer, error)

        with trio.move_on_after(LOOKUP_S):
            async with trio.open_nursery() as nursery:
                for other in asked[:ASK_AT_ONCE]:
                    nursery.start_soon(ask_one, other)
        return found

    def hurry(self) -> None:
        """The network changed: look after the bootstrap peers now."""
        self._hurry.set()
        self._hurry = trio.Event()

    def met(self) -> None:
        """Somebody new was identified: look whether he knows more."""
        self._wake.set()

    async def exchange(self) -> None:
        """Keep a handful of connections: ask one peer for others whenever somebody new came, and now and then."""
        asked: dict[PeerID, float] = {}
        while True:
            self._wake = trio.Event()
            now_s = trio.current_time()
            connected = set(self._connected())
            asked = {peer: at_s for peer, at_s in asked.items() if now_s - at_s < EXCHANGE_S and peer in connected}
            fresh = sorted(connected - asked.keys())
            if fresh and len(connected) < ENOUGH_PEERS:
                other = self._rng.choice(fresh)
                asked[other] = now_s
                await self._learn_from(other, ENOUGH_PEERS - len(connected))
                continue
            with trio.move_on_after(EXCHANGE_S):
                await self._wake.wait()

    async def _learn_from(self, other: PeerID, wanted: int) -> None:
        try:
            offered = await self._query(other, encode_question(sample=MAX_SAMPLE))
        except NetworkError as error:
            log.debug("asking %s for peers: %s", other, error)
            return
        connected = {*self._connected(), self._own}
        new = [(peer, addresses) for peer, addresses in offered if peer not in connected and addresses]
        async with trio.open_nursery() as nursery:
            for peer, addresses in new[:wanted]:
                nursery.start_soon(self._try_dial, peer, addresses)

    async def _try_dial(self, peer: PeerID, addresses: Sequence[Multiaddr]) -> None:
        try:
            await self._dial(peer, addresses)
        except NetworkError as error:
            log.debug("dialling %s: %s", peer, error)

    async def _query(self, other: PeerID, question: bytes) -> Peers:
        return decode_answer(await self._ask(other, question, _ANSWER_BYTES, LOOKUP_S))

    # bootstrap -------------------------------------------------------------------------------------------------------

    async def keep_bootstrapped(self, address: str) -> None:
        """Stay connected to one bootstrap peer; failures only log."""
        wait_s = RETRY_FIRST_S
        while True:
            try:
                await self._bootstrap(address)
                wait_s = RETRY_FIRST_S
            except NetworkError as error:
                log.info("bootstrap peer %s: %s; again in %.0f s", address, error, wait_s)
                wait_s = min(wait_s * 1.6, RETRY_MAX_S)
            with trio.move_on_after(wait_s * self._rng.uniform(0.8, 1.2)):
                await self._hurry.wait()
                wait_s = RETRY_FIRST_S

    async def _bootstrap(self, address: str) -> None:
        targets: dict[PeerID, list[Multiaddr]] = {}
        for text in await resolve(address):
            target, peer = split_address(text)
            targets.setdefault(peer, []).append(target)
        for peer, addresses in targets.items():
            if peer != self._own and peer not in self._connected():
                await self._dial(peer, addresses)


async def resolve(address: str) -> list[str]:
    """The addresses behind a ``/dnsaddr/…``; others are returned as they are.

    :raises InvalidAddress: it does not resolve.
    """
    parsed = parse_address(address)
    if not address.startswith("/dnsaddr/"):
        return [address]
    try:
        found = await resolve_multiaddr_with_retry(parsed, max_retries=1, timeout_seconds=10.0)
    except Exception as error:
        raise InvalidAddress(f"{address} does not resolve: {error}") from error
    wanted = parsed.value_for_protocol("p2p") if "/p2p/" in address else None
    texts = [str(one) for one in found or ()]
    usable = [text for text in texts if "/tcp/" in text and (wanted is None or text.endswith(f"/p2p/{wanted}"))]
    if not usable:
        raise InvalidAddress(f"{address} does not resolve to a TCP address")
    return usable
