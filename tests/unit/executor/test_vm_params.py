"""Engine parameters of microVMs: what is refused, and with which words."""

from __future__ import annotations

from pathlib import Path

import pytest

from dms.executor.errors import InvalidEngineSpec
from dms.executor.vm_params import MachineParams, allowed_path
from dms.types.resources import SpecConfig

FILES: dict[str, object] = {"kernel_image": "/k", "root_file_system": "/r"}


def parse(type_: str = "firecracker", **more: object) -> MachineParams:
    return MachineParams.parse(SpecConfig(type=type_, params=FILES | more), type_)


def test_all_of_them() -> None:
    params = parse(
        kernel_args="quiet",
        cmd=["a", "b"],
        environment=["A=1"],
        working_directory="/w",
        tap_device="tap0",
        ip_address="10.0.0.2/24",
        gateway="10.0.0.1",
        mmds_message='{"a": 1}',
        timeout="90s",
    )
    assert (params.cmd, params.environment, params.timeout_s) == (("a", "b"), (("A", "1"),), 90.0)
    assert (params.tap_device, params.ip_address, params.gateway, params.dns) == ("tap0", "10.0.0.2/24", "10.0.0.1", "")


@pytest.mark.parametrize("missing", ["root_file_system", "kernel_image"])
def test_kernel_and_root_are_required(missing: str) -> None:
    spec = SpecConfig(type="firecracker", params=FILES | {missing: " "})
    with pytest.raises(InvalidEngineSpec, match=f"invalid firecracker engine params: {missing} cannot be empty"):
        MachineParams.parse(spec, "firecracker")


def test_another_type_is_refused() -> None:
    with pytest.raises(InvalidEngineSpec, match="expected qemu, but received: docker"):
        MachineParams.parse(SpecConfig(type="docker", params=dict(FILES)), "qemu")


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"cmd": "ls"}, "cmd must be a list"),
        ({"cmd": ["ls"], "initrd_path": "/i"}, "cmd needs our initial RAM disk"),
        ({"environment": ["A-B=1"]}, "environment holds the name"),
        ({"working_directory": "w"}, "must be absolute"),
        ({"kernel_args": "a\nb"}, "one line"),
        ({"kernel_args": "x" * 2000}, "one line"),
        ({"ip_address": "10.0.0.2/24"}, "need a tap_device"),
        ({"tap_device": "../x", "ip_address": "10.0.0.2/24"}, "not the name of a device"),
        ({"tap_device": "tap0"}, "does not appear to be an IPv4 or IPv6"),
        ({"tap_device": "tap0", "ip_address": "10.0.0.2/24", "gateway": "x"}, "does not appear"),
        ({"mmds_message": "{}"}, "needs a network interface"),
        ({"mmds_message": "[1]"}, "not a JSON object"),
        ({"mmds_message": "[" * 40_000}, "not a JSON object"),
        ({"machine": "pc"}, "not known here"),
        ({"surprise": 1}, "unknown parameter"),
        ({"timeout": "0s"}, "longer than 0"),
    ],
)
def test_what_cannot_work_is_refused(more: dict[str, object], reason: str) -> None:
    with pytest.raises(InvalidEngineSpec, match=reason):
        MachineParams.parse(SpecConfig(type="firecracker", params=FILES | more), "firecracker")


def test_the_machine_is_qemu_s_matter() -> None:
    assert parse("qemu").machine == "pc"
    assert parse("qemu", machine="microvm").machine == "microvm"
    with pytest.raises(InvalidEngineSpec, match='machine "mainframe"'):
        parse("qemu", machine="mainframe")
    with pytest.raises(InvalidEngineSpec, match="is for firecracker"):
        parse("qemu", mmds_message="{}")


def test_files_must_lie_where_the_provider_allows_it(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    (images / "kernel").write_bytes(b"")
    (tmp_path / "secret").write_bytes(b"")
    (images / "link").symlink_to(tmp_path / "secret")
    allowed = (images,)
    assert allowed_path("qemu", "kernel_image", "kernel", allowed) == images / "kernel"
    assert allowed_path("qemu", "kernel_image", str(images / "kernel"), allowed) == images / "kernel"
    for text in ("/etc/passwd", "../secret", "link", str(images / ".." / "secret")):
        with pytest.raises(InvalidEngineSpec, match="kernel_image is not allowed here"):
            allowed_path("qemu", "kernel_image", text, allowed)
    with pytest.raises(InvalidEngineSpec, match="there is no file none"):
        allowed_path("qemu", "kernel_image", "none", allowed)
    with pytest.raises(InvalidEngineSpec, match="there is no folder kernel"):
        allowed_path("qemu", "kernel_modules", "kernel", allowed, is_folder=True)
    with pytest.raises(InvalidEngineSpec, match="not allowed"):
        allowed_path("qemu", "kernel_image", "kernel", ())
