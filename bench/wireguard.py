"""Debian's ``wireguard-go``, a private network in user space as ours is, between two machines that are network namespaces."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from dms.testing.netns import Namespace

ADDRESSES = ("10.9.0.1", "10.9.0.2")
_PACKAGE = "wireguard-go"
_SOCKETS = Path("/var/run/wireguard")
_PORT = 51820
_WAIT_S = 10.0


class Tunnel:
    """Two processes, one on each machine; the far end answers at the second of :data:`ADDRESSES`."""

    def __init__(self, processes: list[psutil.Process]) -> None:
        self._processes = processes

    def cpu_s(self) -> tuple[float, float]:
        """Processor time of the near and of the far end."""
        near, far = (sum(process.cpu_times()[:2]) for process in self._processes)
        return near, far


def find(scratch: Path) -> str:
    """The program: installed, or unpacked from Debian's package; empty where neither is to be had."""
    if installed := shutil.which(_PACKAGE):
        return installed
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        return ""
    fetched = subprocess.run(["apt-get", "download", _PACKAGE], cwd=scratch, capture_output=True, check=False)
    packages = list(scratch.glob(f"{_PACKAGE}_*.deb"))
    if fetched.returncode or not packages:
        return ""
    subprocess.run(["dpkg-deb", "-x", str(packages[0]), str(scratch / _PACKAGE)], check=True)
    return str(scratch / _PACKAGE / "usr" / "bin" / _PACKAGE)


@contextmanager
def tunnel(program: str, machines: tuple[Namespace, Namespace]) -> Iterator[Tunnel]:
    """Both ends, configured."""
    private = [X25519PrivateKey.generate() for _ in machines]
    had_sockets = _SOCKETS.exists()
    with ExitStack() as stack:
        processes = []
        for number, machine in enumerate(machines):
            device = f"wg-{machine.name[-8:]}"
            process = stack.enter_context(machine.process([program, "-f", device]))
            processes.append(psutil.Process(process.pid))  # "ip netns exec" becomes it
            other = 1 - number
            _configure(
                _SOCKETS / f"{device}.sock",
                {
                    "private_key": private[number].private_bytes_raw().hex(),
                    "listen_port": _PORT,
                    "public_key": private[other].public_key().public_bytes_raw().hex(),
                    "endpoint": f"{machines[other].address}:{_PORT}",
                    "allowed_ip": f"{ADDRESSES[other]}/32",
                },
            )
            for step in (
                ("addr", "add", f"{ADDRESSES[number]}/24", "dev", device),
                ("link", "set", device, "mtu", "1420", "up"),
            ):
                subprocess.run(["ip", "-n", machine.name, *step], check=True, capture_output=True)
        yield Tunnel(processes)
    if not had_sockets:
        shutil.rmtree(_SOCKETS, ignore_errors=True)


def _configure(path: Path, values: Mapping[str, object]) -> None:
    deadline = time.monotonic() + _WAIT_S
    while not path.exists():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{_PACKAGE} does not listen at {path}")
        time.sleep(0.05)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(path))
        sock.sendall(("set=1\n" + "".join(f"{key}={value}\n" for key, value in values.items()) + "\n").encode())
        answer = sock.recv(1000).decode()
    if "errno=0" not in answer:
        raise OSError(f"{_PACKAGE} refuses: {answer.strip()}")
