"""Ending a stream at once, where nobody can do anything about it if that fails."""

from __future__ import annotations

import logging

import trio
from libp2p.abc import INetStream

RESET_S = 5.0

log = logging.getLogger(__name__)


async def reset(stream: INetStream) -> None:
    """Refuse or end ``stream`` in both directions; never raises, and gives up after :data:`RESET_S` seconds."""
    with trio.move_on_after(RESET_S):
        try:
            await stream.reset()
        except Exception as error:  # noqa: BLE001  it is gone already
            log.debug("a stream could not be reset: %r", error)
