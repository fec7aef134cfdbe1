"""Which engine it is, where it listens and what it can do; and which devices a container gets."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dms.executor.docker.devices import gpu_config
from dms.executor.docker.engine import Engine, find_host
from dms.executor.errors import Unsupported
from dms.types.resources import GPU

DOCKER = {"Version": "28.2.2", "Components": [{"Name": "Engine"}, {"Name": "containerd"}]}
LIMITS = {"MemoryLimit": True, "SwapLimit": True, "PidsLimit": True, "CpuCfsQuota": True}


def test_the_socket_is_found_docker_first_then_podman_then_those_without_root() -> None:
    there: set[str] = set()

    def found(**environment: str) -> str:
        return find_host(environment=environment, is_socket=lambda path: str(path) in there)

    assert found() == "unix:///var/run/docker.sock"
    there.add("/run/user/7/podman/podman.sock")
    assert found(XDG_RUNTIME_DIR="/run/user/7") == "unix:///run/user/7/podman/podman.sock"
    assert found() == "unix:///var/run/docker.sock"
    there.add("/run/user/7/docker.sock")
    assert found(XDG_RUNTIME_DIR="/run/user/7") == "unix:///run/user/7/docker.sock"
    there.add("/run/podman/podman.sock")
    assert found(XDG_RUNTIME_DIR="/run/user/7") == "unix:///run/podman/podman.sock"
    assert found(DOCKER_HOST="unix:///mine.sock") == "unix:///mine.sock"
    assert find_host("unix:///given.sock", environment={"DOCKER_HOST": "unix:///mine.sock"}) == "unix:///given.sock"


def test_a_plain_docker_shares_its_root_with_the_machine_and_says_so() -> None:
    info = {"SecurityOptions": ["name=seccomp,profile=default"], "DockerRootDir": "/var/lib/docker", **LIMITS}
    engine = Engine.read(DOCKER, info | {"InitBinary": "docker-init", "Driver": "overlay2"})
    assert (engine.kind, engine.version, engine.has_init) == ("docker", "28.2.2", True)
    assert [text.partition(":")[0] for text in engine.weaknesses()] == ["root in a container is root of the machine"]


def test_an_engine_that_maps_users_tells_whom_containers_take_for_root() -> None:
    info = {"SecurityOptions": ["name=seccomp,profile=builtin", "name=userns"], **LIMITS}
    engine = Engine.read(DOCKER, info | {"DockerRootDir": "/var/lib/docker/100000.100001"})
    assert engine.mapped_owner == (100000, 100001)
    assert engine.weaknesses() == ()


def test_podman_without_root_and_without_limits_is_told_from_the_rest() -> None:
    version = {"Version": "4.3.1", "Components": [{"Name": "Podman Engine"}]}
    engine = Engine.read(version, {"SecurityOptions": ["name=seccomp,profile=unconfined", "name=rootless"]})
    assert (engine.kind, engine.is_rootless, engine.mapped_owner) == ("podman", True, None)
    assert len(engine.weaknesses()) == 4


@pytest.mark.parametrize("info", [{}, {"SecurityOptions": "x", "Runtimes": 3}, {"SecurityOptions": [None, 3, {}]}])
def test_no_answer_of_an_engine_breaks_the_reading(info: dict[str, object]) -> None:
    assert Engine.read({"Components": [None, {}, {"Name": None}]}, info).kind == "docker"


def test_gpus_of_nvidia_are_asked_for_by_uuid() -> None:
    gpus = [GPU(index=1, vendor="NVIDIA", uuid="GPU-a"), GPU(index=0, vendor="NVIDIA", uuid="GPU-b")]
    assert gpu_config(gpus) == {
        "DeviceRequests": [
            {"Driver": "nvidia", "DeviceIDs": ["GPU-a", "GPU-b"], "Capabilities": [["gpu", "compute", "utility"]]}
        ]
    }
    assert gpu_config([]) == {}
    with pytest.raises(Unsupported, match="no UUID"):
        gpu_config([GPU(vendor="NVIDIA")])


def test_of_other_vendors_only_the_nodes_of_the_very_card_are_given(tmp_path: Path) -> None:
    for address, number in (("0000:03:00.0", 0), ("0000:0a:00.0", 1)):
        for name in (f"card{number}", f"renderD{128 + number}"):
            (tmp_path / "sys/bus/pci/devices" / address / "drm" / name).mkdir(parents=True)
            (tmp_path / "dev/dri").mkdir(parents=True, exist_ok=True)
            (tmp_path / "dev/dri" / name).touch()
    (tmp_path / "dev/kfd").touch()
    sys, dev = tmp_path / "sys", tmp_path / "dev"
    made = gpu_config([GPU(vendor="AMD/ATI", pci_address="0A:00.0")], sys=sys, dev=dev)
    assert [device["PathInContainer"] for device in made["Devices"]] == [
        "/dev/kfd",
        "/dev/dri/card1",
        "/dev/dri/renderD129",
    ]
    assert made["GroupAdd"] == [str(os.getgid())]
    made = gpu_config([GPU(vendor="Intel Corporation", pci_address="0000:03:00.0")], sys=sys, dev=dev)
    assert [device["PathOnHost"] for device in made["Devices"]] == [f"{dev}/dri/card0", f"{dev}/dri/renderD128"]
    with pytest.raises(Unsupported, match="no device nodes"):
        gpu_config([GPU(vendor="Intel", pci_address="../../..")], sys=sys, dev=dev)
    with pytest.raises(Unsupported, match="vendor"):
        gpu_config([GPU(vendor="Acme")], sys=sys, dev=dev)
