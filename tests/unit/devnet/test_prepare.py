"""Keys and mutual trust: nodes accept each other's messages and their person's, and nobody else's."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from dms.capability.context import CapabilityContext
from dms.capability.errors import NotAuthorized
from dms.capability.store import context_path, load_context
from dms.config import load_settings
from dms.devnet import prepare
from dms.devnet.plan import NodePlan, plan_nodes
from dms.identity.ids import ActorID
from dms.identity.keys import generate_key
from dms.identity.keystore import Keystore
from dms.identity.trust import Provider, TrustContext
from dms.types.ids import Capability

HOUR_NS = 3600 * 10**9


@pytest.fixture
def nodes(tmp_path: Path) -> tuple[NodePlan, ...]:
    return plan_nodes(tmp_path, 5, 2, ports=range(1, 11))


def context_of(node: NodePlan, passphrase: str) -> CapabilityContext:
    key = Keystore(node.user_dir / "key").get(prepare.NODE_CONTEXT, passphrase)
    path = context_path(node.user_dir / "cap", prepare.NODE_CONTEXT)
    return load_context(path, TrustContext(Provider.of_key(key)))


def ask(sender: CapabilityContext, recipient: CapabilityContext, capability: str) -> None:
    """One invocation, as the dispatcher would check it."""
    actor, root = (ActorID.of(generate_key().public) for _ in range(2))
    caps = [Capability(capability)]
    blob = sender.provide(recipient.did, actor, root, time.time_ns() + HOUR_NS, caps)
    recipient.consume(sender.did, blob, sender=actor)
    recipient.require(recipient.did, actor, root, caps, origin=sender.did)


@pytest.mark.parametrize("capability", ["/public/hello", "/dms/deployment/bid", "/dms/deployment/request"])
def test_nodes_let_each_other_do_what_members_do(tmp_path: Path, nodes: tuple[NodePlan, ...], capability: str) -> None:
    user = prepare.make_user(tmp_path / "user", "secret")
    for node in nodes[:2]:
        prepare.make_node(node, user, "secret")
    one, two = (context_of(node, "secret") for node in nodes[:2])
    ask(one, two, capability)
    ask(two, one, capability)


def test_only_the_person_rules_a_node(tmp_path: Path, nodes: tuple[NodePlan, ...]) -> None:
    user = prepare.make_user(tmp_path / "user", "secret")
    stranger = prepare.make_user(tmp_path / "stranger", "secret")
    for node in nodes[:2]:
        prepare.make_node(node, user, "secret")
    one, two = (context_of(node, "secret") for node in nodes[:2])
    ask(user, one, "/dms/node/deployment/new")
    with pytest.raises(NotAuthorized):
        ask(two, one, "/dms/node/deployment/new")
    for capability in ("/public/hello", "/dms/deployment/bid"):
        with pytest.raises(NotAuthorized):
            ask(stranger, one, capability)


def test_a_broadcast_of_a_member_is_heard(tmp_path: Path, nodes: tuple[NodePlan, ...]) -> None:
    user = prepare.make_user(tmp_path / "user", "secret")
    for node in nodes[:2]:
        prepare.make_node(node, user, "secret")
    one, two = (context_of(node, "secret") for node in nodes[:2])
    actor, caps = ActorID.of(generate_key().public), [Capability("/broadcast/hello")]
    two.consume(one.did, one.provide_broadcast(actor, "/nunet/hello", time.time_ns() + HOUR_NS, caps), sender=actor)
    two.require_broadcast(two.did, actor, "/nunet/hello", caps, origin=one.did)


def test_secrets_are_private(tmp_path: Path, nodes: tuple[NodePlan, ...]) -> None:
    path, passphrase = prepare.write_passphrase(tmp_path)
    assert path.read_text().strip() == passphrase
    assert path.stat().st_mode & 0o777 == 0o600
    user = prepare.make_user(tmp_path / "user", passphrase)
    prepare.make_node(nodes[0], user, passphrase)
    prepare.write_config(nodes[0], ())
    for file in filter(Path.is_file, tmp_path.rglob("*")):
        assert file.stat().st_mode & 0o077 == 0, file


def test_the_configuration_is_one_that_a_node_accepts(nodes: tuple[NodePlan, ...]) -> None:
    node = nodes[1]
    node.directory.mkdir()
    prepare.write_config(node, ["/ip4/127.0.0.1/tcp/1/p2p/12D3KooWScV63b9dGkhkpkfxksEM8HoB9sFbCoqBuC49s3jhZED2"])
    settings = load_settings(node.config_file, {}, {})
    assert (settings.rest.addr, settings.rest.port) == ("127.0.0.1", node.rest_port)
    assert settings.p2p.listen_address == (f"/ip4/127.0.0.1/tcp/{node.p2p_port}",)
    assert settings.general.work_dir == node.work_dir
    assert settings.observability.logging.file.is_relative_to(node.directory)
    assert json.loads(node.config_file.read_bytes())["p2p"]["bootstrap_peers"] == list(settings.p2p.bootstrap_peers)


def test_every_node_knows_the_first_ones_but_not_itself(tmp_path: Path, nodes: tuple[NodePlan, ...]) -> None:
    user = prepare.make_user(tmp_path / "user", "secret")
    identities = [prepare.make_node(node, user, "secret") for node in nodes]
    known = [prepare.bootstrap_for(node, nodes, identities) for node in nodes]
    assert [len(addresses) for addresses in known] == [2, 2, 2, 3, 3]
    assert known[4][0] == f"/ip4/127.0.0.1/tcp/1/p2p/{identities[0].peer_id}"
    assert not any(
        identity.peer_id in address for identity, own in zip(identities, known, strict=True) for address in own
    )
