"""Sends what waits in an outbox to a service, every few seconds, for as long as the node lives."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import trio

from dms.observe import catalogue
from dms.observe.errors import NotDelivered
from dms.observe.events import EventBus
from dms.observe.log import get_logger
from dms.observe.outbox import Outage, Outbox

BATCH_ITEMS = 500
BATCH_BYTES = 2 << 20
FAREWELL_S = 3.0
"""What is left is sent once more when the node ends, within this time."""

T = TypeVar("T")

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Delivered:
    """What became of a batch: how many the service will never take and why, and the places of those to be sent again."""

    rejected: int = 0
    why: str = ""
    again: frozenset[int] = field(default_factory=frozenset)


Deliver = Callable[[Sequence[T]], Awaitable[Delivered]]
"""Sends a batch, within a few seconds.

:raises NotDelivered: nothing of it arrived.
"""


class Shipper(Generic[T]):
    """One output. :meth:`run` it once.

    :param name: of the output, for people: ``elastic``, ``otel``, ``apm``.
    :param check: asks the service whether it would take something; what it raises counts as a failed attempt.
    """

    def __init__(
        self,
        name: str,
        outbox: Outbox[T],
        deliver: Deliver[T],
        events: EventBus,
        *,
        check: Callable[[], Awaitable[None]] | None = None,
        interval_s: float = 5.0,
    ) -> None:
        self.name = name
        self.outbox = outbox
        self.outage = Outage(interval_s)
        self.interval_s = interval_s
        self._deliver = deliver
        self._check = check
        self._events = events
        self._dropped_before = 0

    async def run(self) -> None:
        """Deliver until cancelled; then once more, briefly. Nothing that the service does ends this."""
        try:
            wait_s = await self._attempt(self._check) if self._check is not None else 0.0
            while True:
                await trio.sleep(max(wait_s, self.interval_s))
                wait_s = await self.flush()
        finally:
            if not self.outage.is_out and len(self.outbox):
                with trio.CancelScope(shield=True), trio.move_on_after(FAREWELL_S):
                    await self.flush()

    async def flush(self) -> float:
        """Send all that waits; how long to leave the service alone, 0 if all is well."""
        left = len(self.outbox)  # what comes meanwhile is for the next time
        while left > 0 and (batch := self.outbox.peek(min(BATCH_ITEMS, left), BATCH_BYTES)):
            left -= len(batch)
            wait_s = await self._attempt(lambda batch=batch: self._send(batch))  # type: ignore[misc]
            if wait_s:
                return wait_s
        return 0.0

    async def _send(self, batch: Sequence[T]) -> None:
        delivered = await self._deliver(batch)
        self.outbox.settle(len(batch), rejected=delivered.rejected, again=delivered.again)
        if delivered.rejected and self.outage.is_worth_saying(trio.current_time()):
            log.warning("output_rejected", output=self.name, count=delivered.rejected, reason=delivered.why)
        if delivered.again:
            raise NotDelivered(f"{len(delivered.again)} of {len(batch)} entries were not taken: {delivered.why}")

    async def _attempt(self, act: Callable[[], Awaitable[None]]) -> float:
        try:
            await act()
        except NotDelivered as exc:
            return self._failed(exc)
        except Exception as exc:
            log.exception("output_broken", output=self.name)
            return self._failed(NotDelivered(f"{type(exc).__name__}: {exc}"))
        outage_s = self.outage.ended(trio.current_time())
        if outage_s is not None:
            dropped = self.outbox.counts.dropped - self._dropped_before
            log.info("output_recovered", output=self.name, outage_s=round(outage_s, 1), dropped=dropped)
            self._events.emit(
                catalogue.OUTPUT_RECOVERED, output=self.name, outage_s=round(outage_s, 1), dropped=dropped
            )
        return 0.0

    def _failed(self, error: NotDelivered) -> float:
        now_s = trio.current_time()
        if not self.outage.is_out:
            self._dropped_before = self.outbox.counts.dropped
            self._events.emit(catalogue.OUTPUT_LOST, output=self.name, reason=error.message)
        self.outbox.counts.failures += 1
        wait_s = self.outage.failed(error, now_s)
        if self.outage.is_worth_saying(now_s):
            waiting = len(self.outbox)
            log.warning("output_lost", output=self.name, reason=error.message, hint=error.hint, waiting=waiting)
        return wait_s
