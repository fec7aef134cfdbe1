"""Each part of a score by its effect: ``spec/network.md`` 4."""

from __future__ import annotations

import math

import pytest

from dms.network.gossip import ScoreParameters, Scores, TopicParameters
from dms.network.gossip.scores import crowd_of
from dms.types.ids import PeerID

A, B = PeerID("a"), PeerID("b")
TOPIC = "/nunet/hello"


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def make(parameters: ScoreParameters | None = None, app: float = 0.0) -> tuple[Scores, Clock]:
    clock = Clock()
    scores = Scores(parameters or ScoreParameters(), lambda _: app, clock)
    scores.add(A)
    return scores, clock


def test_time_in_the_mesh_counts_up_to_its_cap_and_not_outside() -> None:
    scores, clock = make()
    scores.grafted(A, TOPIC)
    assert scores.of(A) == 0
    clock.now_s = 2
    assert scores.of(A) == pytest.approx(0.00027)
    clock.now_s = 5000
    assert scores.of(A) == pytest.approx(0.00027)
    assert scores.all()[A].topics[TOPIC].mesh_s == 5000
    scores.pruned(A, TOPIC)
    assert scores.of(A) == 0


def test_one_rejected_message_takes_publishing_away_and_two_everything() -> None:
    scores, _ = make()
    scores.rejected(A, TOPIC)
    assert scores.of(A) == -1000
    scores.rejected(A, TOPIC)
    assert scores.of(A) == -4000 < scores.parameters.graylist_threshold


def test_a_rejected_message_is_forgiven_within_an_hour_and_not_before() -> None:
    scores, clock = make()
    scores.rejected(A, TOPIC)
    clock.now_s = 600
    assert -110 < scores.of(A) < -90, "after a sixth of the hour a tenth of the score is left: it is a square"
    clock.now_s = 3500
    assert scores.of(A) < 0
    clock.now_s = 3601
    assert scores.of(A) == 0


def test_topics_add_no_more_than_their_cap_and_take_away_without_limit() -> None:
    scores, clock = make(ScoreParameters(topic=TopicParameters(mesh_weight=7, mesh_cap=1)))
    scores.grafted(A, "one")
    clock.now_s = 2
    assert scores.of(A) == 7
    scores.grafted(A, "two")
    clock.now_s = 4
    assert scores.of(A) == 10
    for _ in range(5):
        scores.rejected(A, "one")
    assert scores.of(A) == 14 - 25_000


def test_what_the_node_thinks_counts_as_it_is_unless_it_is_no_number() -> None:
    assert make(app=5)[0].of(A) == 5
    assert make(app=math.nan)[0].of(A) == 0
    assert make(app=math.inf)[0].of(A) == 0
    assert make(ScoreParameters(app_weight=3), app=5)[0].all()[A].app_specific == 15


def test_a_few_breaches_are_free_and_many_are_not() -> None:
    scores, clock = make()
    scores.breached(A, 6)
    assert scores.of(A) == 0
    scores.breached(A, 2)
    assert scores.of(A) == -40
    clock.now_s = 3600
    assert scores.of(A) == 0


def test_a_crowd_at_one_address_of_the_internet_counts_against_all_of_it() -> None:
    scores, _ = make()
    crowd = [PeerID(f"p{n}") for n in range(32)]
    for number, peer in enumerate(crowd[:16]):
        scores.add(peer, "8.8.8.8")
        assert scores.of(peer) == 0, number
    scores.add(crowd[16], "8.8.8.8")
    assert scores.of(crowd[0]) == -10
    for peer in crowd[17:]:
        scores.add(peer, "8.8.8.8")
    assert scores.of(crowd[0]) < scores.parameters.graylist_threshold
    assert scores.of(A) == 0
    for peer in crowd[16:]:
        scores.remove(peer)
    assert scores.of(crowd[0]) == 0


@pytest.mark.parametrize(
    "ip", ["127.0.0.1", "::1", "10.0.0.7", "192.168.1.2", "172.17.0.1", "fe80::1", "100.64.0.1", ""]
)
def test_addresses_that_anybody_may_share_are_exempt(ip: str) -> None:
    scores, _ = make()
    for number in range(64):
        scores.add(PeerID(f"p{number}"), ip)
    assert scores.of(PeerID("p0")) == 0


def test_addresses_of_one_customer_count_as_one() -> None:
    assert (
        crowd_of("2a00:1450:4001:81b::1") == crowd_of("2a00:1450:4001:81b:ffff::2") != crowd_of("2a00:1450:4001:81c::1")
    )
    assert crowd_of("::ffff:8.8.8.8") == crowd_of("8.8.8.8") != crowd_of("8.8.4.4")


def test_whoever_moves_leaves_its_crowd() -> None:
    scores, _ = make()
    for number in range(17):
        scores.add(PeerID(f"p{number}"), "8.8.8.8")
    scores.add(PeerID("p0"), "9.9.9.9")
    assert scores.of(PeerID("p1")) == 0


def test_reconnecting_wipes_nothing_off_for_six_hours() -> None:
    scores, clock = make(ScoreParameters(topic=TopicParameters(invalid_decay_s=1e9)))
    scores.rejected(A, TOPIC)
    scores.remove(A)
    assert A not in scores.all()
    clock.now_s = 6 * 3600 - 1
    scores.add(A)
    assert scores.of(A) == pytest.approx(-1000, rel=0.01)
    scores.remove(A)
    clock.now_s += 6 * 3600 + 1
    scores.add(A)
    assert scores.of(A) == 0


def test_whoever_did_nothing_wrong_is_forgotten_at_once_and_the_others_are_bounded_in_number() -> None:
    scores, _ = make(ScoreParameters(max_retained=30))
    scores.remove(A)
    assert scores.retained == 0
    for number in range(40):
        peer = PeerID(f"p{number}")
        scores.add(peer)
        scores.rejected(peer, TOPIC)
        scores.remove(peer)
    assert scores.retained == 30
    scores.add(PeerID("p9"))
    assert scores.of(PeerID("p9")) == 0
    scores.add(PeerID("p10"))
    assert scores.of(PeerID("p10")) == -1000


def test_scores_shown_are_a_second_old_at_most() -> None:
    app = [1.0]
    clock = Clock()
    scores = Scores(ScoreParameters(), lambda _: app[0], clock)
    scores.add(A)
    assert scores.all()[A].total == 1
    app[0] = 5
    clock.now_s = 0.9
    assert scores.all()[A].total == 1
    clock.now_s = 1.0
    assert scores.all()[A].total == 5
    scores.add(B)
    assert scores.all().keys() == {A, B}


def test_the_parts_of_a_score_add_up() -> None:
    scores, clock = make(app=5)
    scores.grafted(A, TOPIC)
    scores.rejected(A, TOPIC)
    scores.breached(A, 8)
    clock.now_s = 3
    found = scores.all()[A]
    parts = found.app_specific + found.ip_colocation + found.behaviour + sum(t.score for t in found.topics.values())
    assert found.total == pytest.approx(parts)
    assert found.topics[TOPIC].invalid_messages == pytest.approx(1, abs=0.01)
