from __future__ import annotations

from dms.network import Verdict
from dms.network.gossip import Message
from dms.network.gossip.backoffs import Backoffs
from dms.network.gossip.caches import History, Seen
from dms.types.ids import PeerID

A, B = PeerID("a"), PeerID("b")


def message(number: int, topic: str = "t") -> Message:
    return Message(b"%d" % number, A, topic, b"data")


def test_a_message_is_known_for_its_time_and_not_longer() -> None:
    now_s = [0.0]
    seen = Seen(lambda: now_s[0], ttl_s=120, limit=10)
    seen.add(b"1", Verdict.REJECT)
    seen.add(b"1", Verdict.ACCEPT)
    assert seen.get(b"1") is Verdict.REJECT
    now_s[0] = 119.9
    assert seen.get(b"1") is Verdict.REJECT
    now_s[0] = 120
    assert seen.get(b"1") is None
    seen.add(b"1", Verdict.ACCEPT)
    assert seen.get(b"1") is Verdict.ACCEPT


def test_the_memory_of_messages_is_bounded() -> None:
    seen = Seen(lambda: 0.0, ttl_s=120, limit=3)
    for number in range(10):
        seen.add(b"%d" % number, Verdict.ACCEPT)
    assert len(seen) == 3
    assert seen.get(b"9") is Verdict.ACCEPT
    assert seen.get(b"6") is None


def test_messages_are_told_of_for_some_beats_and_kept_a_little_longer() -> None:
    history = History(beats=5, gossip_beats=3, max_transmissions=3)
    history.put(message(1), is_own=False)
    for beat in range(5):
        assert (history.gossip() == {"t": [b"1"]}) == (beat < 3)
        assert history.ask(b"1", PeerID(f"p{beat}")) is not None
        history.shift()
    assert history.ask(b"1", B) is None


def test_nobody_gets_one_message_more_often_than_allowed() -> None:
    history = History(beats=5, gossip_beats=3, max_transmissions=3)
    history.put(message(1), is_own=False)
    assert [history.ask(b"1", B) is not None for _ in range(4)] == [True, True, True, False]
    assert history.ask(b"1", A) is not None


def test_a_newcomer_gets_our_own_messages_of_its_topic_once() -> None:
    history = History(beats=5, gossip_beats=3, max_transmissions=3)
    history.put(message(1), is_own=True)
    history.put(message(2), is_own=False)
    history.put(message(3, "other"), is_own=True)
    history.put(message(4), is_own=True)
    history.note_sent(b"4", B)
    assert [one.id for one in history.own("t", B)] == [b"1"]
    assert history.own("t", B) == []


def test_a_backoff_lasts_its_time_and_a_shorter_one_does_not_end_it() -> None:
    now_s = [0.0]
    backoffs = Backoffs(lambda: now_s[0])
    backoffs.add("t", A, 60)
    now_s[0] = 30
    backoffs.add("t", A, 10)
    assert backoffs.age_s("t", A) == 0
    now_s[0] = 59
    assert backoffs.has("t", A)
    assert not backoffs.has("t", B)
    assert not backoffs.has("u", A)
    now_s[0] = 60
    assert not backoffs.has("t", A)
    backoffs.sweep()
    assert len(backoffs) == 0
