"""What owners say of their machines in the settings."""

from __future__ import annotations

import pytest

from dms.resources.capability import KYC, HardwareCapability, Library, Price, Time
from dms.resources.capability_comparison import unmet
from dms.resources.declared import declared
from dms.resources.errors import InvalidResources


def test_texts_become_an_offer() -> None:
    offer = declared(
        libraries=("openmpi 4.1.6", "cuda"), prices=("NTX 0.5", "EUR 1 2.5"), proofs=("iso27001 c-77", "owner")
    )
    assert offer.libraries == (Library(name="openmpi", constraint="=", version="4.1.6"), Library(name="cuda"))
    assert offer.price == (
        Price(currency="NTX", currency_per_hour=0.5),
        Price(currency="EUR", currency_per_hour=1.0, total_per_job=2.5),
    )
    assert offer.kycs == (KYC(type="iso27001", data="c-77"), KYC(type="owner"))


def test_without_a_limit_a_job_may_take_as_long_as_it_likes() -> None:
    century = HardwareCapability(time=Time(units="days", max_time=36_525))
    assert unmet(declared(), century) == ()
    assert unmet(declared(max_hours=10), century) != ()


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"libraries": ("",)}, 'invalid library ""'),
        ({"libraries": ("openmpi newest",)}, 'invalid version "newest"'),
        ({"libraries": ("a b c",)}, 'invalid library "a b c"'),
        ({"prices": ("NTX",)}, 'invalid price "NTX"'),
        ({"prices": ("NTX much",)}, 'invalid price "NTX much"'),
        ({"prices": ("NTX -1",)}, "a price of -1.0 NTX"),
        ({"prices": ("NTX nan",)}, "a price of nan NTX"),
        ({"proofs": ("one two three",)}, 'invalid proof "one two three"'),
    ],
)
def test_what_is_not_written_so_is_told(settings: dict[str, tuple[str, ...]], reason: str) -> None:
    with pytest.raises(InvalidResources, match=reason):
        declared(**settings)  # type: ignore[arg-type]
