"""The names under which the nodes of one network find each other, and which no other network shares.

A network of one's own has an id (``p2p.network_id``); it is part of every name by which nodes *find* each other: the
protocol of the hash table, the rendezvous, the topics of broadcasts, the exchange of peers, the service on the local
network. So nodes of two networks on one cable never meet. The public network has no id, and exactly the names of
``spec/network.md`` 2.1 and 4.

The protocols of messages have no id in them: whoever dials a node of another network by its address means it, and what
he may do there is a matter of capabilities. A private network key keeps him out altogether.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection
from dataclasses import dataclass

from dms.types.errors import BadInput

MAX_NETWORK_ID_CHARS = 32

_NETWORK_ID = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")
_PREFIX = "/nunet"
_FOREIGN = re.compile(r"nunet/[^/]+/peers/.*|/nunet/[^/]+/kad/.*")


def check_network_id(text: str) -> str:
    """The same text, if it may be the id of a network; empty is the public one.

    :raises BadInput: it may not.
    """
    if text and not _NETWORK_ID.fullmatch(text):
        raise BadInput(
            f"not the id of a network: {text[:80]!r}",
            hint=f"up to {MAX_NETWORK_ID_CHARS} small letters, digits and dashes, such as acme-lab",
        )
    return text


@dataclass(frozen=True, slots=True)
class NetworkNames:
    """Names of one network; ``network_id`` is checked already."""

    network_id: str = ""

    @property
    def dht_prefix(self) -> str:
        """What the hash table's protocol begins with."""
        return f"{_PREFIX}/{self.network_id}" if self.network_id else _PREFIX

    @property
    def dht_protocol(self) -> str:
        """The protocol of the hash table."""
        return f"{self.dht_prefix}/kad/1.0.0"

    @property
    def peers_protocol(self) -> str:
        """The protocol by which connected peers tell of others."""
        return f"nunet/{self.network_id}/peers/0.0.1" if self.network_id else "nunet/peers/0.0.1"

    @property
    def rendezvous(self) -> str:
        """Where everybody of the network can be found in the hash table."""
        return f"nunet-test/{self.network_id}" if self.network_id else "nunet-test"

    @property
    def mdns_service(self) -> str:
        """The service on the local network; a hash of the id, which is nobody else's business there."""
        if not self.network_id:
            return "_p2p._udp.local"
        digest = hashlib.sha256(b"nunet mdns service " + self.network_id.encode()).hexdigest()
        return f"_p2p-{digest[:10]}._udp.local"

    def is_member(self, protocols: Collection[str]) -> bool:
        """Whether a peer that speaks these protocols is of this network; only members are told to others.

        The public network has members that speak no protocol of ours, so there it is who is of no other network.
        """
        if self.peers_protocol in protocols or self.dht_protocol in protocols:
            return True
        return not self.network_id and not any(_FOREIGN.fullmatch(protocol) for protocol in protocols)

    def topic(self, name: str) -> str:
        """What a topic is called on the wire."""
        if not self.network_id:
            return name
        return f"{_PREFIX}/{self.network_id}/{name.removeprefix(_PREFIX + '/').lstrip('/')}"

    def topic_here(self, wire: str) -> str | None:
        """The topic behind a name on the wire; nothing for a name of another network."""
        if not self.network_id:
            return wire
        head = f"{_PREFIX}/{self.network_id}/"
        return f"{_PREFIX}/{wire.removeprefix(head)}" if wire.startswith(head) else None
