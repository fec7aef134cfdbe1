"""Asking a provider for something that takes long, and again when it died over it.

An answer dies with the connection on which it would have come. Without looking at connections, nobody would know before
the time-out, which for a start is minutes. A provider that comes back at once has kept all that it was told and can be
asked again; one that does not is as good as dead, and somebody else must do it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import trio

from dms.actor.actor import Actor
from dms.actor.handle import Handle
from dms.network.errors import PeerUnreachable
from dms.network.protocol import PeerChange, PeerEvent
from dms.types.ids import PeerID

RETURN_S = 15.0
"""How long a provider that was lost may take to come back."""
AGAIN_S = 0.5

R = TypeVar("R")


async def insist(actor: Actor, to: Handle, behaviour: str, payload: object, reply: type[R], *, timeout_s: float) -> R:
    """As :meth:`dms.actor.actor.Actor.invoke`, for a behaviour that may be asked for twice: whenever the connection to the
    peer ends before the answer, it is asked again.

    :raises PeerUnreachable: it was not there, or went and did not come back within :data:`RETURN_S`.
    :raises DMSError: as there.
    """
    now_s = trio.current_time()
    ends_s, gone_s = now_s + timeout_s, None
    while True:
        try:
            with trio.CancelScope() as scope, _when_lost(actor, to.addr.host, scope.cancel):
                return await actor.invoke(to, behaviour, payload, reply, timeout_s=ends_s - now_s)
            gone_s = trio.current_time()
            lost = PeerUnreachable(f"{to.addr.host} was lost before it answered")
        except PeerUnreachable as exc:
            if gone_s is None:
                raise
            lost = exc
        await trio.sleep(AGAIN_S)
        now_s = trio.current_time()
        if now_s >= min(gone_s + RETURN_S, ends_s):
            raise lost


@contextmanager
def _when_lost(actor: Actor, peer: PeerID, act: Callable[[], None]) -> Iterator[None]:
    def on_change(event: PeerEvent) -> None:
        if event.peer == peer and event.change is PeerChange.DISCONNECTED:
            act()

    end = actor.network.listen(on_change)
    try:
        yield
    finally:
        end()
