"""The RAM disk that makes a folder bootable."""

from __future__ import annotations

import io
import lzma
from pathlib import Path

import pytest

from dms.executor.errors import ExecutorUnavailable, StartFailed
from dms.executor.initrd import Card, Drive, Guest, find_modules, static_busybox, write_initrd
from dms.testing.firecracker import read_cpio


def files(tmp_path: Path, **more: object) -> dict[str, bytes]:
    root = tmp_path / "root"
    root.mkdir(exist_ok=True)
    (root / "own").write_bytes(b"own")
    busybox = tmp_path / "busybox"
    busybox.write_bytes(b"a program")
    values: dict[str, object] = {
        "cmd": ("echo", "it's"),
        "environment": (("A", "b c"),),
        "working_directory": "/w",
        "root": root,
        "tty": "ttyS0",
        "hostname": "me",
    }
    out = io.BytesIO()
    guest = Guest(**(values | more))  # type: ignore[arg-type]
    write_initrd(out, guest, busybox=busybox, modules=(("virtio", b"module"),))
    return read_cpio(out.getvalue())


def test_it_holds_the_folder_and_what_runs_it(tmp_path: Path) -> None:
    found = files(tmp_path, provision=(("set up/1", b"#!/bin/sh\n"),))
    assert found["own"] == b"own"
    assert found[".nunet/bin/busybox"] == b"a program"
    assert found[".nunet/init"].startswith(b"#!/.nunet/bin/busybox sh\n")
    assert found[".nunet/modules/00-virtio.ko"] == b"module"
    assert found[".nunet/provision/000-set-up-1"] == b"#!/bin/sh\n"
    launch = found[".nunet/launch"].decode()
    assert launch.index("provision/000-set-up-1 || exit $?") < launch.index("exec 'echo' 'it'\\''s'")
    assert "export A='b c'" in found[".nunet/environment"].decode()
    assert "cd '/w' || exit 126" in found[".nunet/environment"].decode()


def test_drives_and_network_are_told(tmp_path: Path) -> None:
    found = files(
        tmp_path,
        root="vda",
        inputs=(Drive("vdb", "/in"),),
        outputs=(Drive("vdc", "/out"),),
        cards=(
            Card("52:54:00:00:00:01", "10.0.0.2/24", "10.0.0.1"),
            Card("52:54:00:00:00:02", "10.0.1.2/24", dns="10.0.1.1"),
        ),
    )
    assert "own" not in found
    assert found[".nunet/root"] == b"vda\n"
    assert (found[".nunet/inputs"], found[".nunet/outputs"]) == (b"vdb /in\n", b"vdc /out\n")
    assert found[".nunet/network"].decode().splitlines() == [
        "52:54:00:00:00:01 10.0.0.2/24 10.0.0.1 - - - - - -",
        "52:54:00:00:00:02 10.0.1.2/24 - 10.0.1.1 - - - - -",
    ]


def test_modules_come_after_those_they_need(tmp_path: Path) -> None:
    (tmp_path / "kernel").mkdir()
    for name, needs in (("virtio", ""), ("virtio_ring", "virtio"), ("virtio-net", "virtio_ring,virtio")):
        (tmp_path / "kernel" / f"{name}.ko").write_bytes(b"\x7fELF\0depends=%s\0" % needs.encode())
    packed = lzma.compress(b"\0depends=virtio_ring\0")
    (tmp_path / "kernel" / "virtio_blk.ko.xz").write_bytes(packed)
    found = find_modules(tmp_path, ("virtio_net", "virtio_blk", "built_in"))
    assert [name for name, _ in found] == ["virtio", "virtio_ring", "virtio_net", "virtio_blk"]
    assert found[-1][1] == b"\0depends=virtio_ring\0"


def test_a_module_packed_in_an_unknown_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "virtio_blk.ko.zst").write_bytes(b"")
    with pytest.raises(StartFailed, match=r"virtio_blk\.ko\.zst is packed in a way"):
        find_modules(tmp_path, ("virtio_blk",))


def test_modules_that_need_each_other_end(tmp_path: Path) -> None:
    for name, needs in (("a", b"b"), ("b", b"a")):
        (tmp_path / f"{name}.ko").write_bytes(b"\0depends=%s\0" % needs)
    assert {name for name, _ in find_modules(tmp_path, ("a",))} == {"a", "b"}


def test_busybox_must_be_there_and_need_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ExecutorUnavailable, match="there is no busybox"):
        static_busybox()
    (tmp_path / "busybox").write_bytes(b"\x7fELF /lib64/ld-linux-x86-64.so.2")
    (tmp_path / "busybox").chmod(0o755)
    with pytest.raises(ExecutorUnavailable, match="not a static program"):
        static_busybox()
    (tmp_path / "busybox").write_bytes(b"\x7fELF")
    assert static_busybox() == tmp_path / "busybox"


def test_a_folder_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    with pytest.raises(StartFailed, match="cannot be packed"):
        files(tmp_path, root=tmp_path / "none")
