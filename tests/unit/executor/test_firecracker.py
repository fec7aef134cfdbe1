"""The requests to Firecracker, held one by one against its published description; and whether it can be used at all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import msgspec
import pytest
import trio
import yaml

from dms.executor import firecracker_api as api
from dms.executor.errors import ExecutorUnavailable
from dms.executor.firecracker import FirecrackerExecutor
from dms.testing.firecracker import Description, Instance, Refused

REQUESTS = [
    api.Logger(log_path="l", level="Error", show_level=True),
    api.Metrics(metrics_path="m"),
    api.MachineConfiguration(vcpu_count=2, mem_size_mib=128),
    api.BootSource(kernel_image_path="k", boot_args="quiet", initrd_path="i"),
    api.Drive(drive_id="root", path_on_host="r", is_root_device=False, is_read_only=True),
    api.NetworkInterface(iface_id="eth0", host_dev_name="tap0", guest_mac="06:00:00:00:00:01"),
    api.MmdsConfig(network_interfaces=("eth0",), version="V2"),
    api.Action(action_type="InstanceStart"),
]


@pytest.fixture(scope="module")
def description() -> Description:
    path = Path(__file__).parents[2] / "data" / "firecracker-openapi.yaml"
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return Description(yaml.load(path.read_bytes(), Loader=loader))


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda r: type(r).__name__)
def test_every_request_is_as_the_description_wants_it(description: Description, request_: api.Request) -> None:
    description.check(request_.method, request_.path, msgspec.json.encode(request_), has_started=False)


def test_pausing_is_for_machines_that_run(description: Description) -> None:
    for state in ("Paused", "Resumed"):
        body = msgspec.json.encode(api.Vm(state=state))
        description.check("PATCH", "/vm", body, has_started=True)


@pytest.mark.parametrize(
    ("method", "path", "body", "reason"),
    [
        ("PUT", "/boot-source", {}, "lacks kernel_image_path"),
        ("PUT", "/boot-source", {"kernel_image_path": "k", "surprise": 1}, "unknown field surprise"),
        ("PUT", "/machine-config", {"vcpu_count": 64, "mem_size_mib": 1}, "out of range"),
        ("PUT", "/machine-config", {"vcpu_count": "2", "mem_size_mib": 1}, "not of type integer"),
        ("PUT", "/machine-config", {"vcpu_count": True, "mem_size_mib": 1}, "not of type integer"),
        ("PUT", "/actions", {"action_type": "Explode"}, "none of"),
        ("PUT", "/drives/a", {"drive_id": "b", "is_root_device": False}, "not that in the body"),
        ("PUT", "/mmds/config", {"network_interfaces": "eth0"}, "not of type array"),
        ("DELETE", "/boot-source", {}, "there is no DELETE /boot-source"),
        ("PUT", "/nothing", {}, "there is no PUT /nothing"),
    ],
)
def test_the_played_firecracker_refuses_what_the_real_one_would(
    description: Description, method: str, path: str, body: dict[str, object], reason: str
) -> None:
    with pytest.raises(Refused, match=reason):
        description.check(method, path, json.dumps(body).encode(), has_started=False)


def test_what_is_for_before_the_start_is_refused_after_it(description: Description) -> None:
    body = msgspec.json.encode(REQUESTS[3])
    with pytest.raises(Refused, match="after starting"):
        description.check("PUT", "/boot-source", body, has_started=True)


def test_a_machine_without_a_kernel_does_not_start(
    description: Description, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    instance = Instance("x", description)
    with pytest.raises(Refused, match="without kernel"):
        instance.handle("PUT", "/actions", b'{"action_type": "InstanceStart"}')
    with pytest.raises(Refused, match="No such file"):
        instance.handle("PUT", "/boot-source", b'{"kernel_image_path": "none"}')
    with pytest.raises(Refused, match="1 or an even"):
        instance.handle("PUT", "/machine-config", b'{"vcpu_count": 3, "mem_size_mib": 1}')
    assert instance.handle("GET", "/", b"")["state"] == "Not started"


async def test_without_the_program_there_is_no_executor(
    nursery: trio.Nursery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ExecutorUnavailable, match="there is no firecracker on the PATH"):
        await FirecrackerExecutor.open(nursery, tmp_path, image_dirs=[])
    program(tmp_path, "firecracker", "exit 0")
    with pytest.raises(ExecutorUnavailable, match="jailer is not on the PATH"):
        await FirecrackerExecutor.open(nursery, tmp_path, image_dirs=[], with_jailer=True)


async def test_a_program_that_does_not_answer_is_not_used(
    nursery: trio.Nursery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    busybox = shutil.which("busybox")
    if busybox is None:
        pytest.skip("needs BusyBox: apt-get install busybox-static")
    (tmp_path / "busybox").symlink_to(busybox)
    monkeypatch.setenv("PATH", str(tmp_path))
    program(tmp_path, "firecracker", "exit 1")
    with pytest.raises(ExecutorUnavailable, match="firecracker does not work"):
        await FirecrackerExecutor.open(nursery, tmp_path, image_dirs=[])


def program(directory: Path, name: str, script: str) -> None:
    (directory / name).write_text(f"#!/bin/sh\n{script}\n")
    (directory / name).chmod(0o755)
