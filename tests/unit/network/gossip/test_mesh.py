"""The router, each rule and each number of it by its effect."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.network.gossip.lab import TOPIC, Lab, Node

from dms.network import Verdict
from dms.network.gossip import Message, Offer, Packet, Prune
from dms.types.ids import PeerID

STRANGER = PeerID("stranger")


def pair() -> tuple[Lab, Node, Node]:
    lab = Lab()
    a, b = lab.many(2)
    lab.connect(a, b)
    lab.settle()
    return lab, a, b


def star(count: int) -> tuple[Lab, Node, list[Node]]:
    """One node, dialled by others that do not know each other."""
    lab = Lab()
    centre, *others = lab.many(count + 1)
    for other in others:
        lab.connect(other, centre)
    lab.settle()
    return lab, centre, list(others)


def foreign(number: int, data: bytes = b"x") -> Message:
    return Message(b"s%d" % number, STRANGER, TOPIC, data)


# messages ------------------------------------------------------------------------------------------------------------


def test_own_messages_go_to_every_subscriber_that_we_know() -> None:
    lab, centre, others = star(20)
    assert len(centre.mesh.members[TOPIC]) <= 12
    centre.publish(b"x")
    lab.settle()
    assert [other.got for other in others] == [[b"x"]] * 20


def test_messages_of_others_go_to_the_mesh_alone_and_neither_back_nor_to_their_publisher() -> None:
    _lab, centre, others = star(20)
    relay, publisher = others[0], others[1]
    centre.mesh.members[TOPIC] |= {relay.name, publisher.name}
    answer = centre.hear(relay.name, Packet(messages=[Message(b"1", publisher.name, TOPIC, b"x")]))
    receivers = {peer for peer, packet in answer.items() if packet.messages}
    assert receivers == centre.mesh.members[TOPIC] - {relay.name, publisher.name}
    assert receivers


def test_who_publishes_need_not_subscribe_and_does_not_thereby() -> None:
    lab = Lab()
    a, b = lab.many(2, topic=None)
    b.mesh.join(TOPIC)
    lab.connect(a, b)
    a.publish(b"x")
    lab.settle()
    assert b.got == [b"x"]
    assert TOPIC not in a.mesh.members


def test_who_subscribes_a_moment_too_late_gets_what_we_published_before_and_only_once() -> None:
    lab = Lab()
    a, b = lab.many(2, topic=None)
    lab.connect(a, b)
    a.publish(b"early")
    lab.settle()
    for _ in range(3):
        b.mesh.join(TOPIC)
        lab.settle()
        b.mesh.leave(TOPIC)
        lab.settle()
    assert b.got == [b"early"]


def test_a_message_is_judged_and_delivered_once_however_often_it_comes() -> None:
    _lab, centre, others = star(3)
    for other in others * 2:
        centre.hear(other.name, Packet(messages=[foreign(1)]))
    assert centre.got == [b"x"]
    assert centre.judged == [b"s1"]


def test_our_own_message_coming_back_is_nothing_new() -> None:
    _, a, b = pair()
    message = a.publish(b"x")
    assert a.mesh.receive(b.name, Packet(messages=[message])) == []
    made_before_a_restart = Message(b"old", a.name, TOPIC, b"old")
    assert a.mesh.receive(b.name, Packet(messages=[made_before_a_restart])) == []
    assert a.scores.of(b.name) >= 0


def test_messages_of_topics_that_we_did_not_join_are_not_even_judged() -> None:
    _, a, b = pair()
    a.hear(b.name, Packet(messages=[Message(b"1", STRANGER, "/other", b"x")]))
    assert a.judged == a.got == []


# validators ----------------------------------------------------------------------------------------------------------


def test_an_ignored_message_goes_no_further_and_harms_nobody() -> None:
    _lab, centre, others = star(3)
    centre.verdicts[b"stale"] = Verdict.IGNORE
    answer = centre.hear(others[0].name, Packet(messages=[foreign(1, b"stale")]))
    centre.hear(others[1].name, Packet(messages=[foreign(1, b"stale")]))
    assert not any(packet.messages for packet in answer.values())
    assert centre.got == []
    assert centre.scores.of(others[0].name) >= 0


def test_a_rejected_message_is_held_against_everybody_who_relays_it_and_judged_once() -> None:
    _lab, centre, others = star(3)
    centre.verdicts[b"bad"] = Verdict.REJECT
    for other in others[:2]:
        answer = centre.hear(other.name, Packet(messages=[foreign(1, b"bad")]))
        assert not any(packet.messages for packet in answer.values())
        assert centre.scores.of(other.name) == pytest.approx(-1000, abs=1)
    assert centre.judged == [b"s1"]
    assert centre.scores.of(others[2].name) >= 0


def test_a_forged_message_does_not_keep_the_genuine_one_out() -> None:
    _, a, b = pair()
    a.forged.add(b"s1")
    a.hear(b.name, Packet(messages=[foreign(1, b"forged")]))
    assert a.scores.of(b.name) < 0
    a.forged.clear()
    a.hear(b.name, Packet(messages=[foreign(1, b"genuine")]))
    assert a.got == [b"genuine"]


def test_a_flooder_is_not_listened_to_until_it_is_forgiven() -> None:
    lab, centre, others = star(3)
    flooder, honest = others[0], others[1]
    centre.verdicts[b"bad"] = Verdict.REJECT
    for number in range(50):
        centre.hear(flooder.name, Packet(messages=[foreign(number, b"bad")]))
    assert len(centre.judged) <= 3
    assert centre.counters["gossip packets dropped: graylisted"] >= 47
    centre.hear(flooder.name, Packet(messages=[foreign(100)]))
    assert centre.got == []
    centre.hear(honest.name, Packet(messages=[foreign(100)]))
    assert centre.got == [b"x"]
    lab.beat()
    assert flooder.name not in centre.mesh.members[TOPIC]
    lab.now_s += 3700
    centre.hear(flooder.name, Packet(messages=[foreign(101)]))
    assert centre.got == [b"x", b"x"]


# thresholds ----------------------------------------------------------------------------------------------------------


def test_below_the_publish_threshold_a_peer_gets_none_of_our_messages() -> None:
    lab, a, b = pair()
    a.app[b.name] = -999
    lab.now_s += 2
    a.publish(b"one")
    a.app[b.name] = -1001
    lab.now_s += 2
    a.publish(b"two")
    lab.settle()
    assert b.got == [b"one"]


def test_below_the_gossip_threshold_a_peer_is_neither_told_nor_believed_nor_answered() -> None:
    lab, centre, others = star(20)
    outside = next(other for other in others if other.name not in centre.mesh.members[TOPIC])
    for score, told in ((-499.0, True), (-501.0, False)):
        centre.app[outside.name] = score
        lab.now_s += 2
        message = foreign(int(-score))
        centre.hear(others[0].name, Packet(messages=[message]))
        asked = centre.hear(outside.name, Packet(ihave={TOPIC: [b"new%d" % int(score)]}))
        given = centre.hear(outside.name, Packet(iwant=[message.id]))
        assert bool(asked) == told
        assert bool(given) == told
        centre.mesh.beat()
        gossiped = {peer for peer, packet in centre.mesh.drain() if packet.ihave}
        if not told:
            assert outside.name not in gossiped


def test_offers_are_taken_from_peers_of_good_standing_only() -> None:
    lab, a, b = pair()
    offers = tuple(Offer(PeerID(f"o{number}")) for number in range(20))
    a.app[b.name] = -0.1
    lab.now_s += 2
    a.hear(b.name, Packet(prune=[Prune(TOPIC, 60, offers)]))
    assert a.mesh.take_offers() == []
    a.app[b.name] = 0
    lab.now_s += 2
    a.hear(b.name, Packet(prune=[Prune(TOPIC, 60, offers)]))
    assert a.mesh.take_offers() == list(offers[:16])
    assert a.mesh.take_offers() == []


# the mesh ------------------------------------------------------------------------------------------------------------


def test_a_mesh_forms_without_waiting_for_a_heartbeat() -> None:
    _, a, b = pair()
    assert a.mesh.members[TOPIC] == {b.name}
    assert b.mesh.members[TOPIC] == {a.name}


def test_whoever_is_pruned_comes_back_after_its_backoff_and_not_before() -> None:
    lab, a, b = pair()
    a.hear(b.name, Packet(prune=[Prune(TOPIC, 20)]))
    b.mesh.members[TOPIC].clear()
    for _ in range(19):
        lab.now_s += 1
        a.mesh.beat()
        assert not any(packet.graft for _, packet in a.mesh.drain())
    lab.now_s += 1
    a.mesh.beat()
    assert dict(a.mesh.drain())[b.name].graft == [TOPIC]


def test_a_prune_that_names_no_backoff_means_a_minute_and_one_that_names_too_much_an_hour() -> None:
    lab, a, b = pair()
    for asked_s, holds_s in ((0.0, 60), (1e18, 3600)):
        a.hear(b.name, Packet(prune=[Prune(TOPIC, asked_s)]))
        assert a.mesh.members[TOPIC] == set()
        lab.now_s += holds_s - 1
        a.mesh.beat()
        assert not any(packet.graft for _, packet in a.mesh.drain())
        lab.now_s += 1
        a.mesh.beat()
        assert a.mesh.members[TOPIC] == {b.name}
        a.mesh.drain()


def test_who_grafts_during_its_backoff_is_pruned_again_and_pays_for_it_twice_when_at_once() -> None:
    lab, a, b = pair()
    a.hear(b.name, Packet(prune=[Prune(TOPIC, 60)]))
    answer = a.hear(b.name, Packet(graft=[TOPIC]))
    assert [prune.topic for prune in answer[b.name].prune] == [TOPIC]
    assert a.scores.all()[b.name].breaches == 2
    lab.now_s += 30
    a.hear(b.name, Packet(graft=[TOPIC]))
    assert a.scores.all()[b.name].breaches == pytest.approx(3, abs=0.2)
    for _ in range(20):
        a.hear(b.name, Packet(graft=[TOPIC]))
    assert a.scores.of(b.name) < a.scores.parameters.graylist_threshold


def test_a_graft_of_a_bad_peer_is_refused_without_offers() -> None:
    lab, centre, others = star(8)
    bad = others[0]
    centre.mesh.members[TOPIC].discard(bad.name)
    centre.app[bad.name] = -1
    lab.now_s += 2
    answer = centre.hear(bad.name, Packet(graft=[TOPIC]))
    assert answer[bad.name].prune[0].offers == ()
    assert bad.name not in centre.mesh.members[TOPIC]


def test_a_full_mesh_refuses_with_offers_whoever_dialled_us_and_takes_whom_we_dialled() -> None:
    lab, centre, others = star(14)
    lab.now_s += 61
    centre.mesh.members[TOPIC] = {other.name for other in others[:12]}
    answer = centre.hear(others[12].name, Packet(graft=[TOPIC]))
    assert len(answer[others[12].name].prune[0].offers) == 13
    dialled = lab.node("dialled")
    dialled.mesh.join(TOPIC)
    lab.connect(centre, dialled)
    centre.hear(dialled.name, Packet(graft=[TOPIC]))
    assert dialled.name in centre.mesh.members[TOPIC]


def test_grafts_of_topics_that_we_did_not_join_are_not_answered() -> None:
    _, a, b = pair()
    assert a.hear(b.name, Packet(graft=["/secret"])) == {}


def test_leaving_a_topic_tells_the_mesh_and_keeps_it_away_for_ten_seconds() -> None:
    lab, a, b = pair()
    a.mesh.leave(TOPIC)
    packet = dict(a.mesh.drain())[b.name]
    assert packet.subscriptions == [(TOPIC, False)]
    assert packet.prune == [Prune(TOPIC, 10)]
    b.hear(a.name, packet)
    assert b.mesh.members[TOPIC] == set()
    a.mesh.join(TOPIC)
    assert a.mesh.members[TOPIC] == set()
    a.mesh.drain()
    lab.now_s += 10
    a.mesh.beat()
    assert a.mesh.members[TOPIC] == {b.name}


def test_a_mediocre_mesh_looks_for_better_peers_once_a_minute() -> None:
    lab, centre, others = star(20)
    lab.beat(2)
    mesh = set(centre.mesh.members[TOPIC])
    assert len(mesh) <= 12
    for other in others:
        centre.app[other.name] = 1.0 if other.name in mesh else 5.0
    lab.beat(56)
    assert centre.mesh.members[TOPIC] == mesh
    lab.beat(4)
    assert len(centre.mesh.members[TOPIC] - mesh) == 2


def test_a_mesh_whose_peers_vanish_is_mended_and_misses_nothing_meanwhile() -> None:
    lab, centre, others = star(20)
    for name in sorted(centre.mesh.members[TOPIC]):
        lab.disconnect(lab.nodes[name], centre)
    left = [other for other in others if centre.mesh.topics_of(other.name)]
    assert len(left) == 8
    lab.beat()
    assert centre.mesh.members[TOPIC] == set(), "those that were refused may not be asked before a minute is over"
    centre.publish(b"out")
    lab.settle()
    assert [other.got for other in left] == [[b"out"]] * 8
    centre.hear(left[0].name, Packet(messages=[foreign(1, b"passed on")]))
    lab.beat(2)
    assert [other.got for other in left[1:]] == [[b"out", b"passed on"]] * 7
    lab.beat(60)
    assert len(centre.mesh.members[TOPIC]) >= 5


def test_who_floods_us_with_connections_does_not_fill_our_mesh() -> None:
    lab, centre, others = star(40)
    chosen = lab.node("chosen"), lab.node("other")
    lab.beat(2)
    assert len(centre.mesh.members[TOPIC]) == 12
    for one in chosen:
        one.mesh.join(TOPIC)
        lab.connect(centre, one)
    lab.settle()
    lab.beat(2)
    assert {one.name for one in chosen} <= centre.mesh.members[TOPIC]
    assert any(other.name in centre.mesh.members[TOPIC] for other in others)


# gossip --------------------------------------------------------------------------------------------------------------


def test_a_message_that_was_lost_in_the_mesh_comes_by_gossip() -> None:
    lab = Lab()
    nodes = lab.many(20)
    for number, node in enumerate(nodes):
        for other in nodes[:number]:
            lab.connect(node, other)
    lab.beat(3)
    unlucky = nodes[7]
    lab.loses = lambda _a, b, packet: b == unlucky.name and bool(packet.messages)
    nodes[0].publish(b"x")
    lab.settle()
    assert unlucky.got == []
    lab.loses = lambda _a, _b, _packet: False
    lab.beat(3)
    assert unlucky.got == [b"x"]


def test_who_announces_what_it_does_not_have_pays_for_it() -> None:
    lab, a, b = pair()
    asked = a.hear(b.name, Packet(ihave={TOPIC: [b"1", b"2"]}))
    assert asked[b.name].iwant == [b"1", b"2"]
    lab.now_s += 2
    a.mesh.beat()
    assert a.scores.all()[b.name].breaches == 0
    lab.now_s += 2
    a.mesh.beat()
    assert a.scores.all()[b.name].breaches == 1
    assert a.counters["gossip promises broken"] == 1


def test_who_keeps_its_promise_pays_nothing() -> None:
    lab, a, b = pair()
    a.hear(b.name, Packet(ihave={TOPIC: [b"s1"]}))
    a.hear(b.name, Packet(messages=[foreign(1)]))
    lab.now_s += 10
    a.mesh.beat()
    assert a.scores.all()[b.name].breaches == 0


def test_announcements_are_believed_in_bounded_numbers_and_for_our_topics_only() -> None:
    lab, a, b = pair()
    assert a.hear(b.name, Packet(ihave={"/other": [b"1"]})) == {}
    wanted = [b"%d" % number for number in range(6000)]
    assert len(a.hear(b.name, Packet(ihave={TOPIC: wanted}))[b.name].iwant) == 5000
    assert a.hear(b.name, Packet(ihave={TOPIC: [b"more"]})) == {}
    lab.now_s += 1
    a.mesh.beat()
    for number in range(10):
        assert a.hear(b.name, Packet(ihave={TOPIC: [b"n%d" % number]}))
    assert a.hear(b.name, Packet(ihave={TOPIC: [b"last"]})) == {}


def test_a_large_message_is_not_sent_to_who_has_it_and_a_small_one_is_not_worth_a_word() -> None:
    lab, centre, others = star(8)
    member = next(lab.nodes[name] for name in sorted(centre.mesh.members[TOPIC]) if name != others[0].name)
    large = Message(b"large", STRANGER, TOPIC, bytes(1024))
    centre.hear(member.name, Packet(idontwant=[b"large"]))
    answer = centre.hear(others[0].name, Packet(messages=[large]))
    assert answer[member.name].messages == []
    assert answer[member.name].idontwant == [b"large"]
    answer = centre.hear(others[0].name, Packet(messages=[foreign(1)]))
    assert answer[member.name].messages
    assert answer[member.name].idontwant == []
    for _ in range(3):
        centre.mesh.beat()
    centre.mesh.drain()
    again = Message(b"large2", STRANGER, TOPIC, bytes(1024))
    centre.hear(member.name, Packet(idontwant=[b"large2"]))
    for _ in range(3):
        centre.mesh.beat()
    centre.mesh.drain()
    answer = centre.hear(others[0].name, Packet(messages=[again]))
    assert answer[member.name].messages, "what was said three heartbeats ago is forgotten"


def test_a_peer_cannot_fill_our_memory_with_topics() -> None:
    _, a, b = pair()
    for number in range(300):
        a.hear(b.name, Packet(subscriptions=[(f"t{number}", True), ("x" * 257, True), ("", True)]))
    assert len(a.mesh.topics_of(b.name)) == 128
    assert not any(len(topic) > 256 or not topic for topic in a.mesh.topics_of(b.name))


# networks ------------------------------------------------------------------------------------------------------------


def copies(lab: Lab, publisher: Node) -> int:
    lab.sent.clear()
    publisher.publish(b"x")
    lab.settle()
    return lab.sent["messages"]


def test_in_a_network_everybody_gets_a_message_once_for_a_few_copies_each() -> None:
    lab = Lab()
    nodes = lab.many(60)
    for node in nodes:
        for other in lab.rng.sample([one for one in nodes if one is not node], 10):
            lab.connect(node, other)
    lab.beat(10)
    degrees = [len(node.mesh.members[TOPIC]) for node in nodes]
    assert min(degrees) >= 5
    assert max(degrees) <= 12
    sent = copies(lab, nodes[0])
    assert [node.got for node in nodes[1:]] == [[b"x"]] * 59
    assert sent < 12 * 60, "a flood over twenty connections each would need more than a thousand"


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_nothing_that_a_peer_says_makes_a_router_fail_or_grow_without_bounds(data: st.DataObject) -> None:
    lab, centre, others = star(4)
    topics = st.sampled_from([TOPIC, "/other", ""])
    ids = st.binary(max_size=4)
    packets = st.builds(
        Packet,
        subscriptions=st.lists(st.tuples(topics, st.booleans()), max_size=4),
        messages=st.lists(
            st.builds(Message, ids, st.sampled_from([centre.name, others[1].name, STRANGER]), topics, ids), max_size=3
        ),
        ihave=st.dictionaries(topics, st.lists(ids, max_size=4), max_size=2),
        iwant=st.lists(ids, max_size=4),
        idontwant=st.lists(ids, max_size=4),
        graft=st.lists(topics, max_size=3),
        prune=st.lists(st.builds(Prune, topics, st.sampled_from([0.0, 1.0, 1e30])), max_size=3),
    )
    steps = st.one_of(st.just("beat"), st.just("leave"), st.just("join"), st.tuples(st.integers(0, 4), packets))
    for step in data.draw(st.lists(steps, max_size=25)):
        if step == "beat":
            lab.now_s += 1
            centre.mesh.beat()
        elif step == "leave":
            centre.mesh.leave(TOPIC)
        elif step == "join":
            centre.mesh.join(TOPIC)
        elif isinstance(step, tuple):
            number, packet = step
            centre.hear(others[number].name if number < 4 else STRANGER, packet)
        peers = {other.name for other in others}
        assert all(members <= peers for members in centre.mesh.members.values())
        assert all(peer in peers for peer, _ in centre.mesh.drain())
    assert max(Counter(centre.judged).values(), default=0) <= 1
