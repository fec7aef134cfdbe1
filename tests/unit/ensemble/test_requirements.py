"""What a node asks of a machine."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from tests.unit.ensemble.documents import allocation, ensemble, ensembles, load

from dms.ensemble.config import EnsembleConfig, LocationConstraints
from dms.ensemble.errors import InvalidEnsemble
from dms.ensemble.requirements import (
    location_matches,
    node_capability,
    node_executors,
    node_needs_privilege,
    node_parts,
    node_ports,
    node_resources,
)
from dms.resources.capability import KYC, Library, Price
from dms.resources.capability_comparison import unmet
from dms.resources.declared import declared
from dms.types.resources import CPU, GPU, RAM, Disk, Location, Resources


def config(allocations: dict[str, Any], **members: Any) -> EnsembleConfig:
    return load(ensemble(allocations, **members)).config


def sized(cores: float, ram: str, **cpu: Any) -> dict[str, Any]:
    return {"cpu": {"cores": cores} | cpu, "ram": {"size": ram}, "disk": {"size": "1B"}}


def test_resources_add_up_over_the_node_only() -> None:
    found = config(
        {
            "a": allocation(
                resources=sized(0.1, "1KiB", architecture="x86_64") | {"gpus": [{"model": "A", "vram": 1}]}
            ),
            "b": allocation(resources=sized(0.2, "2KiB", clock_speed=2) | {"gpus": [{"model": "B"}]}),
            "c": allocation(resources=sized(5, "9GiB")),
        },
        nodes={"n1": {"allocations": ["a", "b"]}, "n2": {"allocations": ["c"]}},
    )
    assert node_resources(found, "n1") == Resources(
        cpu=CPU(cores=0.3, clock_speed=2e9, architecture="x86_64"),
        gpus=(GPU(model="A", vram=2**30), GPU(model="B")),
        ram=RAM(size=3072),
        disk=Disk(size=2),
    )


@settings(max_examples=25)
@given(ensembles())
def test_sums_are_exact_to_two_decimals(document: dict[str, Any]) -> None:
    found = load(document).config
    for name, node in found.v1.nodes.items():
        parts = [found.v1.allocations[a].resources for a in node.allocations]
        total = node_resources(found, name)
        assert total.cpu.cores == round(sum(p.cpu.cores for p in parts), 2)
        assert total.ram.size == sum(p.ram.size for p in parts)
        assert len(total.gpus) == sum(len(p.gpus) for p in parts)


def test_executors_are_distinct_and_privilege_is_seen() -> None:
    found = config(
        {
            "a": allocation(),
            "b": allocation(executor="null", execution={"type": "null"}),
            "c": allocation(execution={"type": "docker", "image": "x", "privileged": True}),
        },
        nodes={"n1": {"allocations": ["a", "b"]}, "n2": {"allocations": ["c"]}},
    )
    assert node_executors(found, "n1") == ("docker", "null")
    assert not node_needs_privilege(found, "n1")
    assert node_needs_privilege(found, "n2")


def test_ports_are_given_or_counted() -> None:
    ports = [{"public": p, "private": 80, "allocation": "a"} for p in (0, 2000, 0, 3000)]
    found = config({"a": allocation()}, nodes={"n1": {"allocations": ["a"], "ports": ports}})
    assert node_ports(found, "n1") == ((2000, 3000), 2)


ROME = Location(continent="EU", country="IT", city="Rome", asn=3269, isp="TIM")


@pytest.mark.parametrize(
    ("constraints", "expected"),
    [
        (None, True),
        (LocationConstraints(), True),
        (LocationConstraints(accept=(Location(continent="EU"),)), True),
        (LocationConstraints(accept=(Location(continent="AS"), Location(country="it"))), True),
        (LocationConstraints(accept=(Location(continent="EU", country="DE"),)), False),
        (LocationConstraints(accept=(Location(continent="EU"),), reject=(Location(country="IT"),)), False),
        (LocationConstraints(reject=(Location(country="DE"),)), True),
        (LocationConstraints(reject=(Location(asn=3269),)), False),
        (LocationConstraints(accept=(Location(city="rome", isp="TIM"),)), True),
    ],
)
def test_a_place_matches_what_is_accepted_and_not_rejected(
    constraints: LocationConstraints | None, *, expected: bool
) -> None:
    assert location_matches(constraints, ROME) is expected


def test_a_place_that_is_not_known_is_not_accepted() -> None:
    assert not location_matches(LocationConstraints(accept=(Location(continent="EU"),)), Location())


def test_parts_are_told_where_graphics_processors_are_wanted() -> None:
    found = config(
        {
            "a": allocation(resources=sized(0.1, "1KiB") | {"gpus": [{"model": "A", "vram": 1}]}),
            "b": allocation(resources=sized(0.2, "2KiB")),
            "c": allocation(resources=sized(5, "9GiB")),
        },
        nodes={"n1": {"allocations": ["a", "b"]}, "n2": {"allocations": ["c"]}},
    )
    assert node_parts(found, "n1") == {name: found.v1.allocations[name].resources for name in "ab"}
    assert node_parts(found, "n2") == {}


def requiring(**requires: Any) -> EnsembleConfig:
    node: dict[str, Any] = {"allocations": ["a"]}
    return config({"a": allocation()}, nodes={"n": node | {"requires": requires} if requires else node})


def test_what_a_node_requires_beside_amounts_is_asked_of_machines() -> None:
    found = requiring(libraries=["openmpi >= 4.1", "blas"], prices=["NTX 0.5 2"], proofs=["iso27001"], max_hours=12)
    asked = node_capability(found, "n")
    assert asked is not None
    assert asked.libraries == (Library(name="openmpi", constraint=">=", version="4.1"), Library(name="blas"))
    assert asked.price == (Price(currency="NTX", currency_per_hour=0.5, total_per_job=2.0),)
    assert asked.kycs == (KYC(type="iso27001"),)
    assert asked.time.seconds == 12 * 3600
    offer = declared(libraries=["openmpi 4.1.6", "blas 3"], prices=["NTX 0.4 1"], proofs=["iso27001 x"], max_hours=24)
    assert unmet(offer, asked) == ()
    lacking = {item.part for item in unmet(declared(libraries=["openmpi 4.0", "blas 3"], prices=["NTX 0.6"]), asked)}
    assert lacking == {"libraries", "price", "KYCs"}
    assert node_capability(requiring(), "n") is None


@pytest.mark.parametrize(
    "requires", [{"libraries": ["openmpi >> 4"]}, {"prices": ["cheap"]}, {"proofs": ["a b c"]}, {"max_hours": 0}]
)
def test_a_requirement_that_cannot_be_read_is_a_problem_of_the_file(requires: dict[str, Any]) -> None:
    with pytest.raises(InvalidEnsemble, match=rf"requires\.{next(iter(requires))}"):
        requiring(**requires)
