"""What a local network needs before its nodes start: keys, mutual trust, configuration, onboarding.

One person, ``user``, is the root of every node. To each node the person delegates what members of a network do among
each other; the chain ends at the person, whom all nodes trust, so any two of them accept each other's messages.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dms.capability.context import CapabilityContext
from dms.capability.store import context_path, save_context
from dms.capability.token import NO_TOKENS, Action, TokenList
from dms.devnet.errors import DevnetError
from dms.devnet.plan import BOOTSTRAP_NODES, NodePlan, share_of
from dms.hardware.machine import MachineProbe
from dms.identity.files import make_private_directory, write_private
from dms.identity.ids import DID, NO_DID, did_of, peer_id_of
from dms.identity.keys import PrivateKey, generate_key
from dms.identity.keystore import Keystore
from dms.identity.trust import Provider, TrustContext
from dms.resources.manager import ResourceManager
from dms.resources.onboarding import Onboarding
from dms.store import DATABASE, Store
from dms.types.errors import DMSError
from dms.types.ids import Capability, PeerID

USER_CONTEXT, NODE_CONTEXT = "user", "dms"
MEMBER_CAPS = tuple(Capability(path) for path in ("/public", "/broadcast", "/dms/deployment", "/dms/cap/revoke"))
TOPICS = ("/nunet",)
LIFETIME_NS = 365 * 86400 * 10**9
SCRYPT_N = 2**12
"""Cheap on purpose: the passphrase lies beside the keys, so a costly derivation would only delay every command."""
ENVIRONMENT = "dev"


@dataclass(frozen=True, slots=True)
class Identity:
    """A node's key and the names made from it."""

    key: PrivateKey
    did: DID
    peer_id: PeerID


def write_passphrase(directory: Path) -> tuple[Path, str]:
    """A new random passphrase, readable by its owner only."""
    make_private_directory(directory)
    path, passphrase = directory / "passphrase", secrets.token_urlsafe(24)
    write_private(path, f"{passphrase}\n".encode())
    return path, passphrase


def make_user(user_dir: Path, passphrase: str) -> CapabilityContext:
    """The person whom all nodes obey; on disk when this returns."""
    key = generate_key()
    Keystore(user_dir / "key", scrypt_n=SCRYPT_N).save(USER_CONTEXT, key, passphrase)
    context = CapabilityContext(USER_CONTEXT, did_of(key.public), TrustContext(Provider.of_key(key)))
    save_context(context, context_path(user_dir / "cap", USER_CONTEXT))
    return context


def make_node(plan: NodePlan, user: CapabilityContext, passphrase: str) -> Identity:
    """A node's key and its capabilities: ruled by the person, a member by the person's word."""
    key = generate_key()
    did = did_of(key.public)
    Keystore(plan.user_dir / "key", scrypt_n=SCRYPT_N).save(NODE_CONTEXT, key, passphrase)
    expiry_ns = time.time_ns() + LIFETIME_NS
    membership = user.grant(Action.DELEGATE, did, NO_DID, TOPICS, expiry_ns, 0, MEMBER_CAPS)
    context = CapabilityContext(NODE_CONTEXT, did, TrustContext(Provider.of_key(key)))
    context.add_roots((user.did,), NO_TOKENS, TokenList.of(*membership.tokens), NO_TOKENS)
    save_context(context, context_path(plan.user_dir / "cap", NODE_CONTEXT))
    return Identity(key, did, peer_id_of(key.public))


def write_config(plan: NodePlan, bootstrap: Sequence[str]) -> None:
    """The node's configuration file."""
    settings = {
        "general": {
            "env": ENVIRONMENT,
            "user_dir": str(plan.user_dir),
            "work_dir": str(plan.work_dir),
            "data_dir": str(plan.work_dir / "data"),
        },
        "rest": {"addr": "127.0.0.1", "port": plan.rest_port},
        "p2p": {
            "listen_address": [f"/ip4/127.0.0.1/tcp/{plan.p2p_port}"],
            "bootstrap_peers": list(bootstrap),
            "mdns": False,  # a network on one machine is not to meet others around it
        },
        "observability": {"logging": {"file": str(plan.work_dir / "logs" / "nunet-dms-logs.jsonl")}},
    }
    write_private(plan.config_file, json.dumps(settings, indent=2).encode())


def bootstrap_for(plan: NodePlan, nodes: Sequence[NodePlan], identities: Sequence[Identity]) -> tuple[str, ...]:
    """The addresses that a node knows from the start."""
    return tuple(
        f"/ip4/127.0.0.1/tcp/{other.p2p_port}/p2p/{identity.peer_id}"
        for other, identity in list(zip(nodes, identities, strict=True))[:BOOTSTRAP_NODES]
        if other is not plan
    )


async def onboard(plan: NodePlan, providers: int) -> None:
    """Offer a share of this machine, before the node starts.

    :raises DevnetError: the machine is too small or too busy for that.
    """
    make_private_directory(plan.work_dir)
    probe = MachineProbe(plan.work_dir, cpu_sample_s=0.0)
    async with await Store.open(plan.work_dir / DATABASE) as store:
        manager = ResourceManager(store, probe)
        await manager.load()
        share = share_of(await probe.machine(), await probe.usage(), providers)
        try:
            await Onboarding(manager, probe, store, check_cpu_usage=False).onboard(share)
        except DMSError as exc:
            raise DevnetError(
                f"{plan.name} cannot offer its share of this machine: {exc.message}",
                hint="start fewer providers with --providers",
            ) from None
