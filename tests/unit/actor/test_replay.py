"""The replay window: whatever the clocks do and however much comes, nothing is let in twice."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from dms.actor.errors import MessageExpired, RateLimited, Replayed
from dms.actor.replay import SLOT_NS, ReplayWindow
from dms.identity.ids import DID, ActorID
from dms.types.errors import DMSError

S = 10**9
START = 1_700_000_000 * S
ALICE, BOB = ActorID(pub="A" * 64), ActorID(pub="B" * 64)
OWNER, OTHER = DID(uri="did:key:zOwner"), DID(uri="did:key:zOther")


class Clocks:
    """A wall clock that can be set, and one that cannot."""

    def __init__(self) -> None:
        self.now_ns, self.elapsed_ns = START, 0

    def wait(self, seconds: float) -> None:
        self.now_ns += int(seconds * S)
        self.elapsed_ns += int(seconds * S)

    def admit(
        self,
        window: ReplayWindow,
        nonce: int,
        expiry_ns: int,
        *,
        sender: ActorID = ALICE,
        owner: DID | None = OWNER,
        is_answer: bool = False,
    ) -> None:
        name = window.check(sender, nonce)
        window.admit(name, owner, expiry_ns, now_ns=self.now_ns, elapsed_ns=self.elapsed_ns, is_answer=is_answer)


def test_a_pair_counts_once_until_it_has_expired() -> None:
    window, clocks = ReplayWindow(), Clocks()
    clocks.admit(window, 1, START + 30 * S)
    with pytest.raises(Replayed):
        clocks.admit(window, 1, START + 30 * S)
    clocks.admit(window, 2, START + 30 * S)
    clocks.admit(window, 1, START + 30 * S, sender=BOB)
    assert len(window) == 3
    clocks.wait(30 + 2 * SLOT_NS / S)
    clocks.admit(window, 3, clocks.now_ns + 30 * S)
    assert len(window) == 1


def test_the_look_before_and_the_note_after_see_the_same() -> None:
    window, clocks = ReplayWindow(), Clocks()
    first, second = window.check(ALICE, 1), window.check(ALICE, 1)
    window.admit(first, OWNER, START + S, now_ns=START, elapsed_ns=0)
    with pytest.raises(Replayed):
        window.admit(second, OWNER, START + S, now_ns=START, elapsed_ns=0)
    with pytest.raises(Replayed):
        window.check(ALICE, 1)
    assert clocks.now_ns == START


def test_when_it_is_full_new_messages_are_refused_and_nothing_is_forgotten() -> None:
    window, clocks = ReplayWindow(12), Clocks()
    admitted = 4  # then its own are half of what is free
    for nonce in range(admitted):
        clocks.admit(window, nonce, START + 30 * S)
    with pytest.raises(RateLimited, match="remembered"):
        clocks.admit(window, 100, START + 30 * S)
    clocks.admit(window, 1000, START + 30 * S, owner=OTHER)
    for nonce in range(admitted):
        with pytest.raises(Replayed):
            clocks.admit(window, nonce, START + 30 * S)
    clocks.wait(60)
    clocks.admit(window, 101, clocks.now_ns + 30 * S)


def test_many_keys_of_one_identity_share_its_room() -> None:
    window, clocks = ReplayWindow(9), Clocks()
    senders = [ActorID(pub=str(n)) for n in range(4)]
    for sender in senders[:3]:
        clocks.admit(window, 1, START + S, sender=sender)
    with pytest.raises(RateLimited):
        clocks.admit(window, 1, START + S, sender=senders[3])


def test_a_jump_of_the_clock_ahead_and_back_lets_nothing_in_again() -> None:
    window, clocks = ReplayWindow(), Clocks()
    clocks.admit(window, 1, START + 300 * S)
    clocks.now_ns += 3600 * S
    clocks.admit(window, 2, clocks.now_ns + 30 * S)
    clocks.now_ns -= 3600 * S
    with pytest.raises(Replayed):
        clocks.admit(window, 1, START + 300 * S)


def test_a_clock_set_back_does_not_revive_what_was_forgotten() -> None:
    window, clocks = ReplayWindow(), Clocks()
    clocks.admit(window, 1, START + 30 * S)
    clocks.wait(600)
    clocks.admit(window, 2, clocks.now_ns + 30 * S)
    assert len(window) == 1
    clocks.now_ns -= 3600 * S
    with pytest.raises(MessageExpired, match="set back"):
        clocks.admit(window, 1, START + 30 * S)
    clocks.admit(window, 3, START + 700 * S)


def test_a_clock_set_right_after_the_start_does_not_make_the_node_deaf() -> None:
    """Its own users talked to it while it was an hour ahead; others did not, as their messages had expired."""
    window, clocks = ReplayWindow(), Clocks()
    clocks.now_ns += 3600 * S
    clocks.admit(window, 1, clocks.now_ns + 30 * S, owner=None)
    clocks.wait(300)
    clocks.admit(window, 2, clocks.now_ns + 30 * S, owner=None)
    clocks.now_ns -= 3600 * S
    clocks.admit(window, 3, clocks.now_ns + 30 * S)


def test_answers_expire_when_our_clock_said_so_and_leave_no_mark_behind() -> None:
    window, clocks = ReplayWindow(), Clocks()
    clocks.now_ns += 3600 * S
    clocks.admit(window, 1, clocks.now_ns + 30 * S, is_answer=True)
    clocks.wait(300)
    clocks.admit(window, 2, clocks.now_ns + 30 * S, is_answer=True)
    with pytest.raises(Replayed):
        clocks.admit(window, 2, clocks.now_ns + 30 * S)
    assert len(window) == 1
    clocks.now_ns -= 3600 * S
    after = ReplayWindow(key=b"k" * 16)
    after.restore(window.entries(), clocks.now_ns + 7200 * S, 5)
    for each in (window, after):
        clocks.admit(each, 3, clocks.now_ns + 30 * S)


def test_another_life_takes_up_what_was_remembered() -> None:
    window, clocks = ReplayWindow(key=b"k" * 16), Clocks()
    clocks.admit(window, 1, START + 30 * S)
    clocks.wait(600)
    clocks.admit(window, 2, clocks.now_ns + 30 * S)
    after = ReplayWindow(key=b"k" * 16)
    after.restore(window.entries(), clocks.now_ns, 5)
    clocks.elapsed_ns = 5
    with pytest.raises(Replayed):
        clocks.admit(after, 2, clocks.now_ns + 30 * S)
    clocks.now_ns -= 3600 * S
    with pytest.raises(MessageExpired):
        clocks.admit(after, 1, START + 30 * S)


class Machine(RuleBasedStateMachine):
    """Against a model that remembers everything for ever."""

    def __init__(self) -> None:
        super().__init__()
        self.window, self.clocks = ReplayWindow(16), Clocks()
        self.handled: set[tuple[str, int]] = set()
        self.told: list[tuple[ActorID, DID, int, int]] = []

    def _send(self, sender: ActorID, owner: DID, nonce: int, expiry_ns: int) -> None:
        if expiry_ns < self.clocks.now_ns:
            return  # refused before it comes here
        try:
            self.clocks.admit(self.window, nonce, expiry_ns, sender=sender, owner=owner)
        except DMSError:
            return
        assert (sender.pub, nonce) not in self.handled, "handled twice"
        self.handled.add((sender.pub, nonce))
        self.told.append((sender, owner, nonce, expiry_ns))

    @rule(sender=st.sampled_from([ALICE, BOB]), owner=st.sampled_from([OWNER, OTHER]), life_s=st.integers(0, 100))
    def new(self, sender: ActorID, owner: DID, life_s: int) -> None:
        self._send(sender, owner, len(self.told) + 1, self.clocks.now_ns + life_s * S)

    @precondition(lambda self: self.told)
    @rule(data=st.data())
    def replay(self, data: st.DataObject) -> None:
        self._send(*data.draw(st.sampled_from(self.told)))

    @rule(seconds=st.integers(0, 120))
    def wait(self, seconds: int) -> None:
        self.clocks.wait(seconds)

    @rule(seconds=st.integers(-200, 200))
    def set_clock(self, seconds: int) -> None:
        self.clocks.now_ns += seconds * S

    @rule()
    def restart(self) -> None:
        entries = list(self.window.entries())
        self.window = ReplayWindow(16, key=self.window._key)
        self.clocks.elapsed_ns = 0
        self.window.restore(entries, self.clocks.now_ns, 0)

    @invariant()
    def is_bounded(self) -> None:
        assert len(self.window) <= 16


TestAgainstAModel = Machine.TestCase
TestAgainstAModel.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)


@given(st.lists(st.integers(0, 50), max_size=60))
def test_a_message_is_never_admitted_twice_in_time(gaps_s: list[int]) -> None:
    window, clocks = ReplayWindow(), Clocks()
    for nonce, gap_s in enumerate(gaps_s):
        expiry_ns = clocks.now_ns + 30 * S
        clocks.admit(window, nonce, expiry_ns)
        clocks.wait(min(gap_s, 29))
        with pytest.raises(Replayed):
            clocks.admit(window, nonce, expiry_ns)
        clocks.wait(max(0, gap_s - 29))
