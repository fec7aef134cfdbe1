"""Settings as each part of the service wants them."""

from __future__ import annotations

import socket

from dms.actor.gate import GateOptions
from dms.actor.limiter import Limits
from dms.actor.rates import Rate, Rates
from dms.config import Settings
from dms.config.schema import P2P, Messages, Storage
from dms.network.libp2p.reach.ledger import RelayLimits
from dms.network.libp2p.reach.options import ReachOptions, When
from dms.node.hosting import HostingOptions
from dms.node.node import NodeOptions
from dms.observe import configure_logging
from dms.resources.declared import declared
from dms.resources.places import parse_position
from dms.storage.prepare import Volumes
from dms.storage.service import StorageOptions
from dms.types.resources import Location
from dms.types.units import parse_duration_ns

DEV_ENVIRONMENTS = ("dev", "test")
"""Environments in which several nodes share a machine: busy processors do not stand against onboarding."""
MB, NS_PER_S = 10**6, 10**9


def node_options(settings: Settings, volumes: Volumes | None = None) -> NodeOptions:
    """What the settings tell the node.

    :raises DMSError: what is offered is not written as it should be.
    """
    general, offer = settings.general, settings.offer
    return NodeOptions(
        work_dir=general.work_dir,
        location=Location(continent=general.host_continent, country=general.host_country, city=general.host_city),
        position=parse_position(general.host_position),
        port_range=(general.port_available_range_from, general.port_available_range_to),
        allow_privileged=settings.job.allow_privileged_docker,
        check_cpu_usage=general.env not in DEV_ENVIRONMENTS,
        port_in_use=port_in_use,
        declared=declared(
            libraries=offer.libraries, prices=offer.prices, proofs=offer.proofs, max_hours=offer.max_hours
        ),
        tells_reasons=offer.tell_reasons,
        work_log=general.work_dir / "provider" / "work-log.json",
        keep_deployments_s=parse_duration_ns(settings.deployments.keep, what="deployments.keep") / NS_PER_S,
        hosting=HostingOptions(
            allow_exec=settings.job.allow_exec,
            volumes=volumes,
            orphan_grace_s=parse_duration_ns(settings.job.orphan_grace, what="job.orphan_grace") / NS_PER_S,
        ),
    )


def port_in_use(port: int) -> bool:
    """Whether another program listens on a TCP port of this machine."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return True
    return False


def gate_options(messages: Messages) -> GateOptions:
    """What messages may come, and how many."""
    return GateOptions(
        limits=Limits(per_host=messages.handlers_per_peer),
        rates=Rates(
            public=Rate(messages.public_per_s, messages.public_burst),
            private=Rate(messages.private_per_s, messages.private_burst),
            broadcast=Rate(messages.broadcast_per_s, messages.broadcast_burst),
            relayed=Rate(20 * messages.broadcast_per_s, 20 * messages.broadcast_burst),
        ),
        are_refusals_told=messages.tell_refused,
    )


def reach_options(p2p: P2P) -> ReachOptions:
    """How others reach this node, and what it does for others.

    :raises InvalidAddress: an announced address is none of plain TCP.
    """
    return ReachOptions(
        announce=p2p.announce_addresses,
        relay_client=When(p2p.relay_client),
        boot_delay_s=parse_duration_ns(p2p.relay_delay, what="p2p.relay_delay") / NS_PER_S,
        relay_service=When(p2p.relay_service),
        hole_punching=p2p.hole_punching,
        port_mapping=p2p.port_mapping,
        relay_limits=RelayLimits(connection_s=p2p.relay_limit_s, connection_bytes=p2p.relay_limit_bytes),
    )


def storage_options(storage: Storage) -> StorageOptions:
    """What jobs may do with storage."""
    return StorageOptions(
        local_roots=storage.local_roots,
        allowed_networks=storage.allowed_networks,
        allow_glusterfs=storage.allow_glusterfs,
        ipfs_gateway=storage.ipfs_gateway,
        ipfs_api=storage.ipfs_api,
        max_download_bytes=storage.max_download_mb * MB,
        max_volumes_bytes=storage.max_volumes_mb * MB,
    )


def configure_log(settings: Settings, did: str) -> None:
    """Write the log as the settings say, each entry with who we are."""
    logging = settings.observability.logging
    configure_logging(
        "DEBUG" if settings.general.debug else logging.level,
        logging.file,
        max_size_mb=logging.rotation.max_size_mb,
        max_backups=logging.rotation.max_backups,
        max_age_days=logging.rotation.max_age_days,
        did=did,
    )
