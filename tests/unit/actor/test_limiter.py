"""How many handlers run at once: the figures of the specification, and what is given back."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from dms.actor.errors import RateLimited
from dms.actor.limiter import Limiter, Limits, Slots
from dms.types.ids import PeerID

PEER, OTHER, OWN = PeerID("peer"), PeerID("other"), PeerID("own")


def test_the_defaults_are_those_of_the_original() -> None:
    limits = Limits()
    assert (limits.public_allow, limits.public_acquire) == (4096, 4112)
    assert (limits.broadcast_allow, limits.broadcast_acquire, limits.topic) == (1024, 1040, 128)


def test_one_peer_fills_only_its_own_share() -> None:
    limiter = Limiter(Limits(per_host=2), own_host=OWN)
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(limiter.acquire(PEER, "/dms/x"))
            stack.enter_context(limiter.acquire(OWN, "/dms/x"))
        assert not limiter.allow(PEER, "/dms/x")
        assert limiter.allow(OTHER, "/dms/x")
        assert limiter.allow(OWN, "/dms/x"), "our own programs are not counted"
    assert limiter.allow(PEER, "/dms/x")


def test_public_behaviours_and_broadcasts_are_bounded_in_all() -> None:
    limiter = Limiter(Limits(public_allow=1, public_acquire=2, broadcast_allow=2, broadcast_acquire=2, topic=1))
    with ExitStack() as stack:
        stack.enter_context(limiter.acquire(PEER, "/public/a"))
        assert not limiter.allow(OTHER, "/public/b")
        assert limiter.allow(OTHER, "/dms/b")
        stack.enter_context(limiter.acquire(OTHER, "/public/b"))
        with pytest.raises(RateLimited), limiter.acquire(OTHER, "/public/c"):
            pass
        stack.enter_context(limiter.acquire(PEER, "/broadcast/a", "/t"))
        assert not limiter.allow(OTHER, "/broadcast/a", "/t")
        assert limiter.allow(OTHER, "/broadcast/a", "/u")
        stack.enter_context(limiter.acquire(PEER, "/broadcast/a", "/u"))
        with pytest.raises(RateLimited), limiter.acquire(OTHER, "/broadcast/a", "/v"):
            pass
    assert limiter.allow(OTHER, "/public/b")
    assert limiter.allow(OTHER, "/broadcast/a", "/t")


def test_what_fails_gives_its_place_back() -> None:
    limiter = Limiter(Limits(per_host=1))
    with pytest.raises(ZeroDivisionError), limiter.acquire(PEER, "/dms/x"):
        raise ZeroDivisionError
    assert limiter.allow(PEER, "/dms/x")


@pytest.mark.parametrize("wrong", [{"topic": 0}, {"public_allow": 5000}, {"broadcast_acquire": 1}, {"per_host": -1}])
def test_limits_that_make_no_sense_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="limits must be positive"):
        Limits(**wrong)


def test_slots_are_few_in_all_and_fewer_per_peer() -> None:
    slots = Slots(total=3, per_host=2)
    with ExitStack() as stack:
        stack.enter_context(slots.take(PEER))
        stack.enter_context(slots.take(PEER))
        with pytest.raises(RateLimited), slots.take(PEER):
            pass
        stack.enter_context(slots.take(OTHER))
        with pytest.raises(RateLimited), slots.take(OWN):
            pass
    with slots.take(PEER):
        pass


def test_those_of_one_host_that_were_admitted_together_are_counted_again_when_they_begin() -> None:
    """Between the two they may have waited for something, all at once."""
    limiter = Limiter(Limits(per_host=1, topic=1), own_host=PeerID("own"))
    for host, topic in ((PeerID("a"), ""), (PeerID("b"), "/t")):
        assert limiter.allow(host, "/x", topic)
        with limiter.acquire(host, "/x", topic):
            assert not limiter.allow(host, "/x", topic)
            with pytest.raises(RateLimited), limiter.acquire(host, "/x", topic):
                raise AssertionError
        assert limiter.allow(host, "/x", topic)
    with limiter.acquire(PeerID("own"), "/x"), limiter.acquire(PeerID("own"), "/x"):
        assert limiter.allow(PeerID("own"), "/x")
