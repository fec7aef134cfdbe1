"""QEMU's command line, and real machines: few, as each takes some seconds."""

from __future__ import annotations

import secrets
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from tests.modules import need_modules

from dms.executor.errors import ExecutorUnavailable, StartFailed, Unsupported
from dms.executor.machine_files import DriveFile
from dms.executor.protocol import EndReason, ExecutionRequest, LogStreamRequest, Mount, PortBinding
from dms.executor.qemu import QemuExecutor
from dms.executor.tap import create_tap, remove_tap
from dms.executor.vm_machine import Machine
from dms.executor.vm_params import MachineParams
from dms.testing.vms import make_images
from dms.types.resources import CPU, RAM, Disk, Resources, SpecConfig

MIB = 1 << 20
ID = "job_node.machine"


def request(directory: Path, command: str = "true", **params: object) -> ExecutionRequest:
    spec: dict[str, object] = {"kernel_image": "vmlinuz", "root_file_system": "root", "cmd": ["sh", "-c", command]}
    resources = Resources(cpu=CPU(cores=1), ram=RAM(size=192 * MIB), disk=Disk(size=4 * MIB))
    return ExecutionRequest("job", ID, SpecConfig(type="qemu", params=spec | params), resources, directory / "results")


def machine(directory: Path, asked: ExecutionRequest, *drives: DriveFile) -> Machine:
    params = MachineParams.parse(asked.engine, "qemu")
    return Machine(ID, directory, params, 2, 192, "quiet", True, drives, asked, None)


def words(nursery: trio.Nursery, made: Machine, *, uses_kvm: bool = False) -> str:
    binary = Path("/usr/bin/qemu-system-x86_64")
    executor = QemuExecutor(nursery, made.directory, image_dirs=[], binary=binary, uses_kvm=uses_kvm)
    return " ".join(executor._argv(made))


async def test_a_machine_has_what_it_needs_and_nothing_else(nursery: trio.Nursery, tmp_path: Path) -> None:
    line = words(nursery, machine(tmp_path, request(tmp_path)))
    assert "-nodefaults -no-user-config -no-reboot -display none" in line
    assert "-machine pc,accel=tcg,usb=off" in line
    assert "-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny" in line
    assert "-smp 2 -m 192M -kernel kernel -initrd initrd -append quiet" in line
    assert "-netdev" not in line
    assert "virtio" not in line


async def test_drives_network_and_kvm_are_added(nursery: trio.Nursery, tmp_path: Path) -> None:
    asked = request(tmp_path, tap_device="tap0", ip_address="10.0.0.2/24", machine="microvm")
    drives = (DriveFile("root", is_read_only=False, is_root=True, format="qcow2"), DriveFile("input-0", True))
    line = words(nursery, machine(tmp_path, asked, *drives), uses_kvm=True)
    assert "-machine microvm,accel=kvm" in line
    assert "-cpu host" in line
    assert "file=root,if=none,id=drive0,format=qcow2,readonly=off -device virtio-blk-device,drive=drive0" in line
    assert "file=input-0,if=none,id=drive1,format=raw,readonly=on" in line
    assert "-netdev tap,id=net,fd={tap} -device virtio-net-device,netdev=net,mac=52:54:" in line


async def test_ports_are_bound_by_a_network_that_carries_nothing_else(nursery: trio.Nursery, tmp_path: Path) -> None:
    asked = replace(request(tmp_path), ports=(PortBinding("127.0.0.1", 8080, 80), PortBinding("", 53, 53, "udp")))
    line = words(nursery, machine(tmp_path, asked))
    assert "user,id=net,net=192.0.2.0/24,restrict=on,ipv6=off,hostfwd=tcp:127.0.0.1:8080-:80 " in line
    assert ":53" not in line, "such a network drops answers by UDP; the private network leads them in"


async def test_without_a_private_network_udp_is_refused_and_not_silently_lost(
    nursery: trio.Nursery, tmp_path: Path
) -> None:
    executor = QemuExecutor(nursery, tmp_path / "state", image_dirs=[], binary=Path("/none"), uses_kvm=False)
    with pytest.raises(Unsupported, match="QEMU lets no UDP in"):
        await executor.start(replace(request(tmp_path), ports=(PortBinding("", 53, 53, "udp"),)))


async def test_a_machine_with_an_address_of_its_own_binds_no_ports(nursery: trio.Nursery, tmp_path: Path) -> None:
    executor = QemuExecutor(nursery, tmp_path / "state", image_dirs=[], binary=Path("/none"), uses_kvm=False)
    asked = request(tmp_path, tap_device="tap0", ip_address="10.0.0.2/24")
    with pytest.raises(Unsupported, match="without a tap_device only"):
        await executor.start(replace(asked, ports=(PortBinding("", 1, 1),)))


async def test_without_the_program_there_is_no_executor(
    nursery: trio.Nursery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ExecutorUnavailable, match="there is no qemu-system-x86_64"):
        await QemuExecutor.open(nursery, tmp_path, image_dirs=[])


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_images(tmp_path_factory.mktemp("images"))


