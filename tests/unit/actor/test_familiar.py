"""Hosts from which large messages are taken."""

from __future__ import annotations

import pytest
from trio.testing import MockClock

from dms.actor.familiar import MAX_REMEMBERED, REMEMBERED_S, Familiar
from dms.network import MAX_LARGE_MESSAGE_BYTES, MAX_MESSAGE_BYTES, MessageTooLarge
from dms.testing.actors import World
from dms.types.gojson import Wire
from dms.types.ids import PeerID


class Text(Wire):
    text: str = ""


def test_a_host_is_known_for_a_while_and_their_number_is_bounded() -> None:
    familiar, host = Familiar(), PeerID("host")
    assert not familiar.knows(host, 0.0)
    familiar.note(host, 0.0)
    assert familiar.knows(host, REMEMBERED_S / 2)
    assert not familiar.knows(host, REMEMBERED_S)
    for number in range(MAX_REMEMBERED):
        familiar.note(PeerID(f"other {number}"), 0.0)
    assert not familiar.knows(host, 0.0)


async def test_large_messages_are_taken_of_those_we_have_to_do_with_only(autojump_clock: MockClock) -> None:
    world = World()
    large = "x" * (3 * MAX_MESSAGE_BYTES)

    async def answer(_message: object) -> Text:
        return Text(text=large)

    async with world.node("a") as a, world.node("b") as b, world.node("c") as c:
        b.on("/public/large", answer, payload=Text)

        reply = await a.invoke(b.handle, "/public/large", Text(), Text)
        assert reply.text == large, "b answers a, who asked"
        with pytest.raises(MessageTooLarge):
            await c.invoke(b.handle, "/public/large", Text(text=large), Text)
        again = await a.invoke(b.handle, "/public/large", Text(text=large), Text)
        assert again.text == large, "a was let in before"
        assert c.network.message_limit_bytes(b.handle.addr.host) in (MAX_LARGE_MESSAGE_BYTES, MAX_MESSAGE_BYTES - 8)
