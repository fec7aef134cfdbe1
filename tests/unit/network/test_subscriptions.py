"""Tests of :mod:`dms.network.subscriptions`."""

from __future__ import annotations

from collections import Counter

import pytest
import trio

from dms.network import TopicValidator, Verdict
from dms.network.subscriptions import MAX_RUNNING, Subscriptions
from dms.types.ids import PeerID

A = PeerID("a")


async def ignore(_sender: PeerID, _data: bytes) -> None:
    return


def says(verdict: Verdict) -> TopicValidator:
    return lambda _relay, _data: verdict


@pytest.mark.parametrize(
    ("opinions", "expected"),
    [
        ([], Verdict.ACCEPT),
        ([Verdict.ACCEPT, Verdict.ACCEPT], Verdict.ACCEPT),
        ([Verdict.ACCEPT, Verdict.IGNORE], Verdict.IGNORE),
        ([Verdict.IGNORE, Verdict.REJECT, Verdict.ACCEPT], Verdict.REJECT),
    ],
)
async def test_the_strictest_validator_of_the_topic_decides(opinions: list[Verdict], expected: Verdict) -> None:
    subscriptions = Subscriptions(Counter())
    await subscriptions.subscribe("t", ignore, None)
    await subscriptions.subscribe("other", ignore, says(Verdict.REJECT))
    for opinion in opinions:
        await subscriptions.subscribe("t", ignore, says(opinion))
    assert subscriptions.judge(A, "t", b"") is expected


async def test_topics_are_joined_once_and_left_with_their_last_subscription() -> None:
    changes = list[str]()

    async def join(topic: str) -> None:
        changes.append(f"join {topic}")

    async def leave(topic: str) -> None:
        changes.append(f"leave {topic}")

    subscriptions = Subscriptions(Counter())
    early = await subscriptions.subscribe("early", ignore, None)
    async with trio.open_nursery() as nursery:
        await subscriptions.open(nursery, join=join, leave=leave)
        first = await subscriptions.subscribe("t", ignore, None)
        second = await subscriptions.subscribe("t", ignore, None)
        for number in (first, second, second, early):
            await subscriptions.unsubscribe(number)
    assert changes == ["join early", "join t", "leave t", "leave early"]


async def test_a_flood_of_broadcasts_is_cut_and_counted() -> None:
    counters: Counter[str] = Counter()
    subscriptions = Subscriptions(counters)
    gate = trio.Event()

    async def stuck(_sender: PeerID, _data: bytes) -> None:
        await gate.wait()

    await subscriptions.subscribe("t", stuck, None)
    async with trio.open_nursery() as nursery:
        await subscriptions.open(nursery, join=ignore_topic, leave=ignore_topic)
        for _ in range(MAX_RUNNING + 5):
            subscriptions.deliver("t", A, b"x")
        assert counters["broadcasts dropped: too many at once"] == 5
        gate.set()


async def ignore_topic(_topic: str) -> None:
    return
