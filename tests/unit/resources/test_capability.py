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
    check,
    normalized,
)
from dms.resources.errors import InvalidResources
from dms.types import gojson
from dms.types.resources import CPU, Resources


def test_the_names_in_json_are_those_of_the_specification() -> None:
    whole = HardwareCapability(
        executor=("docker",),
        type=("batch",),
        resources=Resources(cpu=CPU(cores=1.0)),
        libraries=(Library(name="cuda", constraint=">=", version="12.1"),),
        locality=(Locality(kind="country", name="DE"),),
        storage=(StorageUnit(type="ssd", size=5, amount=2),),
        connectivity=Connectivity(ports=(80,), vpn=True),
        price=(Price(currency="NTX", currency_per_hour=1.5, total_per_job=3.0, preference=2),),
        time=Time(units="hours", max_time=2, preference=1),
        kycs=(KYC(type="id", data="x"),),
    )
    assert gojson.encode(whole) == (
        b'{"executor":["docker"],"type":["batch"],"resources":{"cpu":{"cores":1},"ram":{},"disk":{}},'
        b'"libraries":[{"name":"cuda","constraint":"\\u003e=","version":"12.1"}],'
        b'"locality":[{"kind":"country","name":"DE"}],"storage":[{"type":"ssd","size":5,"amount":2}],'
        b'"connectivity":{"ports":[80],"vpn":true},'
        b'"price":[{"currency":"NTX","currency_per_hour":1.5,"total_per_job":3,"preference":2}],'
        b'"time":{"units":"hours","max_time":2,"preference":1},"KYCs":[{"type":"id","data":"x"}]}'
    )
    assert gojson.decode(gojson.encode(whole), HardwareCapability) == whole


@settings(max_examples=40)
@given(capabilities)
def test_capabilities_survive_json_and_are_normal_once_and_for_all(a: HardwareCapability) -> None:
    check(a)
    assert normalized(a) == a
    assert gojson.decode(gojson.encode(a), HardwareCapability) == a


def test_sets_are_ordered_and_devices_counted_together() -> None:
    unit = StorageUnit(type="ssd", size=5, amount=2)
    found = normalized(
        HardwareCapability(
            executor=("wasm", "docker", "wasm"),
            storage=(unit, unit, msgspec.structs.replace(unit, amount=0, size=9)),
            connectivity=Connectivity(ports=(443, 80, 443)),
        )
    )
    assert found.executor == ("docker", "wasm")
    assert found.storage == (StorageUnit(type="ssd", size=5, amount=4),)
    assert found.connectivity.ports == (80, 443)


@pytest.mark.parametrize(("units", "seconds"), [("seconds", 3), ("minutes", 180), ("hours", 10800), ("days", 259200)])
def test_times_have_units(units: str, seconds: int) -> None:
    assert Time(units=units, max_time=3).seconds == seconds
    assert Time().seconds == 0


@pytest.mark.parametrize(
    "bad",
    [
        HardwareCapability(resources=Resources(cpu=CPU(cores=-1))),
        HardwareCapability(executor=("x",) * 1025),
        HardwareCapability(libraries=(Library(name="cuda", version="new"),)),
        HardwareCapability(libraries=(Library(name="cuda", constraint="about", version="1"),)),
        HardwareCapability(storage=(StorageUnit(type="ssd", size=-1),)),
        HardwareCapability(storage=(StorageUnit(type="ssd", amount=1 << 63),)),
        HardwareCapability(connectivity=Connectivity(ports=(0,))),
        HardwareCapability(price=(Price(currency="NTX", currency_per_hour=float("nan")),)),
        HardwareCapability(price=(Price(currency="NTX", total_per_job=-1.0),)),
        HardwareCapability(price=(Price(currency="NTX", preference=-1),)),
        HardwareCapability(time=Time(units="weeks", max_time=1)),
        HardwareCapability(time=Time(units="hours", max_time=-1)),
    ],
)
def test_what_cannot_be_meant_is_refused(bad: HardwareCapability) -> None:
    with pytest.raises(InvalidResources, match="invalid"):
        check(bad)
