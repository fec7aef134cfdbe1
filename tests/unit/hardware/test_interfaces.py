from pathlib import Path

import psutil

from dms.hardware.interfaces import read_interfaces


def test_the_real_interfaces_are_told() -> None:
    found = {interface.name: interface for interface in read_interfaces(Path("/"))}
    assert set(found) == set(psutil.net_if_stats())
    assert found["lo"].kind == "loopback"
    assert "127.0.0.1/8" in found["lo"].addresses
    assert all(0 <= interface.speed_bps < 1 << 50 for interface in found.values())


def test_kinds_are_told_by_what_lies_beside_an_interface(tmp_path: Path) -> None:
    name = next(name for name in psutil.net_if_stats() if name != "lo")
    assert {i.name: i.kind for i in read_interfaces(tmp_path)}[name] == "virtual"
    (tmp_path / "sys/class/net" / name / "device").mkdir(parents=True)
    assert {i.name: i.kind for i in read_interfaces(tmp_path)}[name] == "ethernet"
    (tmp_path / "sys/class/net" / name / "wireless").mkdir()
    assert {i.name: i.kind for i in read_interfaces(tmp_path)}[name] == "wireless"


def test_hardware_comes_first_and_loopback_last() -> None:
    kinds = [interface.kind for interface in read_interfaces(Path("/"))]
    assert kinds == sorted(kinds, key=("ethernet", "wireless", "virtual", "loopback").index)
