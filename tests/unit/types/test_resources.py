"""Resources as they travel."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dms.types import gojson
from dms.types.resources import CPU, GPU, RAM, Disk, Location, Resources, SpecConfig

counts = st.integers(0, 2**62)
texts = st.text(max_size=8)
resources = st.builds(
    Resources,
    cpu=st.builds(CPU, cores=st.integers(0, 10**6).map(lambda n: n / 100), clock_speed=st.floats(0, 1e12), model=texts),
    ram=st.builds(RAM, size=counts),
    disk=st.builds(Disk, size=counts, type=texts),
    gpus=st.lists(st.builds(GPU, index=st.integers(0, 9), vendor=texts, vram=counts), max_size=2).map(tuple),
)


def test_parts_are_always_there_and_their_empty_members_are_not() -> None:
    assert gojson.encode(Resources()) == b'{"cpu":{},"ram":{},"disk":{}}'


def test_what_is_there_is_written_in_order() -> None:
    full = Resources(
        cpu=CPU(cores=0.25, clock_speed=2.5e9), gpus=(GPU(vendor="NVIDIA"),), ram=RAM(size=1), disk=Disk(size=2)
    )
    expected = b'{"cpu":{"cores":0.25,"clock_speed":2500000000},"gpus":[{"vendor":"NVIDIA"}],"ram":{"size":1},"disk":{"size":2}}'
    assert gojson.encode(full) == expected


@given(resources)
def test_nothing_is_lost_on_the_way(value: Resources) -> None:
    data = gojson.encode(value)
    assert gojson.decode(data, Resources) == value
    assert gojson.encode(gojson.decode(data, Resources)) == data
    assert gojson.convert(gojson.to_builtins(value), Resources) == value


@given(resources)
def test_names_without_underscores_mean_the_same(value: Resources) -> None:
    early = gojson.encode(value).replace(b'"clock_speed"', b'"ClockSpeed"').replace(b'"cpu"', b'"CPU"')
    assert gojson.decode(early, Resources) == value


def test_free_parameters_keep_their_types() -> None:
    spec = SpecConfig(type="wasm", params={"args": ["a", 1, 0.5, None, True], "env": {"B": "2", "A": "1"}})
    data = gojson.encode(spec)
    assert data == b'{"type":"wasm","params":{"args":["a",1,0.5,null,true],"env":{"A":"1","B":"2"}}}'
    assert gojson.decode(data, SpecConfig) == spec


def test_an_unknown_place_is_empty() -> None:
    assert gojson.encode(Location()) == b"{}"
    assert gojson.decode(b'{"Country":"DE","ASN":3320}', Location) == Location(country="DE", asn=3320)
