"""Compose files become ensembles."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.ensemble.translate.samples import notes, translated, trees, words, written

from dms.ensemble.errors import EnsembleError, Untranslatable
from dms.ensemble.groups import expanded
from dms.ensemble.translate.translation import Source

KEYS = [
    "image", "command", "entrypoint", "environment", "env_file", "working_dir", "ports", "volumes", "tmpfs", "depends_on",
    "healthcheck", "restart", "deploy", "cpus", "mem_limit", "scale", "privileged", "shm_size", "pids_limit", "hostname",
    "domainname", "network_mode", "networks", "build", "configs", "secrets", "gpus", "platform", "resources", "limits",
    "reservations", "devices", "replicas", "memory", "test", "interval", "source", "target", "type", "published", "condition",
    "content", "file", "driver_opts", "device", "count", "capabilities",
]  # fmt: skip


def services(**members: Any) -> str:
    return json.dumps({"services": members})


def one(**members: Any) -> dict[str, Any]:
    found: dict[str, Any] = written(translated(services(a={"image": "x"} | members)))["allocations"]["a"]
    return found


def test_a_service_is_an_allocation_of_a_node_of_its_own() -> None:
    found = written(
        translated(services(web={"image": "nginx:1", "command": "nginx -g 'daemon off;'", "working_dir": "/w"}))
    )
    assert found["nodes"] == {"web": {"allocations": ["web"]}}
    assert found["allocations"]["web"] == {
        "type": "service",
        "executor": "docker",
        "resources": {"cpu": {"cores": 0.5}, "ram": {"size": "512MiB"}, "disk": {"size": "1GiB"}},
        "execution": {
            "type": "docker",
            "image": "nginx:1",
            "cmd": ["nginx", "-g", "daemon off;"],
            "working_directory": "/w",
        },
    }
    assert found["subnet"] == {"join": True}


def test_services_that_need_each_other_share_a_machine() -> None:
    members = {
        "web": {"image": "x", "depends_on": {"db": {"condition": "service_started"}}},
        "db": {"image": "x", "volumes": ["data:/data"]},
        "backup": {"image": "x", "volumes": ["data:/data:ro"]},
        "other": {"image": "x"},
        "side": {"image": "x", "network_mode": "service:other"},
    }
    found = written(translated(services(**members)))
    assert sorted(node["allocations"] for node in found["nodes"].values()) == [
        ["other", "side"],
        ["web", "db", "backup"],
    ]
    assert found["allocations"]["web"]["depends_on"] == ["db"]
    assert found["allocations"]["backup"]["volume"] == [
        {"type": "local", "mount_destination": "/data", "read_only": True, "src": "data"}
    ]


def test_conditions_are_kept_and_what_must_complete_is_a_task() -> None:
    check = {"test": ["CMD", "up"]}
    members = {
        "web": {
            "image": "x",
            "depends_on": {
                "db": {"condition": "service_healthy"},
                "move": {"condition": "service_completed_successfully"},
                "log": {"condition": "service_started"},
                "bare": {"condition": "service_healthy"},
            },
        },
        "api": {"image": "x", "depends_on": ["db"]},
        "db": {"image": "x", "healthcheck": check},
        "move": {"image": "x"},
        "log": {"image": "x"},
        "bare": {"image": "x"},
    }
    done = translated(services(**members))
    found = written(done)["allocations"]
    assert found["web"]["depends_on"] == [
        "db", {"allocation": "move", "condition": "service_completed_successfully"}, "log", "bare",
    ]  # fmt: skip
    assert found["api"]["depends_on"] == [{"allocation": "db", "condition": "service_started"}]
    assert (found["move"]["type"], found["log"]["type"]) == ("task", "service")
    assert "no health check of it is in this file" in notes(done)["services.web.depends_on"]


def test_replicas_are_a_count() -> None:
    done = translated(services(web={"image": "x", "deploy": {"replicas": 3}}))
    assert done.config.v1.nodes["web"].count == 3
    assert len(expanded(done.config).v1.nodes) == 3


def test_limits_are_resources() -> None:
    devices = [{"driver": "nvidia", "count": 2, "capabilities": ["gpu"]}]
    deploy = {"resources": {"limits": {"cpus": "1.5", "memory": "256M"}, "reservations": {"devices": devices}}}
    assert one(deploy=deploy, platform="linux/arm64")["resources"] == {
        "cpu": {"cores": 1.5, "architecture": "aarch64"},
        "gpus": [{"vendor": "NVIDIA", "count": 2}],
        "ram": {"size": "256MiB"},
        "disk": {"size": "1GiB"},
    }
    assert one(cpus=0.25, mem_limit="1g")["resources"]["ram"] == {"size": "1GiB"}


@pytest.mark.parametrize(
    ("port", "opened"),
    [
        ("80", [(0, 80, "")]),
        ("8080:80", [(8080, 80, "")]),
        ("127.0.0.1:8080:80/udp", [(8080, 80, "udp")]),
        ("443:443", [(0, 443, "")]),
        ("8000-8001:90-91", [(8000, 90, ""), (8001, 91, "")]),
        ({"target": 80, "published": "${P:-9000}", "protocol": "tcp"}, [(9000, 80, "")]),
        ("80/sctp", []),
        ("http", []),
    ],
)
def test_ports_are_those_of_the_node(port: Any, opened: list[tuple[int, int, str]]) -> None:
    node = translated(services(a={"image": "x", "ports": [port]})).config.v1.nodes["a"]
    assert [(p.public, p.private, p.protocol) for p in node.ports] == opened


def test_a_low_public_port_is_told_to_become_another() -> None:
    done = translated(services(a={"image": "x", "ports": ["80:80"]}))
    assert "in place of 80" in notes(done)["services.a.ports[0]"]


@pytest.mark.parametrize(
    ("test", "words_"),
    [
        ("curl -f x", ["sh", "-c", "curl -f x"]),
        (["CMD-SHELL", "curl x"], ["sh", "-c", "curl x"]),
        (["CMD", "curl", "x"], ["curl", "x"]),
    ],
)
def test_a_health_check_is_a_command(test: Any, words_: list[str]) -> None:
    assert one(healthcheck={"test": test, "interval": "1m30s"})["healthcheck"] == {
        "type": "command",
        "exec": words_,
        "interval": "90s",
    }
    assert "healthcheck" not in one(healthcheck={"test": ["NONE"]})


def test_variables_stay_variables_where_they_are_only_passed_on() -> None:
    text = services(a={"image": "app:${TAG:-1}", "environment": ["A=${A}", "B=$${B}", "C"], "mem_limit": "${MEM}"})
    done = translated(text, MEM="1g", TAG="9", C="see")
    assert done.config.v1.allocations["a"].execution.params["image"] == "app:9"
    assert done.config.v1.allocations["a"].execution.params["environment"] == ["A=", "B=${B}", "C=see"]
    assert '"app:${TAG:-1}"' in done.text
    assert "1GiB" in done.text


def test_configs_are_written_by_a_script(tmp_path: Path) -> None:
    (tmp_path / "a.conf").write_text("it's ${X}\n")
    text = json.dumps(
        {
            "services": {"a": {"image": "x", "configs": ["one"], "secrets": [{"source": "two", "target": "/t"}]}},
            "configs": {"one": {"file": "./a.conf"}},
            "secrets": {"two": {"environment": "TOKEN"}, "unused": {"file": "../../etc/passwd"}},
        }
    )
    done = translated(text, tmp_path, TOKEN="t0k")
    assert list(done.config.v1.allocations["a"].provision) == ["a-one", "a-two"]
    scripts = done.config.v1.scripts
    assert b"it'\"'\"'s ${X}\n" in scripts["a-one"]
    assert b"\nt0k\n" in scripts["a-two"]


def test_files_of_variables_are_read_beside_the_file_only(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "below/vars").write_text('# x\nA=1\nexport B="two"\nbroken\n')
    (tmp_path / "secret").write_text("C=3\n")
    done = translated(services(a={"image": "x", "env_file": ["vars", "../secret"]}), tmp_path / "below")
    assert done.config.v1.allocations["a"].execution.params["environment"] == ["A=1", "B=two"]
    assert "no such file" in notes(done)["services.a.env_file"]


def test_everything_that_is_left_out_is_named_with_its_line() -> None:
    text = """\
