"""Nobody speaks as somebody else: not with their id, not with their DID, not with their tokens, not from their host."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from tests.adversary.attacker import HOUR_NS, Json, Person, token_list, write_json
from tests.adversary.scene import Scene, Target, Wire
from trio.testing import MockClock

NOTE = "/public/note"


async def test_an_honest_message_made_by_hand_does_arrive(
    autojump_clock: MockClock, scene: Scene, victim: Target, mallory: Wire
) -> None:
    """What all tests of this folder rest on: without the attack, the same bytes are handled."""
    for behaviour in (NOTE, "/public/ping", "/dms/deployment/request"):
        await mallory.send(victim, mallory.person.sign(scene.request(mallory.person, victim.handle, behaviour)))
    assert [behaviour for behaviour, _, _ in victim.handled] == [NOTE, "/public/ping", "/dms/deployment/request"]
    assert {did for _, did, _ in victim.handled} == {mallory.person.did}


async def test_a_message_with_the_id_of_another_must_not_pass_without_their_key(
    autojump_clock: MockClock, scene: Scene, victim: Target, mallory: Wire
) -> None:
    alice = Person("alice")
    for host in (alice.peer, mallory.person.peer):
        message = scene.request(alice, victim.handle, sender=alice.handle(host=host))
        await mallory.send(victim, mallory.person.sign(message))
        await mallory.send(victim, write_json(message))
        await mallory.send(victim, write_json(message | {"sig": b""}))
        await mallory.send(victim, write_json(message | {"sig": b"\0" * 64}))
    assert victim.handled == []


async def test_a_message_must_not_come_from_a_host_that_it_does_not_name(
    autojump_clock: MockClock, scene: Scene, victim: Target, mallory: Wire
) -> None:
    for host in (Person("alice").peer, victim.person.peer, "", "nobody"):
        sender = mallory.person.handle(host=host)
        await mallory.send(victim, mallory.person.sign(scene.request(mallory.person, victim.handle, sender=sender)))
    assert victim.handled == []


async def test_a_member_must_not_claim_the_did_of_another(
    autojump_clock: MockClock, scene: Scene, victim: Target, mallory: Wire
) -> None:
    for did in (Person("alice").did, scene.user.did, scene.organisation.did, victim.person.did, "", "did:key:z", "x"):
        sender = mallory.person.handle(did=did)
        await mallory.send(victim, mallory.person.sign(scene.request(mallory.person, victim.handle, sender=sender)))
        claimed = mallory.person.token("invoke", mallory.person.did, [NOTE], exp=scene.exp(), issuer=did)
        message = scene.request(mallory.person, victim.handle, sender=sender, tokens=[claimed])
        await mallory.send(victim, mallory.person.sign(message))
    assert [did for _, did, _ in victim.handled if did != mallory.person.did] == []


async def test_an_issuer_in_the_middle_of_the_chain_must_not_be_claimed_as_the_sender(
    autojump_clock: MockClock, scene: Scene, victim: Target, mallory: Wire
) -> None:
    """Alice passed her membership on; that does not make the message hers."""
    alice = Person("alice")
    passed_on = alice.token("delegate", mallory.person.did, [NOTE], exp=scene.exp(), chain=scene.membership(alice))
    tokens = [mallory.person.token("invoke", mallory.person.did, [NOTE], exp=scene.exp(), chain=passed_on)]
    honest = scene.request(mallory.person, victim.handle, tokens=tokens)
    await mallory.send(victim, mallory.person.sign(honest))
    assert [did for _, did, _ in victim.handled] == [mallory.person.did]
    for did in (alice.did, scene.organisation.did):
        forged = scene.request(mallory.person, victim.handle, tokens=tokens, sender=mallory.person.handle(did=did))
        await mallory.send(victim, mallory.person.sign(forged))
    assert len(victim.handled) == 1


async def test_the_tokens_of_another_must_not_work_with_the_thiefs_key(
    autojump_clock: MockClock, scene: Scene, victim: Target, alice: Wire, mallory: Wire
) -> None:
    """Captured from a message that Alice sent to the thief, or read over her shoulder: both name her key."""
    to_thief = scene.request(alice.person, mallory.person.handle(), NOTE)
    await alice.network.send(mallory.person.peer, "actor/root/messages/0.0.1", alice.person.sign(to_thief))
    to_victim = scene.invocation(alice.person, NOTE, aud=victim.person.did)
    for stolen in (to_thief["cap"], token_list([to_victim]), token_list([to_victim["dms"]["chain"]])):
        for did in (mallory.person.did, alice.person.did):
            sender = mallory.person.handle(did=did)
            message = scene.request(mallory.person, victim.handle, tokens=stolen, sender=sender)
            await mallory.send(victim, mallory.person.sign(message))
    assert victim.handled == []
    own = scene.request(alice.person, victim.handle, tokens=[to_victim])
    await alice.send(victim, alice.person.sign(own))
    assert [did for _, did, _ in victim.handled] == [alice.person.did]


async def test_a_membership_of_another_must_not_be_built_upon(
    autojump_clock: MockClock, scene: Scene, victim: Target, mallory: Wire
) -> None:
    """The chain is public; only its subject can lengthen it."""
    alice = Person("alice")
    theirs = scene.membership(alice)
    exp = scene.exp()
    forgeries = [
        mallory.person.token("invoke", mallory.person.did, [NOTE], exp=exp, chain=theirs),
        mallory.person.token("invoke", mallory.person.did, [NOTE], exp=exp, chain=theirs, issuer=alice.did),
        alice.token("invoke", mallory.person.did, [NOTE], exp=exp, chain=theirs, signer=mallory.person),
    ]
    for forged in forgeries:
        await mallory.send(victim, mallory.person.sign(scene.request(mallory.person, victim.handle, tokens=[forged])))
    assert victim.handled == []


async def test_a_grant_that_the_node_seems_to_have_made_itself_must_not_be_believed(
    autojump_clock: MockClock, scene: Scene, victim: Target, mallory: Wire
) -> None:
    exp = scene.exp()
    thief = mallory.person
    for issuer in (victim.person.did, scene.user.did, scene.organisation.did):
        grant = thief.token("delegate", thief.did, ["/"], exp=exp, issuer=issuer)
        for tokens in (
            [thief.token("invoke", thief.did, ["/"], exp=exp, issuer=issuer)],
            [thief.token("invoke", thief.did, ["/"], exp=exp, chain=grant)],
        ):
            for behaviour in (NOTE, "/dms/node/secret"):
                message = scene.request(thief, victim.handle, behaviour, tokens=tokens)
                await mallory.send(victim, thief.sign(message))
    assert victim.handled == []


async def test_a_token_signed_for_oneself_must_not_open_anything(
    autojump_clock: MockClock, scene: Scene, victim: Target
) -> None:
    async with scene.wire("stranger") as stranger:
        person = stranger.person
        for act in ("invoke", "delegate", "broadcast", "revoke", "", "INVOKE"):
            own = person.token(act, person.did, ["/"], exp=scene.exp())
            await stranger.send(victim, person.sign(scene.request(person, victim.handle, tokens=[own])))
        await stranger.send(victim, person.sign(scene.request(person, victim.handle, tokens=[])))
        await stranger.send(victim, person.sign(scene.request(person, victim.handle, tokens=b"")))
    assert victim.handled == []


def _flip(data: bytes) -> bytes:
    return bytes([data[0] ^ 1]) + data[1:]


CHANGES: dict[str, Any] = {
    "payload": lambda m: m | {"msg": b'{"changed":1}'},
    "behaviour": lambda m: m | {"be": "/public/ping"},
    "nonce": lambda m: m | {"nonce": m["nonce"] + 1},
    "expiry": lambda m: m | {"opt": m["opt"] | {"exp": m["opt"]["exp"] + 1}},
    "reply": lambda m: m | {"opt": m["opt"] | {"cont": "/public/ping"}},
    "inbox": lambda m: m | {"from": m["from"] | {"addr": m["from"]["addr"] | {"inbox": "other"}}},
    "no tokens": lambda m: {k: v for k, v in m.items() if k != "cap"},
}


@pytest.mark.parametrize("change", CHANGES)
async def test_a_message_must_not_be_changed_on_its_way(
    autojump_clock: MockClock, scene: Scene, victim: Target, mallory: Wire, change: str
) -> None:
    message = scene.request(mallory.person, victim.handle, payload={"a": 1})
    signature = mallory.person.signature(message)
    changed: Json = CHANGES[change](message)
    assert changed != message
    await mallory.send(victim, write_json(changed | {"sig": signature}))
    await mallory.send(victim, write_json(message | {"sig": _flip(signature)}))
    await mallory.send(victim, write_json(message | {"sig": signature[:-1]}))
    await mallory.send(victim, write_json(message | {"sig": signature + b"\0"}))
    assert victim.handled == []
    await mallory.send(victim, write_json(message | {"sig": signature}))
    assert len(victim.handled) == 1


async def test_the_order_of_the_curve_added_to_a_signature_must_not_make_a_second_one(
    autojump_clock: MockClock, scene: Scene, victim: Target, mallory: Wire
) -> None:
    """Ed25519 signatures with s + L are equal in mathematics; a receiver that takes both takes one message twice."""
    message = scene.request(mallory.person, victim.handle)
    signature = mallory.person.signature(message)
    order = 2**252 + 27742317777372353535851937790883648493
    s = int.from_bytes(signature[32:], "little") + order
    await mallory.send(victim, write_json(message | {"sig": signature[:32] + s.to_bytes(32, "little")}))
    assert victim.handled == []


async def test_keys_of_small_order_must_not_sign_for_everybody(
    autojump_clock: MockClock, scene: Scene, victim: Target, mallory: Wire
) -> None:
    """With the neutral element as public key a signature of zeros fits every message."""
    for point in (b"\x01" + b"\0" * 31, b"\0" * 32, b"\xec" + b"\xff" * 30 + b"\x7f"):
        id_ = base64.b32encode(b"\x08\x01\x12\x20" + point).decode()
        for signature in (b"\x01" + b"\0" * 63, b"\0" * 64, point + b"\0" * 32):
            sender = mallory.person.handle(id=id_)
            message = scene.request(mallory.person, victim.handle, sender=sender)
            await mallory.send(victim, write_json(message | {"sig": signature}))
    assert victim.handled == []


async def test_a_token_must_not_be_changed_anywhere_in_its_chain(
    autojump_clock: MockClock, scene: Scene, victim: Target, mallory: Wire
) -> None:
    thief = mallory.person
    weak = scene.membership(thief, caps=("/broadcast",), exp=scene.clock() + HOUR_NS)
    changes: list[Json] = [
        {"cap": ["/"]},
        {"cap": ["/broadcast", "/public"]},
        {"topic": ["/"], "cap": ["/public"]},
        {"exp": weak["dms"]["exp"] + 1, "cap": ["/public"]},
        {"nonce": b"\1" * 12, "cap": ["/public"]},
        {"cap": ["/public"], "sig": b""},
        {"cap": ["/public"], "sig": None},
    ]
    for change in changes:
        forged = {"dms": weak["dms"] | change}
        tokens = [scene.invocation(thief, NOTE, chain=forged)]
        await mallory.send(victim, thief.sign(scene.request(thief, victim.handle, tokens=tokens)))
        # and once more, now that something about it might be remembered
        await mallory.send(victim, thief.sign(scene.request(thief, victim.handle, tokens=tokens)))
    assert victim.handled == []
