"""What the owner decides about reachability."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from dms.network.libp2p.reach.ledger import RelayLimits
from dms.network.reachability import IP, is_public_ip


class When(StrEnum):
    """Whether something is done."""

    AUTO = "auto"
    """When it is of use: a relay for others if we are public, relays of others if we are private."""
    ON = "on"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class ReachOptions:
    """Settings ``p2p.*``, and what tests change.

    :param announce: addresses at which others can reach us, as the owner says; they are told first.
    :param is_public: which IP addresses mean the same everywhere; networks of one's own may say more.
    :param first_ask_s: how long after the start others are asked to dial us.
    :param boot_delay_s: how long after the start relays are looked for (``spec/network.md`` 2.2).
    """

    announce: tuple[str, ...] = ()
    relay_service: When = When.AUTO
    relay_client: When = When.AUTO
    relay_limits: RelayLimits = field(default_factory=RelayLimits)
    hole_punching: bool = True
    port_mapping: bool = False
    is_public: Callable[[IP], bool] = is_public_ip
    first_ask_s: float = 15.0
    boot_delay_s: float = 60.0
