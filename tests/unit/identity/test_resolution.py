from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from dms.identity.errors import NoResolver, ResolutionFailed, UnresolvedDID
from dms.identity.ids import DID, did_of
from dms.identity.keys import KeyType, PrivateKey, PublicKey
from dms.identity.resolution import FAILURE_LIFETIME_S, KEY_LIFETIME_S, MAX_AT_ONCE, MAX_KEPT
from dms.identity.trust import MAX_UNRESOLVED, TrustContext

FIRST = PrivateKey(KeyType.ED25519, b"\x01" * 32).public
SECOND = PrivateKey(KeyType.SECP256K1, b"\x02" * 32).public
ALICE, BOB = DID(uri="did:prism:alice"), DID(uri="did:prism:bob")


class Directory:
    """A resolver that answers after ``delay_s`` with what is written in it."""

    def __init__(self, delay_s: float = 0.0, **keys: PublicKey) -> None:
        self.keys = {DID(uri=f"did:prism:{name}"): key for name, key in keys.items()}
        self.delay_s = delay_s
        self.asked: list[DID] = []
        self.under_way = self.most_under_way = 0

    async def fetch_key(self, did: DID) -> PublicKey:
        self.asked.append(did)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await trio.sleep(self.delay_s)
        finally:
            self.under_way -= 1
        if did not in self.keys:
            raise ResolutionFailed(f"nobody knows {did}")
        return self.keys[did]


def trust_with(directory: Directory) -> TrustContext:
    return TrustContext(resolver=directory, clock_s=trio.current_time)


async def refused(trust: TrustContext, did: DID, timeout_s: float = 5.0) -> str:
    with pytest.raises(UnresolvedDID) as caught:
        await trust.resolve(did, timeout_s=timeout_s)
    return caught.value.message


async def test_a_resolved_did_has_an_anchor(autojump_clock: MockClock) -> None:
    trust = trust_with(Directory(alice=FIRST))
    assert (await trust.resolve(ALICE)).public_key == FIRST
    assert trust.is_resolved(ALICE)
    assert trust.anchor(ALICE).public_key == FIRST


async def test_a_did_key_is_resolved_without_asking_anybody() -> None:
    directory = Directory()
    assert (await trust_with(directory).resolve(did_of(FIRST))).public_key == FIRST
    assert directory.asked == []


async def test_without_a_resolver_the_hint_names_the_setting() -> None:
    with pytest.raises(NoResolver) as caught:
        await TrustContext().resolve(ALICE)
    assert "identity.prism_resolver_url" in caught.value.hint


async def test_a_rotated_key_is_taken_up_although_the_old_one_was_in_use_all_the_time(
    autojump_clock: MockClock,
) -> None:
    directory = Directory(alice=FIRST)
    trust = trust_with(directory)
    await trust.resolve(ALICE)
    directory.keys[ALICE] = SECOND
    for _ in range(9):
        await trio.sleep(KEY_LIFETIME_S / 10)
        assert trust.anchor(ALICE).public_key == FIRST
    await trio.sleep(KEY_LIFETIME_S / 10)
    with pytest.raises(UnresolvedDID):
        trust.anchor(ALICE)
    assert (await trust.resolve(ALICE)).public_key == SECOND
    assert len(directory.asked) == 2


async def test_what_was_verified_with_a_key_is_not_remembered_longer_than_the_key(autojump_clock: MockClock) -> None:
    trust = trust_with(Directory(alice=FIRST))
    await trust.resolve(ALICE)
    trust.remember(b"digest")
    await trio.sleep(KEY_LIFETIME_S - 1)
    assert trust.remembers(b"digest")
    await trio.sleep(1)
    assert not trust.remembers(b"digest")
    trust.remember(b"digest")
    assert trust.remembers(b"digest")


async def test_one_did_is_asked_for_once_at_a_time(autojump_clock: MockClock) -> None:
    directory = Directory(1.0, alice=FIRST)
    trust = trust_with(directory)
    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(trust.resolve, ALICE)
    assert directory.asked == [ALICE]


async def test_a_cancelled_question_is_asked_again_by_those_who_wait_for_it(autojump_clock: MockClock) -> None:
    directory = Directory(1.0, alice=FIRST)
    trust = trust_with(directory)
    found: list[PublicKey] = []

    async def wait() -> None:
        found.append((await trust.resolve(ALICE)).public_key)

    async with trio.open_nursery() as nursery:
        first = await nursery.start(_cancellable, trust)
        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        first.cancel()
    assert found == [FIRST]
    assert directory.asked == [ALICE, ALICE]


