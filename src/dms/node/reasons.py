"""Why this machine does not bid for a node: the rule, what exactly, and what would mend it.

There are two who ask: whoever wants the node hosted, and the owner of this machine (``nunet doctor work``). What the one
can mend the other cannot, so each rule has a hint for either.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

MAX_TEXT_CHARS = 300


class Rule(StrEnum):
    """What can stand against a bid, in the order in which it is looked at."""

    NOT_OFFERED = "offered"
    STARTING = "starting"
    EXCLUDED = "excluded"
    LOCATION = "location"
    INVALID = "invalid"
    EXECUTOR = "executor"
    PRIVILEGED = "privileged"
    NETWORK = "network"
    MACHINE = "machine"
    FREE = "free"
    PORTS = "ports"
    CAPABILITY = "capability"
    TAKEN = "taken"


@dataclass(frozen=True, slots=True)
class Reason:
    """One rule that stood against a bid."""

    rule: Rule
    text: str

    @property
    def hint(self) -> str:
        """What whoever asked for the bid can do."""
        return _HINTS[self.rule][0]

    @property
    def remedy(self) -> str:
        """What the owner of this machine can do; empty: nothing is wrong with it."""
        return _HINTS[self.rule][1]


_HINTS: dict[Rule, tuple[str, str]] = {
    Rule.NOT_OFFERED: ("its owner must offer it", "offer a part of it: nunet onboard"),
    Rule.STARTING: ("ask again in a moment", ""),
    Rule.EXCLUDED: ("take the peer out of exclude_peers", ""),
    Rule.LOCATION: (
        "widen location.accept of the node, or leave the place out of location.reject",
        "say where the machine is: general.host_continent, general.host_country, general.host_city",
    ),
    Rule.INVALID: ("correct the resources of the node", ""),
    Rule.EXECUTOR: (
        "use an executor that the peer has, or pin the node to another peer",
        "install what the executor needs, and start the node again",
    ),
    Rule.PRIVILEGED: (
        "leave privileged out, or ask the owner to allow it",
        "job.allow_privileged_docker permits it; such containers rule the machine",
    ),
    Rule.NETWORK: (
        "leave subnet.required out, or use a peer that gives addresses",
        "give the daemon its rights: docs/private-network.md; and set job.private_network",
    ),
    Rule.MACHINE: ("ask for less, or for another machine", "offer more of the machine: nunet onboard"),
    Rule.FREE: ("ask for less, or wait until others are done", "offer more of the machine, or let running work end"),
    Rule.PORTS: (
        "leave the public port to the provider: public_port 0",
        "free the port, or widen general.port_available_range_*",
    ),
    Rule.CAPABILITY: ("ask for less of what the node requires", "say what else there is: the settings offer.*"),
    Rule.TAKEN: ("submit the ensemble anew", ""),
}
