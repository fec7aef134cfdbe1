import msgspec
import pytest
from hypothesis import given, settings
from tests.unit.resources.capabilities import capabilities

from dms.resources.capability import (
    KYC,
    Connectivity,
    HardwareCapability,
    Library,
    Locality,
    Price,
    StorageUnit,
    Time,
)
from dms.resources.capability_comparison import PARTS, compare, compare_parts, unmet
from dms.resources.comparison import Comparison
from dms.types.resources import GPU, RAM, Resources

BETTER, WORSE, EQUAL, NONE = Comparison.BETTER, Comparison.WORSE, Comparison.EQUAL, Comparison.NONE
OPPOSITE = {BETTER: WORSE, WORSE: BETTER, EQUAL: EQUAL, NONE: NONE}


def exact(a: HardwareCapability) -> HardwareCapability:
    """As offers are: they have one version of each library."""
    libraries = tuple(msgspec.structs.replace(library, constraint="=") for library in a.libraries)
    return msgspec.structs.replace(a, libraries=libraries)


@settings(max_examples=25)
@given(capabilities)
def test_everything_equals_itself(a: HardwareCapability) -> None:
    assert compare(a, a) is EQUAL
    assert unmet(a, a) == ()


@settings(max_examples=30)
@given(capabilities, capabilities)
def test_better_one_way_is_worse_the_other(a: HardwareCapability, b: HardwareCapability) -> None:
    forward, backward = compare_parts(a, b), compare_parts(b, a)
    assert {part: OPPOSITE[found] for part, found in forward.items()} == backward
    if compare(a, b).satisfies and compare(b, a).satisfies:
        assert compare(a, b) is compare(b, a) is EQUAL


@settings(max_examples=40)
@given(capabilities, capabilities, capabilities)
def test_whatever_satisfies_one_that_satisfies_a_third_satisfies_the_third(
    a: HardwareCapability, b: HardwareCapability, c: HardwareCapability
) -> None:
    a, b = exact(a), exact(b)
    first, second, both = compare_parts(a, b), compare_parts(b, c), compare_parts(a, c)
    for part in PARTS:
        if first[part].satisfies and second[part].satisfies:
            assert both[part].satisfies, part


@settings(max_examples=30)
@given(capabilities, capabilities)
def test_what_is_lacking_is_told_exactly_when_it_does_not_satisfy(a: HardwareCapability, b: HardwareCapability) -> None:
    assert compare(a, b).satisfies == (unmet(a, b) == ())
    assert all(item.reason for item in unmet(a, b))


def test_a_requirement_for_nothing_is_met_by_anything() -> None:
    assert compare(HardwareCapability(), HardwareCapability()) is EQUAL
    assert compare(HardwareCapability(executor=("docker",)), HardwareCapability()) is BETTER


@pytest.mark.parametrize(
    ("offer", "wanted", "result", "reason"),
    [
        ({"executor": ("docker", "wasm")}, {"executor": ("wasm",)}, BETTER, ""),
        ({"executor": ("docker",)}, {"executor": ("wasm",)}, NONE, "no executor wasm"),
        ({"type": ("batch",)}, {"type": ("batch", "recurring")}, WORSE, "no jobs of type recurring"),
        (
            {"resources": Resources(ram=RAM(size=1))},
            {"resources": Resources(ram=RAM(size=2))},
            WORSE,
            "2 B of RAM wanted, 1 B there",
        ),
        (
            {"resources": Resources(gpus=(GPU(vram=9),))},
            {"resources": Resources(gpus=(GPU(vendor="NVIDIA"),))},
            NONE,
            "NVIDIA wanted, there is another",
        ),
        (
            {"libraries": (Library(name="cuda", version="12.4"),)},
            {"libraries": (Library(name="cuda", constraint=">=", version="12.1"),)},
            BETTER,
            "",
        ),
        (
            {"libraries": (Library(name="cuda", version="11.8"),)},
            {"libraries": (Library(name="cuda", constraint=">=", version="12.1"),)},
            WORSE,
            "no library cuda >=12.1",
        ),
        (
            {"libraries": (Library(name="cuda"),)},
            {"libraries": (Library(name="cuda", version="1"),)},
            WORSE,
            "no library cuda 1",
        ),
        ({"libraries": ()}, {"libraries": (Library(name="cuda"),)}, WORSE, "no library cuda"),
        (
            {"locality": (Locality(kind="country", name="DE"),)},
            {"locality": (Locality(kind="country", name="FR"),)},
            NONE,
            "no place country FR",
        ),
        (
            {"storage": (StorageUnit(type="ssd", size=5, amount=2),)},
            {"storage": (StorageUnit(type="", size=4),)},
            BETTER,
            "",
        ),
        (
            {"storage": (StorageUnit(type="ssd", size=5),)},
            {"storage": (StorageUnit(type="hdd", size=1),)},
            NONE,
            "1 devices of hdd too few",
        ),
        (
            {"connectivity": Connectivity(ports=(80, 443), vpn=True)},
            {"connectivity": Connectivity(ports=(80,))},
            BETTER,
            "",
        ),
        (
            {"connectivity": Connectivity(ports=(80,))},
            {"connectivity": Connectivity(ports=(80, 443))},
            WORSE,
            "no port 443",
        ),
        ({}, {"connectivity": Connectivity(vpn=True)}, WORSE, "no private network"),
        (
            {"price": (Price(currency="NTX", currency_per_hour=1.0),)},
            {"price": (Price(currency="NTX", currency_per_hour=2.0),)},
            BETTER,
            "",
        ),
        (
            {"price": (Price(currency="NTX", currency_per_hour=3.0),)},
            {"price": (Price(currency="NTX", currency_per_hour=2.0),)},
            WORSE,
            "too expensive in NTX",
        ),
        (
            {"price": (Price(currency="ADA"),)},
            {"price": (Price(currency="NTX", total_per_job=1.0),)},
            NONE,
            "no price in NTX",
        ),
        (
            {"price": (Price(currency="ADA", currency_per_hour=9.0), Price(currency="NTX", currency_per_hour=1.0))},
            {"price": (Price(currency="NTX", currency_per_hour=1.0), Price(currency="EUR"))},
            EQUAL,
            "",
        ),
        ({"time": Time(units="minutes", max_time=90)}, {"time": Time(units="hours", max_time=1)}, BETTER, ""),
        (
            {"time": Time(units="minutes", max_time=30)},
            {"time": Time(units="hours", max_time=1)},
            WORSE,
            "3600 s wanted, 1800 s offered",
        ),
        ({"kycs": (KYC(type="id", data="x"),)}, {"kycs": (KYC(type="id"),)}, BETTER, ""),
        ({"kycs": (KYC(type="id", data="x"),)}, {"kycs": (KYC(type="id", data="y"),)}, NONE, "no proof id y"),
    ],
)
def test_each_part_is_compared_and_named(
    offer: dict[str, object], wanted: dict[str, object], result: Comparison, reason: str
) -> None:
    left = msgspec.structs.replace(HardwareCapability(), **offer)
    right = msgspec.structs.replace(HardwareCapability(), **wanted)
    (part,) = wanted
    assert compare_parts(left, right)[part.replace("kycs", "KYCs")] is result
    assert "; ".join(item.reason for item in unmet(left, right)) == reason
