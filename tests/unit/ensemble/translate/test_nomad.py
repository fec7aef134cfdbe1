"""Nomad job files become ensembles."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.ensemble.translate.samples import notes, translated, trees, words, written

from dms.ensemble.config import COMPLETED, Dependency
from dms.ensemble.errors import EnsembleError, InvalidEnsemble, Untranslatable
from dms.ensemble.translate.draft import Translation
from dms.ensemble.translate.translation import Source

JOB = """\
variable "tag" { default = "7" }
job "cache" {
  datacenters = ["dc1"]
  group "redis" {
    count = 2
    network {
      port "db" { to = 6379 }
      port "web" { static = 8080 }
    }
    volume "data" {
      type = "host"
      source = "redisdata"
    }
    ephemeral_disk { size = 300 }
    task "redis" {
      driver = "docker"
      config {
        image = "redis:${var.tag}"
        ports = ["db"]
        args  = ["--save", "60"]
      }
      env {
        A = "1"
      }
      template {
        data = <<EOH
hello ${X}
EOH
        destination = "local/x.txt"
      }
      volume_mount {
        volume = "data"
        destination = "/data"
      }
      resources {
        cpu    = 500 # MHz
        memory = 256
        device "nvidia/gpu" { count = 2 }
      }
      service {
        name = "redis-cache"
        check {
          type = "script"
          command = "redis-cli"
          args = ["ping"]
          interval = "10s"
        }
      }
    }
  }
}
"""
API = {
    "Job": {
        "ID": "cache", "Name": "cache", "Type": "service", "Datacenters": ["dc1"], "CreateIndex": 7,
        "TaskGroups": [{
            "Name": "redis", "Count": 2, "EphemeralDisk": {"SizeMB": 300},
            "Networks": [{"DynamicPorts": [{"Label": "db", "To": 6379}], "ReservedPorts": [{"Label": "web", "Value": 8080}]}],
            "Volumes": {"data": {"Type": "host", "Source": "redisdata"}},
            "Tasks": [{
                "Name": "redis", "Driver": "docker",
                "Config": {"image": "redis:7", "ports": ["db"], "args": ["--save", "60"]},
                "Env": {"A": "1"},
                "Templates": [{"EmbeddedTmpl": "hello ${X}\n", "DestPath": "local/x.txt"}],
                "VolumeMounts": [{"Volume": "data", "Destination": "/data"}],
                "Resources": {"CPU": 500, "MemoryMB": 256, "Devices": [{"Name": "nvidia/gpu", "Count": 2}]},
                "Services": [{"Name": "redis-cache", "Checks": [
                    {"Type": "script", "Command": "redis-cli", "Args": ["ping"], "Interval": "10s"}]}],
            }],
        }],
    }
}  # fmt: skip
KEYS = [
    "group", "task", "count", "network", "port", "to", "static", "volume", "driver", "config", "image", "args", "command",
    "env", "template", "data", "destination", "resources", "cpu", "memory", "device", "service", "check", "name", "type",
    "restart", "lifecycle", "hook", "volume_mount", "source", "ports", "job", "ephemeral_disk", "size",
]  # fmt: skip


def hcl(body: str) -> str:
    return f'job "j" {{\n group "g" {{\n{body}\n }}\n}}'


def task(name: str = "t", more: str = "", config: str = "") -> str:
    return f'task "{name}" {{\n driver = "docker"\n config {{\n image = "x"\n {config}\n }}\n {more}\n}}'


def job(text: str) -> Translation:
    return translated(text, file="x.nomad.hcl")


def test_a_group_is_a_node_and_its_tasks_are_its_allocations() -> None:
    done = job(JOB)
    assert written(done) == {
        "version": "V1",
        "metadata": {"job": "cache"},
        "scripts": {"redis-x.txt": "#!/bin/sh\nset -eu\nmkdir -p /local\nprintf %s 'hello $${X}\n' >/local/x.txt\n"},
        "allocations": {
            "redis": {
                "type": "service",
                "executor": "docker",
                "resources": {
                    "cpu": {"cores": 0.5},
                    "gpus": [{"vendor": "NVIDIA", "count": 2}],
                    "ram": {"size": "256MiB"},
                    "disk": {"size": "300MiB"},
                },
                "execution": {
                    "type": "docker",
                    "image": "redis:7",
                    "cmd": ["--save", "60"],
                    "environment": {"A": "1"},
                },
                "dns_name": "redis-cache",
                "provision": ["redis-x.txt"],
                "healthcheck": {"type": "command", "exec": ["redis-cli", "ping"], "interval": "10s"},
                "volume": [{"type": "local", "mount_destination": "/data", "src": "redisdata"}],
            }
        },
        "nodes": {
            "redis": {
                "allocations": ["redis"],
                "ports": [
                    {"private": 6379, "allocation": "redis"},
                    {"public": 8080, "private": 8080, "allocation": "redis"},
                ],
                "count": 2,
            }
        },
        "subnet": {"join": True},
    }
    assert {note.line for note in done.notes} == {3, 25}


def test_the_form_of_the_api_says_the_same() -> None:
    assert written(translated(json.dumps(API))) == written(job(JOB))


def test_the_json_syntax_says_the_same() -> None:
    simple = {
        "job": {"j": {"type": "batch", "group": {"g": {"task": {"t": {"driver": "docker", "config": {"image": "x"}}}}}}}
    }
    expected = job(
        'job "j" {\n type = "batch"\n group "g" {\n task "t" {\n driver = "docker"\n config { image = "x" }\n}\n}\n}'
    )
    assert written(translated(json.dumps(simple))) == written(expected)
    assert expected.config.v1.allocations["t"].type == "task"


def test_what_runs_before_is_depended_on() -> None:
    done = job(hcl(task("main") + "\n" + task("prepare", 'lifecycle { hook = "prestart" }')))
    allocations = done.config.v1.allocations
    assert allocations["main"].depends_on == (Dependency(allocation="prepare", condition=COMPLETED),)
    assert (allocations["main"].type, allocations["prepare"].type) == ("service", "task")
    beside = job(hcl(task("main") + "\n" + task("log", 'lifecycle {\n hook = "prestart"\n sidecar = true\n}')))
    assert beside.config.v1.allocations["main"].depends_on == ("log",)
    assert beside.config.v1.allocations["log"].type == "service"


def test_what_runs_afterwards_depends_on_the_others() -> None:
    done = job(hcl(task("main") + "\n" + task("tell", 'lifecycle { hook = "poststart" }'))).config.v1.allocations
    assert (done["tell"].depends_on, done["tell"].type, done["main"].depends_on) == (("main",), "task", ())
    stop = job(hcl(task("main") + "\n" + task("tidy", 'lifecycle { hook = "poststop" }')))
    assert "the hook poststop is left out" in notes(stop)["job[0].group[0].task[1].lifecycle"]


def test_other_drivers_are_named() -> None:
    done = job(hcl(task() + '\ntask "e" {\n driver = "exec"\n config { command = "/bin/x" }\n}'))
    assert list(done.config.v1.allocations) == ["t"]
    assert "the driver 'exec' has no counterpart" in notes(done)["job[0].group[0].task[1]"]
    with pytest.raises(Untranslatable, match="nothing in this file runs"):
        job(hcl('task "e" {\n driver = "exec"\n}'))


def test_what_only_a_cluster_knows_stays_text_and_is_named() -> None:
    done = job(hcl(task(more='env { A = "${NOMAD_ADDR_db}" }\n resources { cpu = var.cpu }')))
    assert done.config.v1.allocations["t"].execution.params["environment"] == ["A=${NOMAD_ADDR_db}"]
    assert "an expression that is not evaluated" in notes(done)["job[0].group[0].task[0].env[0].A"]
    assert "an expression that is not evaluated" in notes(done)["job[0].group[0].task[0].resources[0].cpu"]


def test_templates_with_expressions_are_named() -> None:
    done = job(hcl(task(more='template {\n data = "{{ key }}"\n destination = "/x"\n}')))
    assert notes(done)["job[0].group[0].task[0].template[0]"] == "left out: templates are not evaluated"


def test_templates_of_variables_are_environment() -> None:
    done = job(hcl(task(more='template {\n env = true\n data = "A=1\\nB=two\\n"\n destination = "x"\n}')))
    assert done.config.v1.allocations["t"].execution.params["environment"] == ["A=1", "B=two"]


def test_everything_that_is_left_out_has_its_line() -> None:
    done = job('job "j" {\n group "g" {\n  ' + task() + "\n update { max_parallel = 1 }\n frob = 1\n }\n vault {}\n}")
    found = {note.path: note.line for note in done.notes}
    assert found == {"job[0].group[0].update": 11, "job[0].group[0].frob": 12, "job[0].vault": 14}


def test_a_file_that_is_not_hcl_is_refused_with_its_place() -> None:
    with pytest.raises(InvalidEnsemble, match=r"x\.nomad\.hcl:2:11: not HCL: a value was expected"):
        job('job "j" {\n  count = \n}')


@settings(max_examples=80)
@given(st.dictionaries(st.sampled_from(KEYS), trees(KEYS), max_size=5), trees(KEYS), words)
def test_whatever_stands_in_it_it_is_translated_validly_or_refused(
    more: dict[str, Any], config: Any, name: str
) -> None:
    whole = {"driver": "docker", "config": {"image": "x"}} | more
    group = {"task": {name: whole}, "volume": config, "network": config, "service": config}
    with contextlib.suppress(EnsembleError):
        translated(json.dumps({"job": {"j": {"group": {name: group}}}}), source=Source.NOMAD)
    api = {"Job": {"TaskGroups": [{"Name": name, "Networks": config, "Volumes": config, "Tasks": [whole]}]}}
    with contextlib.suppress(EnsembleError):
        translated(json.dumps(api))
