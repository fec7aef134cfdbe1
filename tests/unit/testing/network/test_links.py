"""What links of the twin do to messages."""

from __future__ import annotations

import pytest
import trio
from tests.unit.testing.network.running import ROOT, TOPIC, Mailbox, running
from trio.testing import MockClock

from dms.network import PeerUnreachable
from dms.testing.network import DETECT_S, RECONNECT_S, MemoryNetwork, VirtualNetwork


def pair(seed: int = 1) -> tuple[VirtualNetwork, MemoryNetwork, MemoryNetwork, Mailbox]:
    network = VirtualNetwork(seed, delay_s=0.01)
    a, b = network.node("a"), network.node("b")
    mail = Mailbox()
    b.handle(ROOT, mail)
    return network, a, b, mail


async def send_many(a: MemoryNetwork, b: MemoryNetwork, count: int, size: int = 8) -> None:
    async with trio.open_nursery() as nursery:
        for number in range(count):
            nursery.start_soon(a.send, b.peer_id, ROOT, number.to_bytes(8, "big") + bytes(size - 8))
            await trio.sleep(0.001)
    await trio.sleep(5)


async def test_a_link_cut_in_one_direction_still_lets_the_other_pass_until_it_is_noticed(
    autojump_clock: MockClock,
) -> None:
    network, a, b, _ = pair()
    of_a, of_b = Mailbox(), Mailbox()
    await a.subscribe(TOPIC, of_a)
    await b.subscribe(TOPIC, of_b)
    async with running(a, b):
        network.cut(a, b, one_way=True)
        await a.publish(TOPIC, b"a")
        await b.publish(TOPIC, b"b")
        await trio.sleep(1)
        assert of_a.texts == [b"a", b"b"]
        assert of_b.texts == [b"b"]
        for sender, target in ((a, b), (b, a)):
            with pytest.raises(PeerUnreachable):
                await sender.send(target.peer_id, ROOT, b"needs an answer to begin with", timeout_s=1)
        await trio.sleep(DETECT_S)
        assert not a.is_connected(b.peer_id)
        assert not b.is_connected(a.peer_id)
        network.cut(b, a, one_way=True)
        network.heal(a, b)
        await trio.sleep(RECONNECT_S)
        assert a.is_connected(b.peer_id)


async def test_jitter_spreads_what_was_sent_evenly(autojump_clock: MockClock) -> None:
    network, a, b, mail = pair()
    network.set_link(a, b, jitter_s=0.5)
    async with running(a, b):
        await send_many(a, b, 50)
    times = [at_s for at_s, _, _ in mail.heard]
    assert len(mail.texts) == 50
    assert max(times) - min(times) > 0.5
    assert mail.texts != sorted(mail.texts)


async def test_losses_duplicates_and_overtaking_come_about_as_often_as_asked(autojump_clock: MockClock) -> None:
    network, a, b, mail = pair()
    network.set_link(a, b, loss=0.3, duplication=0.2, reordering=0.1)
    async with running(a, b):
        await send_many(a, b, 1000)
    assert 600 < len(set(mail.texts)) < 800
    assert 0.1 < len(mail.texts) / len(set(mail.texts)) - 1 < 0.3
    first = list(dict.fromkeys(mail.texts))
    overtaken = sum(text < max(first[:number], default=b"") for number, text in enumerate(first))
    assert 20 < overtaken < 200


async def test_without_any_of_it_messages_arrive_once_and_in_order(autojump_clock: MockClock) -> None:
    _, a, b, mail = pair()
    async with running(a, b):
        await send_many(a, b, 200)
    assert mail.texts == sorted(set(mail.texts))
    assert len(mail.texts) == 200


async def test_what_passes_in_a_second_is_bounded_in_each_direction_alone(autojump_clock: MockClock) -> None:
    network, a, b, of_b = pair()
    network.set_link(a, b, bandwidth_bps=8 * 10_000)
    of_a = Mailbox()
    a.handle(ROOT, of_a)
    async with running(a, b):
        started_s = trio.current_time()
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(a.send, b.peer_id, ROOT, bytes(10_000))
                nursery.start_soon(b.send, a.peer_id, ROOT, bytes(10_000))
        await trio.sleep(10)
    for mail in (of_a, of_b):
        assert [round(at_s - started_s) for at_s, _, _ in mail.heard] == [1, 2, 3, 4, 5]
