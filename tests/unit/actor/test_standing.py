"""Who a caller is to us: strangers, those who were let in, those whom a root sent."""

from __future__ import annotations

import pytest
from tests.unit.actor.conftest import Two
from trio.testing import MockClock

from dms.actor.actor import Actor
from dms.actor.envelope import Envelope
from dms.actor.security import SecurityContext
from dms.actor.standing import MAX_REMEMBERED, REMEMBERED_S, Standing, Standings
from dms.capability.context import CapabilityContext
from dms.capability.token import Token, TokenList
from dms.identity.ids import DID, did_of
from dms.identity.keys import PublicKey
from dms.identity.trust import Provider, TrustContext
from dms.testing.actors import YEAR_NS, key_of, wall_clock_ns
from dms.types.ids import Capability

PING, SECRET = Capability("/public/ping"), Capability("/dms/node/secret")
PRISM = DID(uri="did:prism:" + "ab" * 32)


def request(sender: Actor, receiver: Actor) -> Envelope:
    return sender.security.provide(sender.envelope(receiver.handle, PING, None), [PING])


def deciding(two: Two, message: Envelope) -> Token:
    admitted = two.b.security.require(message, [PING])
    assert admitted is not None
    token, carried = admitted
    two.b.security.discard(carried)
    return token


async def test_a_chain_says_who_its_bearer_is(autojump_clock: MockClock, two: Two) -> None:
    standings = Standings(two.b.security.capabilities)
    message = request(two.a, two.b)
    assert standings.of(message, 0) is Standing.KNOWN, "a member of an organisation to which we lend trust"
    two.b.security.capabilities.add_roots([two.world.organisation.did])
    assert standings.of(message, 0) is Standing.TRUSTED
    async with two.world.node("stranger", is_member=False) as stranger:
        assert standings.of(request(stranger, two.b), 0) is Standing.STRANGER


async def test_who_was_let_in_is_remembered_for_a_while(autojump_clock: MockClock, two: Two) -> None:
    capabilities = two.b.security.capabilities
    standings, message = Standings(capabilities), request(two.a, two.b)
    caller, token = two.a.handle.did, deciding(two, message)
    standings.note(caller, token, 0)
    for anchor in capabilities.list_roots()[1].tokens:
        capabilities.remove_roots((), TokenList(tok=(anchor,)), TokenList(), TokenList())
    assert standings.of(message, REMEMBERED_S - 1) is Standing.KNOWN
    assert standings.of(message, REMEMBERED_S + 1) is Standing.STRANGER


async def test_a_standing_given_by_a_root_ends_with_its_time(autojump_clock: MockClock, two: Two) -> None:
    """Whoever is let in again and again by less must not keep it for ever."""
    capabilities, caller = two.b.security.capabilities, two.a.handle.did
    standings, message = Standings(capabilities), request(two.a, two.b)
    capabilities.add_roots([two.world.organisation.did])
    standings.note(caller, deciding(two, message), 0)
    capabilities.remove_roots([two.world.organisation.did])
    for now_s in range(0, int(REMEMBERED_S), 100):
        standings.note(caller, deciding(two, message), now_s)
        assert standings.of(message, now_s) is Standing.TRUSTED
    standings.note(caller, deciding(two, message), REMEMBERED_S + 1)
    assert standings.of(message, REMEMBERED_S + 1) is Standing.KNOWN


async def test_the_oldest_are_forgotten_when_there_are_too_many(autojump_clock: MockClock, two: Two) -> None:
    standings = Standings(two.b.security.capabilities)
    for number in range(MAX_REMEMBERED + 10):
        standings.note(DID(uri=f"did:key:z{number}"), None, 0)
    assert len(standings._known) == MAX_REMEMBERED
    assert DID(uri="did:key:z9") not in standings._known


@pytest.mark.parametrize("cap", [b"", b"null", b'{"tok":[null]}', b'{"tok":7}', b"\xff"])
async def test_whoever_shows_nothing_is_a_stranger(autojump_clock: MockClock, two: Two, cap: bytes) -> None:
    message = two.a.envelope(two.b.handle, PING, None)
    bare = Envelope(to=message.to, be=PING, from_=message.from_, nonce=1, opt=message.opt, msg=b"", cap=cap)
    assert Standings(two.b.security.capabilities).of(bare, 0) is Standing.STRANGER


async def test_a_forged_chain_makes_nobody_known(autojump_clock: MockClock, two: Two) -> None:
    message = request(two.a, two.b)
    forged = message.cap.replace(b'"nonce":"', b'"nonce":"AA', 1)
    assert forged != message.cap
    false = Envelope(to=message.to, be=PING, from_=message.from_, nonce=1, opt=message.opt, msg=b"", cap=forged)
    assert Standings(two.b.security.capabilities).of(false, 0) is Standing.STRANGER


# callers whose keys must be fetched --------------------------------------------------------------------------------------


class OneKey:
    """Knows the key of one did:prism."""

    def __init__(self, key: PublicKey) -> None:
        self._key = key

    async def fetch_key(self, did: DID) -> PublicKey:
        assert did == PRISM
        return self._key


async def test_a_caller_with_a_did_prism_is_known_once_its_key_was_fetched(autojump_clock: MockClock, two: Two) -> None:
    organisation, key, own = two.world.organisation, key_of("prism"), key_of("b")
    theirs = CapabilityContext("prism", PRISM, TrustContext(Provider.of_key(key, PRISM)), clock_ns=wall_clock_ns)
    theirs.add_roots(provide=organisation.membership(PRISM, wall_clock_ns() + YEAR_NS))
    trust = TrustContext(Provider.of_key(own), resolver=OneKey(key.public))
    ours = CapabilityContext("b", did_of(own.public), trust, clock_ns=wall_clock_ns)
    ours.add_roots(require=organisation.acceptance(ours, wall_clock_ns() + YEAR_NS))
    caller = Actor(SecurityContext(key, theirs, clock_ns=wall_clock_ns), two.a.network, inbox="prism")
    message = request(caller, two.b)
    standings = Standings(ours)
    assert standings.of(message, 0) is Standing.STRANGER
    await ours.resolve(message.cap)
    assert standings.of(message, 0) is Standing.KNOWN
