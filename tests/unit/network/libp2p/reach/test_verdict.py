"""From what others say to what we are."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

import dms.network.libp2p  # noqa: F401  first: a placeholder that the library needs
from dms.network.libp2p.reach.verdict import MAX_ANSWERS, VALID_S, Answer, Verdict, Verdicts
from dms.network.libp2p.reach.wording import why
from dms.network.reachability import Reach
from dms.types.ids import PeerID


def answer(peer: str, *, reached: bool, address: str = "/ip4/1.2.3.4/tcp/9", at_s: float = 0.0) -> Answer:
    return Answer(PeerID(peer), address, reached, at_s, "" if reached else "no answer")


def test_one_peer_is_enough_for_a_verdict_of_little_confidence() -> None:
    verdicts = Verdicts()
    assert verdicts.verdict(0) == Verdict(Reach.UNKNOWN, 0)
    verdicts.add(answer("a", reached=False))
    assert verdicts.verdict(0) == Verdict(Reach.PRIVATE, 1)
    verdicts.add(answer("b", reached=True))
    assert verdicts.verdict(0) == Verdict(Reach.UNKNOWN, 0)
    verdicts.add(answer("c", reached=True))
    assert verdicts.verdict(0) == Verdict(Reach.PUBLIC, 1)


def test_a_peer_that_reached_us_at_any_address_reached_us() -> None:
    verdicts = Verdicts()
    verdicts.add(answer("a", reached=False, address="/ip4/1.2.3.4/tcp/1"))
    verdicts.add(answer("a", reached=True, address="/ip4/1.2.3.4/tcp/2"))
    assert verdicts.verdict(0) == Verdict(Reach.PUBLIC, 1)
    assert verdicts.reached(0) == ("/ip4/1.2.3.4/tcp/2",)
    assert [check.why for check in verdicts.checks(0)] == ["no answer", ""]


def test_answers_grow_old() -> None:
    verdicts = Verdicts()
    verdicts.add(answer("a", reached=True))
    assert verdicts.verdict(VALID_S - 1).status is Reach.PUBLIC
    assert verdicts.verdict(VALID_S).status is Reach.UNKNOWN
    assert verdicts.checks(VALID_S) == ()


def test_their_number_is_bounded() -> None:
    verdicts = Verdicts()
    for number in range(2 * MAX_ANSWERS):
        verdicts.add(answer(f"peer{number}", reached=True))
    assert verdicts.verdict(0).confidence == MAX_ANSWERS
    verdicts.clear()
    assert verdicts.verdict(0).status is Reach.UNKNOWN


@given(st.lists(st.tuples(st.sampled_from("abcde"), st.booleans()), max_size=30))
def test_the_majority_of_the_last_words_decides(said: list[tuple[str, bool]]) -> None:
    verdicts = Verdicts()
    last: dict[str, bool] = {}
    for peer, reached in said:
        verdicts.add(answer(peer, reached=reached))
        last[peer] = reached
    difference = sum(1 if reached else -1 for reached in last.values())
    verdict = verdicts.verdict(0)
    assert verdict.confidence == abs(difference)
    assert (verdict.status is Reach.PUBLIC) == (difference > 0)
    assert (verdict.status is Reach.PRIVATE) == (difference < 0)


def test_the_reason_is_told() -> None:
    def said(
        verdict: Verdict, *, candidates: bool = True, servers: int = 1, relays: int = 0, local: bool = False
    ) -> str:
        return why(verdict, candidates=candidates, servers=servers, relays=relays, only_local=local)

    assert said(Verdict(Reach.PUBLIC, 1)) == "1 peer dialled this node and reached it"
    assert said(Verdict(Reach.PRIVATE, 3)) == "3 peers tried to dial this node and could not"
    assert said(Verdict(Reach.PRIVATE, 3), relays=2).endswith("others come through 2 relays")
    assert "this machine only" in said(Verdict(), local=True)
    assert "public address" in said(Verdict(), candidates=False)
    assert "no connected peer" in said(Verdict(), servers=0)
    assert "could tell" in said(Verdict())
