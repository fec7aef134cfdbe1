"""Who the node is: its key, what it trusts, what it may do."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import trio

from dms.capability.context import CapabilityContext
from dms.capability.store import context_path
from dms.config import Settings
from dms.identity.ids import DID
from dms.identity.keys import KeyType, PrivateKey, generate_key
from dms.identity.keystore import Keystore
from dms.identity.prism.associations import PrismAssociations
from dms.identity.prism.resolver import PrismResolver
from dms.identity.trust import Provider, TrustContext
from dms.identity.wallets.names import check_daemon_context
from dms.node.capability_file import CapabilityFile
from dms.observe.redact import conceal
from dms.types.errors import BadInput


@dataclass(frozen=True, slots=True)
class Identified:
    """A node that knows who it is; ``problems``: what is not as it should be with its key files."""

    key: PrivateKey
    capability_file: CapabilityFile
    problems: tuple[str, ...]

    @property
    def capabilities(self) -> CapabilityContext:
        """What it trusts, requires and provides."""
        return self.capability_file.context

    @property
    def did(self) -> DID:
        """Who it is."""
        return self.capabilities.did


async def identify(settings: Settings, context: str, passphrase: str) -> Identified:
    """Open the key and the capabilities of ``context``; a key that is missing is made.

    :raises DMSError: the passphrase is wrong, or the key is of a kind that no node can have.
    """
    directory = settings.general.user_dir
    problems: list[str] = []
    keystore = Keystore(directory / "key", warn=problems.append)
    key = await trio.to_thread.run_sync(_open_key, keystore, check_daemon_context(context), passphrase)
    conceal(passphrase)
    provider = Provider.of_key(key, PrismAssociations(directory).get(context))
    resolver_url = settings.identity.prism_resolver_url
    trust = TrustContext(provider, resolver=PrismResolver(resolver_url) if resolver_url else None)
    path = context_path(directory / "cap", context)
    with contextlib.suppress(OSError):
        await trust.resolve_mentioned(path.read_bytes())
    return Identified(key, CapabilityFile(path, context, provider.did, trust), tuple(problems))


def _open_key(keystore: Keystore, name: str, passphrase: str) -> PrivateKey:
    if not keystore.exists(name):
        key = generate_key()
        keystore.save(name, key, passphrase)
        return key
    key = keystore.get(name, passphrase)
    if key.type is not KeyType.ED25519:
        raise BadInput(
            f"the key {name} is of type {key.type.name}; a node needs an Ed25519 key",
            hint="make one with nunet key new",
        )
    return key
