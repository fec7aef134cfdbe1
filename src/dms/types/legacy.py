"""Documents of early releases, which are recognised and no longer taken (``spec/platform.md`` 6.2).

Whoever brings one is told what it is and what has come in its place, instead of that it has thirty unknown keys.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LegacyShape:
    """A document as it once was: ``keys`` at its top, ``telling`` of which there are enough to know it by."""

    name: str
    keys: frozenset[str]
    telling: frozenset[str]
    successor: str

    def fits(self, keys: frozenset[str]) -> bool:
        """Whether a document with these keys is one: nothing else is in it, and what tells it from all others is."""
        return bool(keys) and keys <= self.keys and len(keys & self.telling) >= min(2, len(self.telling))


def _keys(text: str) -> frozenset[str]:
    return frozenset(text.split())


DEPLOYMENT_REQUEST = LegacyShape(
    "a deployment request for a single machine",
    _keys(
        "address_user max_ntx blockchain tx_hash service_type timestamp metadata_hash withdraw_hash refund_hash"
        " distribute_50_hash distribute_75_hash params constraints traceinfo"
    ),
    _keys("address_user max_ntx service_type params constraints traceinfo distribute_50_hash"),
    "write an ensemble: nunet ensemble init begins one",
)
STORED_REQUEST = LegacyShape(
    "a stored deployment request for a single machine",
    _keys("deployment_request job_status"),
    _keys("deployment_request job_status"),
    "write an ensemble: nunet ensemble init begins one",
)
TRANSACTION_STATUS = LegacyShape(
    "the status of a transaction",
    _keys("transaction_type transaction_status tx_hash"),
    _keys("transaction_type transaction_status"),
    "nothing takes its place",
)
ONBOARDING = LegacyShape(
    "an offer of a machine",
    _keys("memory cpu ntx_price channel payment_addr server_mode is_available"),
    _keys("ntx_price channel payment_addr server_mode is_available"),
    "nunet onboard offers a machine",
)
PROVISIONED = LegacyShape(
    "what a machine has",
    _keys("cpu memory total_cores"),
    _keys("total_cores"),
    "nunet hardware show tells it",
)
FREE_RESOURCES = LegacyShape(
    "what is free on a machine",
    _keys("tot_cpu_hz price_cpu ram price_ram vcpu disk price_disk ntx_price"),
    _keys("tot_cpu_hz price_cpu price_ram vcpu price_disk"),
    "nunet get resources tells it",
)
WALLET = LegacyShape(
    "the key pair of a wallet",
    _keys("address private_key mnemonic"),
    _keys("private_key mnemonic address"),
    "nunet key import takes a private key; keep this file to yourself",
)
SHAPES = (
    DEPLOYMENT_REQUEST,
    STORED_REQUEST,
    TRANSACTION_STATUS,
    ONBOARDING,
    PROVISIONED,
    FREE_RESOURCES,
    WALLET,
)


def recognise(keys: Iterable[str]) -> LegacyShape | None:
    """The early document that has these keys at its top; ``None``: it is none of them."""
    found = frozenset(keys)
    return next((shape for shape in SHAPES if shape.fits(found)), None)
