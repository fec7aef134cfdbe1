"""Who subscribed to which topic here, and what their validators think; shared by all implementations of the network.

Knows nothing of the network but "join" and "leave", so subscriptions may be made before it runs.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import trio

from dms.network.protocol import MessageHandler, TopicValidator, Verdict
from dms.types.ids import PeerID

log = logging.getLogger(__name__)

MAX_RUNNING = 1024
"""Handlers of broadcasts that run at once; beyond, messages are dropped and counted."""

Change = Callable[[str], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class _Subscription:
    topic: str
    handler: MessageHandler
    validator: TopicValidator | None


class Subscriptions:
    """The subscriptions of this node."""

    def __init__(self, counters: Counter[str]) -> None:
        self._counters = counters
        self._subscriptions: dict[int, _Subscription] = {}
        self._next = 1
        self._running = 0
        self._join: Change | None = None
        self._leave: Change | None = None
        self._nursery: trio.Nursery | None = None

    async def open(self, nursery: trio.Nursery, *, join: Change, leave: Change) -> None:
        """Join the topics subscribed to, and those to come."""
        self._nursery = nursery
        self._join = join
        self._leave = leave
        for topic in self.topics():
            await join(topic)

    def close(self) -> None:
        """Deliver no more; the subscriptions stay for the next time."""
        self._nursery = None
        self._join = self._leave = None

    def topics(self) -> tuple[str, ...]:
        """The topics that somebody here subscribed to."""
        return tuple(dict.fromkeys(one.topic for one in self._subscriptions.values()))

    async def subscribe(self, topic: str, handler: MessageHandler, validator: TopicValidator | None) -> int:
        """Add a subscription; the first of a topic joins it."""
        number = self._next
        self._next += 1
        is_first = not self._of(topic)
        self._subscriptions[number] = _Subscription(topic, handler, validator)
        if is_first and self._join is not None:
            await self._join(topic)
        return number

    async def unsubscribe(self, number: int) -> None:
        """Remove one; the last of a topic leaves it."""
        gone = self._subscriptions.pop(number, None)
        if gone is None or self._of(gone.topic) or self._leave is None:
            return
        try:
            await self._leave(gone.topic)
        except Exception:
            # whatever carries the topics may be on its way out, and have left before us
            log.debug("leaving %s failed", gone.topic, exc_info=True)

    def judge(self, relay: PeerID, topic: str, data: bytes) -> Verdict:
        """The strictest verdict of the topic's validators; one that raises counts as "ignore"."""
        verdict = Verdict.ACCEPT
        for one in self._of(topic):
            if one.validator is None:
                continue
            try:
                opinion = one.validator(relay, data)
            except Exception:
                self._counters["validators failed"] += 1
                log.exception("the validator of %s failed", topic)
                opinion = Verdict.IGNORE
            if opinion is Verdict.REJECT:
                return opinion
            if opinion is Verdict.IGNORE:
                verdict = opinion
        return verdict

    def deliver(self, topic: str, publisher: PeerID, data: bytes) -> None:
        """Give a valid message to every handler of its topic, each in a task of its own."""
        if self._nursery is None:
            return
        for one in self._of(topic):
            if self._running >= MAX_RUNNING:
                self._counters["broadcasts dropped: too many at once"] += 1
                continue
            self._running += 1
            self._nursery.start_soon(self._handle, one, publisher, data)

    async def _handle(self, subscription: _Subscription, publisher: PeerID, data: bytes) -> None:
        try:
            await subscription.handler(publisher, data)
        except Exception:
            self._counters["handlers failed"] += 1
            log.exception("a handler of %s failed", subscription.topic)
        finally:
            self._running -= 1

    def _of(self, topic: str) -> list[_Subscription]:
        return [one for one in self._subscriptions.values() if one.topic == topic]
