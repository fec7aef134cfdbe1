"""The local network that several benchmarks share, and a client of it."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path

from bench.processes import clean_environment
from dms.capability.store import context_path, load_context
from dms.cli.client import Client
from dms.cli.networks import FILE_VARIABLE
from dms.cli.rest import Rest
from dms.devnet.network import running
from dms.devnet.profile import PROFILE_FILE, NetworkProfile
from dms.identity.keystore import Keystore
from dms.identity.trust import Provider, TrustContext

NODES, PROVIDERS = 3, 2


class Bench(ExitStack):
    """A scratch directory, and what is started on first use and ends with the run."""

    @cached_property
    def scratch(self) -> Path:
        """Empty, private, gone afterwards."""
        return Path(self.enter_context(tempfile.TemporaryDirectory(prefix="nunet-bench-")))

    @cached_property
    def network(self) -> NetworkProfile:
        """Three nodes, two of which offer resources."""
        return self.enter_context(running(self.scratch / "network", NODES, PROVIDERS))

    @cached_property
    def client(self) -> Client:
        """Speaks for the person who rules the network, to the node that offers nothing; keys are open already."""
        return client_of(self.network)

    @property
    def environment(self) -> dict[str, str]:
        """In which a command addresses the network."""
        return clean_environment(**{FILE_VARIABLE: str(Path(self.network.dir) / PROFILE_FILE)})


def client_of(network: NetworkProfile) -> Client:
    """Speaks for the person who rules a network, to the node that offers nothing; keys are open already."""
    user_dir, name = Path(network.user_dir), network.user_context
    key = Keystore(user_dir / "key").get(name, network.passphrase())
    context = load_context(context_path(user_dir / "cap", name), TrustContext(Provider.of_key(key)), name=name)
    node = network.node(None)
    client = Client(Rest(node.rest_addr, node.rest_port), lambda: context)
    _ = client.security
    return client
