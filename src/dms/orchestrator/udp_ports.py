"""Which of the public ports of an allocation are for UDP."""

from __future__ import annotations

from dms.ensemble.config import UDP, EnsembleConfig
from dms.orchestrator.lifecycle.state import AllocationRecord


def udp_ports(config: EnsembleConfig, record: AllocationRecord) -> tuple[str, ...]:
    """Of those that the provider chose for one private port, and for both protocols, the last. None where the ensemble does
    not have its node, as that of a standby.
    """
    node = config.v1.nodes.get(record.node_id)
    ports = [port for port in node.ports if port.allocation == record.name] if node is not None else []
    udp = [port for port in ports if port.protocol == UDP]
    static = {str(port.public) for port in ports if port.public}
    found = [str(port.public) for port in udp if port.public]
    for private in dict.fromkeys(port.private for port in udp if not port.public):
        count = sum(not port.public and port.private == private for port in udp)
        chosen = sorted((p for p, inside in record.ports.items() if inside == private and p not in static), key=int)
        found += chosen[-count:]
    return tuple(found)
