"""The handlers of messages by protocol id, and the slots they run in; shared by all implementations of the network.

A peer holds at most ``per_peer`` of the ``total`` slots, so that no single one can take them all. Messages of this very
host have slots of their own: whoever sends waits for one, as our own programs must not lose what they tell each other.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from functools import partial

import trio

from dms.network.errors import AlreadyHandled, PeerUnreachable
from dms.network.protocol import MAX_MESSAGE_BYTES, MessageHandler, SizeLimit
from dms.types.ids import PeerID

log = logging.getLogger(__name__)

HANDLERS = 4096
HANDLERS_PER_PEER = 128
OWN_HANDLERS = 1024


class Handlers:
    """Who receives which protocol."""

    def __init__(
        self,
        counters: Counter[str],
        *,
        total: int = HANDLERS,
        per_peer: int = HANDLERS_PER_PEER,
        own: int = OWN_HANDLERS,
    ) -> None:
        self._counters = counters
        self._max_total = total
        self._max_per_peer = per_peer
        self._handlers: dict[str, MessageHandler] = {}
        self._limits: dict[str, SizeLimit] = {}
        self._running: Counter[PeerID] = Counter()
        self._total = 0
        self._own = trio.Semaphore(own)
        self._nursery: trio.Nursery | None = None
        self._freed: trio.Event | None = None

    def open(self, nursery: trio.Nursery) -> None:
        """Run handlers in this nursery from now on."""
        self._nursery = nursery

    def close(self) -> None:
        """Run no more; the handlers stay for the next time."""
        self._nursery = None

    def protocols(self) -> tuple[str, ...]:
        """The protocols that have a handler."""
        return tuple(self._handlers)

    def add(self, protocol: str, handler: MessageHandler, max_bytes: SizeLimit | None = None) -> None:
        """Receive the messages of a protocol.

        :raises AlreadyHandled: somebody does already.
        """
        if protocol in self._handlers:
            raise AlreadyHandled(f"the protocol {protocol} has a handler already")
        self._handlers[protocol] = handler
        if max_bytes is not None:
            self._limits[protocol] = max_bytes

    def takes(self, protocol: str, sender: PeerID, size: int) -> bool:
        """Whether a message may be so long."""
        limit = self._limits.get(protocol)
        return size <= MAX_MESSAGE_BYTES or (limit is not None and size <= limit(sender))

    def remove(self, protocol: str) -> bool:
        """Receive them no more; whether anybody did."""
        self._limits.pop(protocol, None)
        return self._handlers.pop(protocol, None) is not None

    def deliver(self, sender: PeerID, protocol: str, data: bytes) -> None:
        """Give a message to its handler, in a task of its own; without handler or slot it is dropped and counted."""
        handler = self._handlers.get(protocol)
        if handler is None or self._nursery is None:
            self._counters["messages dropped: no handler"] += 1
            return
        if self.take_slot(sender):
            self.start(sender, protocol, data)

    async def deliver_own(self, sender: PeerID, protocol: str, data: bytes, timeout_s: float) -> None:
        """Give a message of this host to its handler, in a task of its own, as soon as there is a slot; without handler it
        is dropped and counted.

        :raises PeerUnreachable: there was no slot in time.
        """
        try:
            with trio.fail_after(max(0.0, timeout_s)):
                await self._own.acquire()
        except trio.TooSlowError:
            raise PeerUnreachable(
                f"this node is too busy with itself to take a message within {timeout_s:g} s"
            ) from None
        handler = self._handlers.get(protocol)
        if handler is None or self._nursery is None:
            self._own.release()
            self._counters["messages dropped: no handler"] += 1
            return
        self._nursery.start_soon(self._handle, handler, sender, data, self._own.release)

    def handles(self, protocol: str) -> bool:
        """Whether somebody receives this protocol."""
        return protocol in self._handlers

    def start(self, sender: PeerID, protocol: str, data: bytes) -> bool:
        """Give a message to its handler in a task of its own, for which a slot was taken; whether there is one."""
        handler = self._handlers.get(protocol)
        if handler is None or self._nursery is None:
            self.free_slot(sender)
            self._counters["messages dropped: no handler"] += 1
            return False
        self._nursery.start_soon(self._handle, handler, sender, data, partial(self.free_slot, sender))
        return True

    def has_slot(self, peer: PeerID) -> bool:
        """Whether a slot for this peer is free."""
        return self._total < self._max_total and self._running[peer] < self._max_per_peer

    async def wait_for_slot(self, peer: PeerID) -> None:
        """Return when a slot for this peer is free, without taking it."""
        while not self.has_slot(peer):
            self._freed = trio.Event() if self._freed is None or self._freed.is_set() else self._freed
            await self._freed.wait()

    def take_slot(self, peer: PeerID) -> bool:
        """Take one of the peer's slots, if there is one."""
        if not self.has_slot(peer):
            self._counters["messages dropped: too many at once"] += 1
            return False
        self._total += 1
        self._running[peer] += 1
        return True

    def free_slot(self, peer: PeerID) -> None:
        """Give it back."""
        if self._freed is not None:
            self._freed.set()
        self._total -= 1
        self._running[peer] -= 1
        if not self._running[peer]:
            del self._running[peer]

    async def _handle(self, handler: MessageHandler, sender: PeerID, data: bytes, free: Callable[[], object]) -> None:
        try:
            await handler(sender, data)
        except Exception:
            self._counters["handlers failed"] += 1
            log.exception("the handler of a message of %s failed", sender)
        finally:
            free()
