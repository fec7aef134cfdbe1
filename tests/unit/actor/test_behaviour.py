"""The registry of behaviours: exact names, replacement, expiry."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from dms.actor.behaviour import Behaviour, Behaviours, Message
from dms.actor.errors import UnknownBehaviour
from dms.actor.handle import Handle, handle_of_did
from dms.identity.ids import DID, did_of
from dms.testing.actors import key_of


async def nothing(_message: Message[Any]) -> None:
    return


def behaviour(name: str, *, expiry_ns: int = 0, expected: Handle | None = None) -> Behaviour:
    return Behaviour(name=name, handler=nothing, payload=Any, capabilities=(), expiry_ns=expiry_ns, expected=expected)


def test_names_match_exactly_never_by_prefix() -> None:
    known = Behaviours()
    known.add(behaviour("/public/hello"))
    assert known.find("/public/hello", 0) is not None
    for name in ("/public", "/public/hello/", "/public/hello/you", "/PUBLIC/hello", "", "public/hello"):
        assert known.find(name, 0) is None
    assert "/public/hello" in known


def test_a_name_registered_again_is_replaced() -> None:
    known = Behaviours()
    first, second = behaviour("/a"), behaviour("/a", expiry_ns=9)
    known.add(first)
    known.add(second)
    assert known.find("/a", 0) is second
    assert len(list(known)) == 1
    known.remove("/a")
    known.remove("/a")
    assert known.find("/a", 0) is None


def test_what_has_expired_is_not_found_and_swept_away() -> None:
    known = Behaviours()
    for name, expiry_ns in (("/a", 5), ("/b", 10), ("/c", 0)):
        known.add(behaviour(name, expiry_ns=expiry_ns))
    assert known.find("/a", 5) is not None
    assert known.find("/a", 6) is None
    assert "/a" not in known
    known.sweep(11)
    assert [b.name for b in known] == ["/c"]


def test_it_expects_one_actor_with_its_identity() -> None:
    asked, other = (handle_of_did(did_of(key_of(name).public)) for name in "ab")
    expecting = behaviour("/reply", expected=asked)
    assert expecting.expects(asked)
    assert not expecting.expects(other)
    assert not expecting.expects(msgspec.structs.replace(asked, did=other.did))
    assert not expecting.expects(msgspec.structs.replace(asked, id=other.id))
    assert not behaviour("/reply").expects(asked)
    assert not behaviour("/reply").expects(Handle(id=asked.id, did=DID(), addr=asked.addr))


def test_a_one_shot_behaviour_is_used_up_once_also_by_two_that_found_it() -> None:
    known, one, other = Behaviours(), behaviour("/reply"), behaviour("/reply")
    known.add(one)
    known.use_up(one)
    with pytest.raises(UnknownBehaviour):
        known.use_up(one)
    known.add(other)
    with pytest.raises(UnknownBehaviour):
        known.use_up(one)
    assert known.find("/reply", 0) is other