@pytest.fixture
async def executor(nursery: trio.Nursery, tmp_path: Path, images: Path) -> AsyncIterator[QemuExecutor]:
    binary = Path(shutil.which("qemu-system-x86_64") or "")
    made = QemuExecutor(nursery, tmp_path / "state", image_dirs=[images], binary=binary, uses_kvm=False)
    try:
        yield made
    finally:
        with trio.CancelScope(shield=True):
            await made.cleanup()


async def commands_one_upon_the_other(executor: QemuExecutor) -> None:
    """None is lost that arrives just when another one ends."""
    with trio.fail_after(60):
        for number in range(24):
            assert (await executor.exec(ID, ("echo", str(number)))).stdout == b"%d\n" % number


@pytest.mark.vm
async def test_a_machine_sees_its_volumes_answers_on_its_ports_and_leaves_its_results(
    executor: QemuExecutor, images: Path, tmp_path: Path
) -> None:
    need_modules(images)
    given, left = tmp_path / "given", tmp_path / "left"
    (given / "sub").mkdir(parents=True)
    (given / "sub" / "file").write_text("from the host\n")
    left.mkdir()
    port = free_port()
    command = "cat /data/sub/file; echo hello >/www; echo result >/out/file; httpd -p 80 -h /; cat /prepared; "
    command += "until [ -e /done ]; do sleep 0.1; done"
    asked = replace(
        request(tmp_path, command, kernel_modules="modules"),
        inputs=(Mount(given, "/data", read_only=True),),
        outputs=(Mount(left, "/out"),),
        ports=(PortBinding("127.0.0.1", port, 80),),
        provision_scripts=(("prepare", b"#!/bin/sh\necho provisioned >/prepared\n"),),
    )
    await executor.start(asked)
    async for chunk in executor.logs(LogStreamRequest(ID, follow=True)):
        if b"provisioned" in chunk:
            break
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        await stream.send_all(b"GET /www HTTP/1.0\r\n\r\n")
        answer = b"".join([chunk async for chunk in stream])
    assert answer.endswith(b"hello\n")
    await commands_one_upon_the_other(executor)
    assert (await executor.exec(ID, ("touch", "/done"))).exit_code == 0
    result = await executor.wait(ID)
    assert result.ok, result
    assert result.stdout_path is not None
    assert result.stdout_path.read_text() == "from the host\nprovisioned\n"
    assert (left / "file").read_text() == "result\n"


@pytest.mark.vm
@pytest.mark.netns
async def test_a_machine_has_its_address_on_a_tap_device(executor: QemuExecutor, images: Path, tmp_path: Path) -> None:
    need_modules(images)
    device = f"dms{secrets.token_hex(4)}"
    create_tap(device, "10.213.255.1/30")
    try:
        params = {"tap_device": device, "ip_address": "10.213.255.2/30", "gateway": "10.213.255.1"}
        await executor.start(request(tmp_path, "httpd -f -p 80 -h /bin", kernel_modules="modules", **params))
        info = await executor.info(ID)
        assert info.net is not None
        assert (info.net.ip_address, info.net.host_bridge) == ("10.213.255.2", device)
        assert (await executor.exec(ID, ("true",))).exit_code == 0  # the guest is up
        async with await until_open("10.213.255.2") as stream:
            await stream.send_all(b"GET /none HTTP/1.0\r\n\r\n")
            assert b"404" in b"".join([chunk async for chunk in stream])
        await executor.remove(ID)
    finally:
        remove_tap(device)


async def until_open(address: str) -> trio.SocketStream:
    while True:
        try:
            return await trio.open_tcp_stream(address, 80)
        except OSError:
            await trio.sleep(0.05)


@pytest.mark.vm
async def test_a_machine_boots_from_an_image(executor: QemuExecutor, images: Path, tmp_path: Path) -> None:
    maker = shutil.which("mke2fs") or shutil.which("/sbin/mke2fs")
    if maker is None or not (images / "modules").is_dir():
        pytest.skip("needs mke2fs and the kernel's modules")
    command = [maker, "-q", "-t", "ext4", "-d", str(images / "root"), str(images / "image"), "16M"]
    await trio.run_process(command, stdin=subprocess.DEVNULL)
    before = (images / "image").read_bytes()
    await executor.start(
        request(tmp_path, "echo mine >/own; cat /own", root_file_system="image", kernel_modules="modules")
    )
    result = await executor.wait(ID)
    assert result.ok, result
    assert result.stdout_path is not None
    assert result.stdout_path.read_text() == "mine\n"
    assert (images / "image").read_bytes() == before  # the machine has a clone


@pytest.mark.vm
async def test_a_program_that_uses_up_the_memory_is_told_of(executor: QemuExecutor, tmp_path: Path) -> None:
    await executor.start(request(tmp_path, "/bin/busybox dd if=/dev/zero of=/dev/null bs=150M count=1; exit $?"))
    result = await executor.wait(ID)
    assert result.reason is EndReason.OUT_OF_MEMORY, result
    assert result.exit_code == 137


@pytest.mark.vm
async def test_what_is_no_kernel_does_not_boot(executor: QemuExecutor, images: Path, tmp_path: Path) -> None:
    (images / "garbage").write_bytes(b"this is no kernel" * 100)
    with pytest.raises(StartFailed, match="kernel"):
        await executor.start(request(tmp_path, kernel_image="garbage"))
    assert await executor.list() == ()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