services:
  a:
    image: x
    build: .
    cap_add: [NET_ADMIN]
    frobnicate: 1
    volumes: ["./here:/there"]
networks: {front: {}}
"""
    done = translated(text)
    assert {(note.line, note.path): note.reason for note in done.notes} == {
        (4, "services.a.build"): "left out: images are not built by providers",
        (5, "services.a.cap_add"): "left out: providers grant no more capabilities",
        (6, "services.a.frobnicate"): "left out: it has no counterpart in an ensemble",
        (7, "services.a.volumes[0]"): "left out: a provider does not have the files of this machine",
        (8, "networks"): "left out: there is one private network for the whole ensemble",
    }
    assert all(f"line {note.line}, {note.path}" in done.text for note in done.notes)


def test_names_become_valid_and_stay_apart() -> None:
    done = translated(services(**{name: {"image": "x"} for name in ("a_b", "a.b", "ä", "w-0001", "A_B")}))
    assert sorted(done.config.v1.nodes) == ["a-b", "a-b-2", "a-b-3", "allocation", "w-0001-x"]


def test_a_file_in_which_nothing_runs_is_refused() -> None:
    with pytest.raises(
        Untranslatable, match=r"nothing in this file runs: job:1:\d+: services\.a: left out: it has no image"
    ):
        translated(services(a={"build": "."}))


def test_a_value_that_cannot_stand_in_an_ensemble_is_refused() -> None:
    with pytest.raises(Untranslatable, match="not a valid image name"):
        translated(services(a={"image": "NOT AN IMAGE"}))


@settings(max_examples=100)
@given(
    st.dictionaries(words, st.dictionaries(st.sampled_from(KEYS), trees(KEYS), max_size=6), max_size=3), st.booleans()
)
def test_whatever_stands_in_it_it_is_translated_validly_or_refused(members: dict[str, Any], has_image: bool) -> None:
    for member in members.values():
        member |= {"image": "nginx:1"} if has_image else {}
    document = {"services": members, "volumes": {"vol": {"driver": "nfs"}}, "configs": {"a": {"content": "x"}}}
    with contextlib.suppress(EnsembleError):
        translated(json.dumps(document), source=Source.COMPOSE, A="1")
