"""A Docker engine of one's own for tests: its own socket, images, containers and bridge; nothing of it is left.

It needs root and the engine's programs (Debian: ``apt-get install -y docker.io busybox-static iproute2``).
"""

from __future__ import annotations

import io
import os
import secrets
import shutil
import signal
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

START_TIMEOUT_S, STOP_TIMEOUT_S = 30.0, 20.0
POLL_S = 0.05
SUBNET = 213
"""Second number of the bridges' addresses."""
APPLETS = ("cat", "dd", "dirname", "echo", "env", "false", "head", "httpd", "id", "kill", "ls", "mkdir", "nc", "seq")
MORE_APPLETS = ("sh", "sleep", "tail", "touch", "true", "wc", "wget", "yes")


@dataclass(frozen=True, slots=True)
class TestEngine:
    """A running engine."""

    __test__ = False  # for pytest

    socket: Path
    bridge: str

    @property
    def host(self) -> str:
        """What ``DOCKER_HOST`` would be."""
        return f"unix://{self.socket}"


@contextmanager
def docker_engine() -> Iterator[TestEngine]:
    """Run an engine. Containers get a private bridge without a way out; published ports work on this machine.

    :raises RuntimeError: it does not start; the end of its log says why.
    """
    # a short path: names of sockets have 107 characters at most
    directory = Path(tempfile.mkdtemp(prefix="dms-docker-"))
    bridge = f"dms-{secrets.token_hex(4)}"
    _ip("link", "add", bridge, "type", "bridge")
    try:
        _ip("addr", "add", f"10.{SUBNET}.{secrets.randbelow(250) + 1}.1/24", "dev", bridge)
        _ip("link", "set", bridge, "up")
        with _running(directory, bridge) as engine:
            yield engine
    finally:
        with suppress(subprocess.CalledProcessError):
            _ip("link", "delete", bridge)
        _unmount_below(directory)
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def _running(directory: Path, bridge: str) -> Iterator[TestEngine]:
    engine = TestEngine(directory / "docker.sock", bridge)
    command = ["dockerd", "--data-root", str(directory / "data"), "--exec-root", str(directory / "exec")]
    command += ["-H", engine.host, "--pidfile", str(directory / "pid"), "--bridge", bridge]
    command += ["--iptables=false", "--ip6tables=false", "--ip-masq=false", "--ip-forward=false"]
    log = directory / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while b"API listen on" not in log.read_bytes():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("dockerd does not start:\n" + log.read_text("utf-8", "replace")[-2000:])
            time.sleep(POLL_S)
        yield engine
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        _stop_containerd(directory)


def busybox_image() -> bytes:
    """The file system of a small image, as a tar archive.

    :raises FileNotFoundError: no static busybox (Debian: ``apt-get install -y busybox-static``).
    """
    found = shutil.which("busybox")
    if found is None:
        raise FileNotFoundError("busybox not found: apt-get install -y busybox-static")
    program = Path(found).read_bytes()
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, mode in (("bin", 0o755), ("dev", 0o755), ("etc", 0o755), ("proc", 0o755), ("tmp", 0o1777)):
            info = tarfile.TarInfo(name)
            info.type, info.mode = tarfile.DIRTYPE, mode
            tar.addfile(info)
        info = tarfile.TarInfo("bin/busybox")
        info.size, info.mode = len(program), 0o755
        tar.addfile(info, io.BytesIO(program))
        for name in (*APPLETS, *MORE_APPLETS):
            info = tarfile.TarInfo(f"bin/{name}")
            info.type, info.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(info)
    return archive.getvalue()


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


def _stop_containerd(directory: Path) -> None:
    """It ends with dockerd, unless that had to be killed."""
    with suppress(OSError, ValueError):
        os.kill(int((directory / "exec/containerd/containerd.pid").read_text()), signal.SIGTERM)


def _unmount_below(directory: Path) -> None:
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for mount in sorted((m for m in mounts if m.startswith(f"{directory}/")), reverse=True):
        subprocess.run(["umount", "-l", mount], check=False, capture_output=True)