async def test_a_failure_is_remembered_for_a_while(autojump_clock: MockClock) -> None:
    directory = Directory()
    trust = trust_with(directory)
    for _ in range(3):
        assert await refused(trust, ALICE) == "nobody knows did:prism:alice"
    assert len(directory.asked) == 1
    with pytest.raises(UnresolvedDID, match="nobody knows"):
        trust.anchor(ALICE)
    await trio.sleep(FAILURE_LIFETIME_S)
    directory.keys[ALICE] = FIRST
    assert (await trust.resolve(ALICE)).public_key == FIRST


async def test_a_slow_resolver_costs_no_more_than_the_time_limit(autojump_clock: MockClock) -> None:
    directory = Directory(100.0, alice=FIRST)
    trust = trust_with(directory)
    before = trio.current_time()
    assert "within 5 s" in await refused(trust, ALICE)
    assert trio.current_time() == before + 5
    await refused(trust, ALICE)
    assert trio.current_time() == before + 5


async def test_several_dids_are_resolved_side_by_side_and_one_failure_costs_the_others_nothing(
    autojump_clock: MockClock,
) -> None:
    directory = Directory(1.0, alice=FIRST)
    trust = trust_with(directory)
    before = trio.current_time()
    await trust.resolve_all([ALICE, BOB, ALICE, did_of(FIRST), DID()])
    assert trio.current_time() == before + 1
    assert trust.anchor(ALICE).public_key == FIRST
    assert not trust.is_resolved(BOB)


async def test_a_message_that_names_many_unresolved_dids_makes_nobody_ask() -> None:
    directory = Directory()
    with pytest.raises(UnresolvedDID, match=f"more than {MAX_UNRESOLVED}"):
        await trust_with(directory).resolve_all(DID(uri=f"did:prism:{n}") for n in range(MAX_UNRESOLVED + 1))
    assert directory.asked == []


async def test_the_dids_in_a_file_are_resolved_a_few_at_a_time(autojump_clock: MockClock) -> None:
    directory = Directory(1.0)
    directory.keys = {DID(uri=f"did:prism:{n}"): FIRST for n in range(10)}
    trust = trust_with(directory)
    text = b",".join(b'{"uri":"did:prism:%d"}' % (n % 10) for n in range(20)) + b'"did:key:z6Mk"'
    before = trio.current_time()
    await trust.resolve_mentioned(text)
    assert trio.current_time() == before + 3
    assert all(trust.is_resolved(did) for did in directory.keys)
    assert len(directory.asked) == 10


async def test_resolving_a_file_takes_a_bounded_time(autojump_clock: MockClock) -> None:
    trust = trust_with(Directory(4.0))
    before = trio.current_time()
    await trust.resolve_mentioned(b" ".join(b"did:prism:%d" % n for n in range(1000)))
    assert trio.current_time() == before + 20


async def test_a_flood_of_dids_is_asked_for_a_few_at_a_time_and_no_more_than_that_wait(
    autojump_clock: MockClock,
) -> None:
    directory = Directory(1.0)
    trust = trust_with(directory)
    messages: list[str] = []

    async def ask(number: int) -> None:
        messages.append(await refused(trust, DID(uri=f"did:prism:{number}"), timeout_s=2.5))

    async with trio.open_nursery() as nursery:
        for number in range(100):
            nursery.start_soon(ask, number)
    assert directory.most_under_way == MAX_AT_ONCE
    assert sum("too many others" in message for message in messages) == 100 - 64
    assert len(directory.asked) == 3 * MAX_AT_ONCE


async def test_what_is_kept_is_bounded(autojump_clock: MockClock) -> None:
    names = [f"n{n}" for n in range(MAX_KEPT + 1)]
    directory = Directory()
    directory.keys = {DID(uri=f"did:prism:{name}"): FIRST for name in names}
    trust = trust_with(directory)
    for name in names:
        await trust.resolve(DID(uri=f"did:prism:{name}"))
    kept = [trust.is_resolved(DID(uri=f"did:prism:{name}")) for name in names]
    assert kept == [False] + [True] * MAX_KEPT


async def _cancellable(trust: TrustContext, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
    with trio.CancelScope() as scope:
        task_status.started(scope)
        await trust.resolve(ALICE)
