"""``/dms/cap/*`` as an owner, a member and a stranger call it."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from dms.capability.store import edit_context, load_context
from dms.capability.token import Action, TokenList, issue, issue_revocation
from dms.identity.ids import DID, NO_DID, did_of
from dms.identity.trust import Provider, TrustContext
from dms.node.capability_payloads import (
    AnchorRequest,
    Anchors,
    CapReply,
    ExplainReply,
    ExplainRequest,
    ListAnchors,
    TokenRequest,
)
from dms.testing.actors import YEAR_NS, key_of, wall_clock_ns
from dms.testing.nodes import Cluster, SimulatedNode
from dms.types.errors import DMSError


def did(name: str) -> DID:
    return did_of(key_of(name).public)


def grant(by: str, to: DID, *caps: str) -> TokenList:
    provider = Provider.of_key(key_of(by))
    return TokenList.of(issue(provider, Action.DELEGATE, to, NO_DID, (), caps, wall_clock_ns() + YEAR_NS))


def on_disk(cluster: Cluster, name: str) -> tuple[tuple[DID, ...], TokenList, TokenList, TokenList]:
    path = cluster.work_dir / name / "dms.cap"
    return load_context(path, TrustContext(), need_provider=False, clock_ns=wall_clock_ns).list_roots()


async def anchor(node: SimulatedNode, kind: str, tokens: TokenList) -> CapReply:
    return await node.user.invoke(f"/dms/cap/{kind}/anchor", TokenRequest(token=tokens), CapReply)


async def explained(node: SimulatedNode, who: DID, behaviour: str, **more: Any) -> dict[str, Any]:
    request = ExplainRequest(from_=who.uri, behavior=behaviour, **more)
    reply = await node.user.invoke("/dms/cap/explain", request, ExplainReply)
    assert reply.ok, reply.error
    decision: dict[str, Any] = reply.decision
    return decision


async def test_the_list_holds_all_four_kinds(cluster: Cluster, autojump_clock: MockClock) -> None:
    bob = await cluster.start("bob")
    listed = await bob.user.invoke("/dms/cap/list", ListAnchors(), Anchors)
    assert listed.ok
    assert listed.roots == (did("user"),)
    assert [len(part) for part in (listed.require, listed.provide, listed.revoke)] == [1, 1, 0]
    assert await bob.user.invoke("/dms/cap/list", {"Context": "dms"}, Anchors) == listed
    raw = await bob.user.invoke("/dms/cap/list", None, dict[str, Any])
    assert list(raw) == ["OK", "Roots", "Require", "Provide", "Revoke"]


async def test_no_other_context_is_opened(cluster: Cluster, autojump_clock: MockClock) -> None:
    bob = await cluster.start("bob")
    reply = await bob.user.invoke("/dms/cap/list", ListAnchors(context="user"), Anchors)
    assert not reply.ok
    assert reply.error == "this node runs with the context 'dms' and opens no other"
    assert reply.roots == ()


@pytest.mark.parametrize(("kind", "part"), [("require", 1), ("provide", 2)])
async def test_an_anchor_is_in_force_and_on_the_disk(
    cluster: Cluster, autojump_clock: MockClock, kind: str, part: int
) -> None:
    bob = await cluster.start("bob", capability_file=True)
    tokens = grant("someone", did("bob"), "/dms/volume")
    assert (await anchor(bob, kind, tokens)).ok
    listed = bob.node.anchors.context.list_roots()[part]
    assert isinstance(listed, TokenList)
    assert tokens.tokens[0] in listed.tokens
    assert on_disk(cluster, "bob")[part] == listed
    await bob.kill()
    await bob.start()
    assert bob.node.anchors.context.list_roots()[part] == listed


async def test_an_anchor_lets_somebody_in_at_once_and_its_revocation_shuts_him_out(
    cluster: Cluster, autojump_clock: MockClock
) -> None:
    bob = await cluster.start("bob", capability_file=True)
    friend = await cluster.start("friend", is_member=False)

    async def is_admitted() -> bool:
        try:
            await friend.node.root.invoke(
                bob.node.root.handle, "/dms/node/peers/self", None, dict[str, Any], timeout_s=3.0
            )
        except DMSError:
            return False
        return True

    assert not await is_admitted()
    tokens = grant("user", did("friend"), "/dms/node/peers")
    assert (await anchor(bob, "require", tokens)).ok
    assert await is_admitted()
    revocation = bob.node.anchors.context.revoke  # only the issuer can: bob did not grant this
    with pytest.raises(DMSError, match="only the issuer"):
        revocation(tokens.tokens[0])
    issued = TokenList.of(issue_revocation(Provider.of_key(key_of("user")), tokens.tokens[0]))
    assert (await anchor(bob, "revoke", issued)).ok
    assert not await is_admitted()
    assert on_disk(cluster, "bob")[3] == issued


async def test_what_the_command_line_writes_at_the_same_time_is_kept(
    cluster: Cluster, autojump_clock: MockClock
) -> None:
    bob = await cluster.start("bob", capability_file=True)
    path, theirs = cluster.work_dir / "bob" / "dms.cap", did("someone else")
    with edit_context(path, TrustContext(), need_provider=False, clock_ns=wall_clock_ns) as context:
        context.add_roots([theirs])
    tokens = grant("someone", did("bob"), "/dms/volume")
    assert (await anchor(bob, "require", tokens)).ok
    roots, require, _, _ = on_disk(cluster, "bob")
    assert theirs in roots
    assert tokens.tokens[0] in require.tokens
    assert bob.node.anchors.context.list_roots()[0] == roots


async def test_the_old_behaviour_anchors_all_or_nothing_and_no_roots(
    cluster: Cluster, autojump_clock: MockClock
) -> None:
    bob = await cluster.start("bob")
    before = bob.node.anchors.context.list_roots()
    tokens = grant("someone", did("bob"), "/dms/volume")

    async def ask(**parts: Any) -> CapReply:
        return await bob.user.invoke("/dms/cap/anchor", AnchorRequest(**parts), CapReply)

    refused = await ask(root=(did("someone"),), require=tokens)
    assert (refused.ok, refused.error) == (False, "not authorized: roots are not anchored from afar")
    assert not (await ask(require=tokens, provide=grant("someone", did("someone else"), "/x"))).ok
    assert bob.node.anchors.context.list_roots() == before
    assert (await ask(root=(), require=tokens, provide=tokens)).ok
    require, provide = bob.node.anchors.context.list_roots()[1:3]
    assert tokens.tokens[0] in require.tokens
    assert tokens.tokens[0] in provide.tokens


@pytest.mark.parametrize(
    ("kind", "payload", "error"),
    [
        ("require", {"Token": {}}, "the request holds no token"),
        ("require", {"Token": {"tok": [None]}}, "bad token: null"),
        ("provide", None, "the request holds no token"),
        ("revoke", {"Token": {"tok": [None]}}, "bad token: not a revocation"),
        ("revoke", {"Token": 5}, "null"),
    ],
)
async def test_a_bad_request_is_answered_with_the_reason(
    cluster: Cluster, autojump_clock: MockClock, kind: str, payload: object, error: str
) -> None:
    bob = await cluster.start("bob")
    reply = await bob.user.invoke(f"/dms/cap/{kind}/anchor", payload, CapReply)
    assert not reply.ok
    if error != "null":
        assert reply.error.startswith(error)


async def test_members_may_spread_revocations_and_touch_no_anchors(cluster: Cluster, autojump_clock: MockClock) -> None:
    bob, mallory = await cluster.start("bob"), await cluster.start("mallory")
    tokens = TokenRequest(token=grant("mallory", did("mallory"), "/"))
    before = bob.node.anchors.context.list_roots()
    for behaviour in ("list", "anchor", "require/anchor", "provide/anchor", "explain"):
        with pytest.raises(DMSError):
            await mallory.node.root.invoke(
                bob.node.root.handle, f"/dms/cap/{behaviour}", tokens, CapReply, timeout_s=3.0
            )
    assert bob.node.anchors.context.list_roots() == before


async def test_the_running_node_explains_its_decisions(cluster: Cluster, autojump_clock: MockClock) -> None:
    bob = await cluster.start("bob")
    assert (await explained(bob, did("user"), "/dms/node/peers/list"))["allowed"]
    denied = await explained(bob, did("someone"), "/dms/node/peers/list")
    assert (denied["allowed"], denied["rule"]) == (False, "not-anchored")
    assert denied["considered"][0]["missing"] == [did("someone").uri]
    token = grant("user", did("someone"), "/dms/node/peers")
    assert (await explained(bob, did("someone"), "/dms/node/peers/list", token=token))["allowed"]
    other = await explained(bob, did("someone"), "/dms/node/peers/list", token=token, audience=did("other").uri)
    assert other["allowed"], "a token for anywhere is for there, too"
    assert not (await explained(bob, did("someone"), "/dms/deployment", token=token))["allowed"]
    on_topic = await explained(bob, did("organisation"), "/broadcast/hello", topic="/nunet/hello")
    assert on_topic["allowed"]


async def test_a_question_without_a_sender_is_refused(cluster: Cluster, autojump_clock: MockClock) -> None:
    bob = await cluster.start("bob")
    for from_ in ("", "somebody", "did:key:z"):
        request = ExplainRequest(from_=from_, behavior="/public/hello")
        reply = await bob.user.invoke("/dms/cap/explain", request, ExplainReply)
        assert reply.decision is None or not reply.decision["allowed"]
    await trio.lowlevel.checkpoint()
