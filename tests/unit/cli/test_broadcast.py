"""``nunet cap broadcast`` through a real REST server."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from dms.capability.context import CapabilityContext
from dms.capability.store import context_path, load_context, save_context
from dms.capability.token import Action, TokenList
from dms.cli import broadcast
from dms.identity.ids import NO_DID
from dms.identity.keystore import Keystore
from dms.identity.trust import Provider, TrustContext
from dms.testing.commandline import Nunet
from dms.testing.daemon import ScriptedDaemon
from dms.types.ids import Capability

REVOKE = "/dms/cap/revoke/broadcast"
FAR_NS = 4102358400 * 10**9


@pytest.fixture
def context(node: ScriptedDaemon) -> Iterator[CapabilityContext]:
    """The user's, without revocations; what a test saves is taken back."""
    path = context_path(node.user_dir / "cap", "user")
    before = path.read_bytes()
    key = Keystore(node.user_dir / "key").get("user", node.passphrase)
    yield load_context(path, TrustContext(Provider.of_key(key)), name="user")
    path.write_bytes(before)


def revoke(node: ScriptedDaemon, context: CapabilityContext, count: int, cap: str = "/x") -> TokenList:
    grants = [context.grant(Action.DELEGATE, node.did, NO_DID, (), FAR_NS, 0, [Capability(cap)]) for _ in range(count)]
    revocations = TokenList.of(*(context.revoke(grant.tokens[0]) for grant in grants))
    context.add_roots(revoke=revocations)
    save_context(context, context_path(node.user_dir / "cap", "user"))
    return revocations


def test_all_live_revocations_go_to_our_node_and_to_all_others(
    node: ScriptedDaemon, nunet: Nunet, context: CapabilityContext
) -> None:
    sent = revoke(node, context, 3)
    node.answers[REVOKE] = lambda _payload: {"OK": True}
    done = nunet("cap", "broadcast", "-c", "user", "--wait", "300ms")
    assert (done.code, done.err) == (0, "")
    assert done.out == "Successfully broadcast 3 revocation token(s) to all peers\nConfirmed by 1 node(s)\n"
    ours, theirs = node.payloads_of(REVOKE)
    assert ours == theirs == {"Token": {"tok": [json.loads(str(token)) for token in sent.tokens]}}


def test_without_waiting_it_returns_at_once(node: ScriptedDaemon, nunet: Nunet, context: CapabilityContext) -> None:
    revoke(node, context, 1)
    node.answers[REVOKE] = lambda _payload: {"OK": True}
    done = nunet("cap", "broadcast", "-o", "json")
    assert json.loads(done.out) == {"revocations": 1, "own_node": "OK"}


def test_many_go_in_several_messages(
    node: ScriptedDaemon, nunet: Nunet, context: CapabilityContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = revoke(node, context, 6, cap="/" + "x" * (broadcast.MAX_PAYLOAD_BYTES // 4))
    node.answers[REVOKE] = lambda _payload: {"OK": True}
    done = nunet("cap", "broadcast", "--wait", "300ms", "-o", "json")
    told = json.loads(done.out)
    assert (told["revocations"], told["confirmed"]) == (6, [node.other_did.uri])
    payloads = node.payloads_of(REVOKE)
    assert len(payloads) == 4
    assert sum(len(payload["Token"]["tok"]) for payload in payloads) == 2 * len(sent)


def test_what_our_own_node_says_against_it_is_told_and_the_others_hear_it_all_the_same(
    node: ScriptedDaemon, nunet: Nunet, context: CapabilityContext
) -> None:
    revoke(node, context, 1)
    node.answers[REVOKE] = lambda _payload: {"OK": False, "Error": "not today"}
    done = nunet("cap", "broadcast")
    assert done.code == 0
    assert done.err == "warning: our own node did not take them up: not today\n"
    assert done.out == "Successfully broadcast 1 revocation token(s) to all peers\n"


def test_a_context_without_revocations_is_told_so(node: ScriptedDaemon, nunet: Nunet) -> None:
    done = nunet("cap", "broadcast", "-c", "user")
    assert (done.code, done.out) == (4, "")
    assert done.err.startswith("Error: context 'user' holds no revocations\nHint: anchor one first: nunet cap anchor")
    assert node.requests == []


def test_without_a_node_nothing_is_said_to_have_been_sent(
    node: ScriptedDaemon, nunet: Nunet, context: CapabilityContext
) -> None:
    revoke(node, context, 1)
    done = nunet("--rest-port", "1", "cap", "broadcast")
    assert (done.code, done.out) == (6, "")
    assert done.err.startswith("Error: no node answers at ")
