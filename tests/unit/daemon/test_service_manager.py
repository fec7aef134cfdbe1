from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import trio.testing

from dms.daemon.service_manager import ServiceManager


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.setblocking(False)
        yield sock


def told(listener: socket.socket) -> list[str]:
    lines: list[str] = []
    while True:
        try:
            lines += listener.recv(4096).decode().split("\n")
        except BlockingIOError:
            return lines


def test_it_is_told_what_happens(listener: socket.socket) -> None:
    environ = {"NOTIFY_SOCKET": listener.getsockname(), "PATH": "/bin"}
    manager = ServiceManager.of_environment(environ)
    assert environ == {"PATH": "/bin"}
    manager.ready("peer 12D3\nFAKE=1")
    manager.stopping()
    lines = told(listener)
    assert lines[:3] == ["READY=1", "STATUS=peer 12D3 FAKE=1", f"MAINPID={os.getpid()}"]
    assert lines[3:] == ["STOPPING=1", "STATUS=stopping"]


def test_an_abstract_address_is_known_by_its_at_sign() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(f"\0nunet-test-{os.getpid()}")
        sock.setblocking(False)
        ServiceManager(f"@nunet-test-{os.getpid()}").stopping()
        assert told(sock)[0] == "STOPPING=1"


async def test_signs_of_life_come_twice_as_often_as_they_must(
    listener: socket.socket, autojump_clock: trio.testing.MockClock
) -> None:
    environ = {"NOTIFY_SOCKET": listener.getsockname(), "WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(os.getpid())}
    manager = ServiceManager.of_environment(environ)
    with trio.move_on_after(299):
        await manager.show_life()
    assert told(listener) == ["WATCHDOG=1"] * 10


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"WATCHDOG_USEC": "60000000"},
        {"NOTIFY_SOCKET": "HERE", "WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"},
        {"NOTIFY_SOCKET": "HERE", "WATCHDOG_USEC": "soon"},
        {"NOTIFY_SOCKET": "vsock:2:1234", "WATCHDOG_USEC": "1"},
    ],
)
async def test_where_nobody_watches_no_sign_is_given(environ: dict[str, str], listener: socket.socket) -> None:
    here = {k: listener.getsockname() if v == "HERE" else v for k, v in environ.items()}
    await ServiceManager.of_environment(here).show_life()
    assert told(listener) == []


def test_a_deaf_manager_hurts_nobody(tmp_path: Path) -> None:
    ServiceManager(str(tmp_path / "nobody")).ready("fine")
