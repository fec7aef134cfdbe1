"""An ensemble is put together so that it is valid, and says what it took for granted."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.ensemble.translate.samples import NOWHERE

from dms.ensemble.errors import Untranslatable
from dms.ensemble.translate.draft import Draft, literal
from dms.ensemble.translate.source import Notes, Part


def draft() -> tuple[Draft, Part]:
    notes = Notes("f")
    return Draft(notes), Part(None, "there", notes)


def filled() -> tuple[Draft, Part, dict[str, Any]]:
    made, part = draft()
    made.nodes["n"] = {"allocations": ["a"]}
    made.allocations["a"] = {
        "type": "task",
        "executor": "docker",
        "resources": made.resources("a", cores=2, ram_bytes=None),
        "execution": {"type": "docker", "image": "x", "cmd": [literal("${HOME}")]},
    }
    return made, part, made.allocations["a"]


def test_what_nobody_gave_is_marked_as_a_default() -> None:
    made, _, _ = filled()
    done = made.finish("tests", NOWHERE, {})
    assert "    # ram, disk: a default, since no limit was given. Adjust it.\n    resources:" in done.text
    assert done.config.v1.allocations["a"].execution.params["cmd"] == ["${HOME}"]


def test_names_are_made_valid_and_stay_apart_by_kind() -> None:
    made, part = draft()
    wanted = ["Web", "web", "a_b", "w-0001", "n-standby-1", "x" * 80, "!"]
    names = [made.name(name, part, what="node") for name in wanted]
    assert names == ["web", "web-2", "a-b", "w-0001-x", "n-standby-1-x", "x" * 40, "node"]
    assert made.name("web", part, what="allocation") == "web"
    assert len(part.notes.notes) == 6


def test_ports_that_cannot_be_had_become_the_providers_choice() -> None:
    made, part, _ = filled()
    for private, public in ((80, 80), (81, 8080), (82, 8080), (0, 8081)):
        made.port("n", "a", private, public, "tcp", part)
    ports = made.finish("tests", NOWHERE, {}).config.v1.nodes["n"].ports
    assert [(port.private, port.public) for port in ports] == [(80, 0), (81, 8080), (82, 0)]
    assert len(part.notes.notes) == 3


def test_volumes_are_paths_or_names() -> None:
    made, part, allocation = filled()
    for source, target in (("data", "/d"), ("/srv/x", "/x"), ("./here", "/h"), ("data", "relative")):
        made.volume(allocation, source, target, read_only=False, part=part)
    assert [volume["src"] for volume in allocation["volume"]] == ["data", "/srv/x"]
    assert len(part.notes.notes) == 3


def test_what_cannot_be_valid_is_refused() -> None:
    made, _, allocation = filled()
    allocation["execution"]["image"] = "NO IMAGE"
    with pytest.raises(Untranslatable, match="a value cannot stand in an ensemble"):
        made.finish("tests", NOWHERE, {})
    with pytest.raises(Untranslatable, match="nothing in this file runs"):
        draft()[0].finish("tests", NOWHERE, {})
