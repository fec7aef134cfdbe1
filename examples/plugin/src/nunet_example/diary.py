"""One line for each event of the node, in a file of the owner's choice."""

from __future__ import annotations

import os

import trio

from dms.observe.events import Subscription

VARIABLE = "NUNET_EXAMPLE_DIARY"


async def keep_diary(events: Subscription) -> None:
    """Runs as long as the node does; without a file it ends at once."""
    if not (name := os.environ.get(VARIABLE)):
        return
    path = trio.Path(name)
    async for event in events:
        async with await path.open("a") as file:
            await file.write(f"{event.at:.3f} {event.name} {sorted(event.fields)}\n")
