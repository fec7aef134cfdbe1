"""A Docker engine of one's own for tests: its own socket, images, containers and bridge; nothing of it is left.
Podman's service likewise.

It needs root and the engine's programs (Debian: ``apt-get install -y docker.io busybox-static iproute2``, or
``podman crun``).
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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

START_TIMEOUT_S, STOP_TIMEOUT_S, EXEC_TIMEOUT_S = 30.0, 20.0, 60.0
POLL_S = 0.05
IMAGE = "dms-test/busybox:1"
"""The name that tests give to :func:`busybox_image`."""
MAPPED_USER, MAPPED_GROUP = "nobody", "nogroup"
MAPPED_ROOT = 231072
"""User and group of this machine that root is in the containers of an engine that maps users."""
FILE_SYSTEM_BYTES = 512 * 1024 * 1024
"""What an engine's own file system holds; files with holes are made, which take less."""
SUBNET = 213
"""Second number of the bridges' addresses."""
APPLETS = ("cat", "chmod", "chown", "dd", "dirname", "echo", "env", "false", "head", "httpd", "id", "kill", "ls")
MORE_APPLETS = (
    "ip",
    "mkdir",
    "nc",
    "nslookup",
    "ping",
    "seq",
    "sh",
    "sleep",
    "tail",
    "tar",
    "test",
    "touch",
    "true",
    "wc",
    "wget",
    "yes",
)


class TestEngine:
    """An engine that runs, and that a test may kill and start again."""

    __test__ = False  # for pytest

    def __init__(
        self,
        directory: Path,
        bridge: str,
        namespace: str = "",
        *,
        options: Sequence[str] = (),
        prefix: Sequence[str] = (),
    ) -> None:
        self._directory, self.bridge, self._namespace = directory, bridge, namespace
        self._options, self._prefix = tuple(options), tuple(prefix)
        self.socket = directory / "docker.sock"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def directory(self) -> Path:
        """Where all that it has lies, and by which its processes are known."""
        return self._directory

    @property
    def host(self) -> str:
        """What ``DOCKER_HOST`` would be."""
        return f"unix://{self.socket}"

    def start(self) -> None:
        """Run it; returns when it listens.

        :raises RuntimeError: it does not; the end of its log says why.
        """
        command = [
            *(("nsenter", f"--net=/run/netns/{self._namespace}") if self._namespace else ()),
            *self._prefix,
            "dockerd",
            "--data-root",
            str(self._directory / "data"),
            "--exec-root",
            str(self._directory / "exec"),
        ]
        command += ["-H", self.host, "--pidfile", str(self._directory / "pid")]
        if self._namespace:
            command += ["--bip", f"10.{SUBNET}.0.1/24"]
        else:
            command += ["--bridge", self.bridge, "--iptables=false", "--ip6tables=false"]
            command += ["--ip-masq=false", "--ip-forward=false"]
        command += self._options
        log = self._directory / "log"
        with log.open("wb") as output:
            self._process = subprocess.Popen(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + START_TIMEOUT_S
        while b"API listen on" not in log.read_bytes():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("dockerd does not start:\n" + log.read_text("utf-8", "replace")[-2000:])
            time.sleep(POLL_S)

    def kill(self) -> None:
        """End it at once, as a crash does; its containers live on without it until it comes back."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        (self._directory / "pid").unlink(missing_ok=True)
        _stop_containerd(self._directory, signal.SIGKILL)

    def stop(self) -> None:
        """End it and its containers, and the bridges of its networks, which engines leave behind."""
        bridges = self._bridges()
        self._end()
        for bridge in bridges:
            with suppress(subprocess.CalledProcessError):
                _ip("link", "delete", bridge)

    def container_of(self, execution: str) -> str:
        """The container of an execution whose id ends so."""
        listed = self._told("ps", "--format", '{{.ID}} {{.Label "nunet-executionID"}}')
        (name,) = [line.split()[0] for line in listed.splitlines() if line.endswith(execution)]
        return name

    def pid_of(self, execution: str) -> str:
        """A process in it."""
        return self._told("inspect", "--format", "{{.State.Pid}}", self.container_of(execution)).strip()

    def inside(self, execution: str, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in it, as the owner of the machine could."""
        words = ["docker", "-H", self.host, "exec", self.container_of(execution), *command]
        return subprocess.run(words, capture_output=True, text=True, timeout=EXEC_TIMEOUT_S, check=False)

    def _told(self, *command: str) -> str:
        return subprocess.run(["docker", "-H", self.host, *command], capture_output=True, text=True, check=True).stdout

    def _bridges(self) -> list[str]:
        """Of networks that whoever used it has not removed, such as a test that failed."""
        if self._namespace:
            return []  # they go with it
        command = ["docker", "-H", self.host, "network", "ls", "--filter", "type=custom", "--format", "br-{{.ID}}"]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()

    def _end(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        _stop_containerd(self._directory)


@contextmanager
def docker_engine(
    *, maps_users: bool = False, file_system: Sequence[str] = (), options: Sequence[str] = ()
) -> Iterator[TestEngine]:
    """Run an engine. Containers get a private bridge without a way out; published ports work on this machine.

    :param maps_users: root in its containers is the user :data:`MAPPED_ROOT` of this machine.
    :param file_system: the command that makes one for its data, in a file that is mounted while it runs.
    :param options: more of ``dockerd``.
    :raises RuntimeError: it does not start; the end of its log says why.
    """
    # a short path: names of sockets have 107 characters at most
    directory = Path(tempfile.mkdtemp(prefix="dms-docker-"))
    bridge = f"dms-{secrets.token_hex(4)}"
    _ip("link", "add", bridge, "type", "bridge")
    try:
        _ip("addr", "add", f"10.{SUBNET}.{secrets.randbelow(250) + 1}.1/24", "dev", bridge)
        _ip("link", "set", bridge, "up")
        if file_system:
            _mount_new(directory, file_system)
        prefix = _mapping_users(directory) if maps_users else ()
        options = (*options, f"--userns-remap={MAPPED_USER}:{MAPPED_GROUP}") if maps_users else options
        engine = TestEngine(directory, bridge, options=options, prefix=prefix)
        try:
            engine.start()
            yield engine
        finally:
            engine.stop()
    finally:
        with suppress(subprocess.CalledProcessError):
            _ip("link", "delete", bridge)
        _unmount_below(directory)
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def docker_engine_with_firewall() -> Iterator[TestEngine]:
    """Run an engine that makes rules for packets as engines usually do, in a network namespace of its own.

    :raises RuntimeError: it does not start; the end of its log says why.
    """
    namespace = f"dms-{secrets.token_hex(4)}"
    _ip("netns", "add", namespace)
    try:
        _ip("-n", namespace, "link", "set", "lo", "up")
        with docker_engine_inside(namespace) as engine:
            engine.start()
            yield engine
    finally:
        with suppress(subprocess.CalledProcessError):
            _ip("netns", "delete", namespace)


@contextmanager
def docker_engine_inside(namespace: str) -> Iterator[TestEngine]:
    """An engine to be started in that network namespace, with rules for packets, as engines usually make them."""
    directory = Path(tempfile.mkdtemp(prefix="dms-docker-"))
    try:
        engine = TestEngine(directory, "docker0", namespace)
        try:
            yield engine
        finally:
            engine.stop()
    finally:
        _unmount_below(directory)
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def podman_service() -> Iterator[str]:
    """Run Podman's service with images and containers of its own; what ``DOCKER_HOST`` would be.

    Containers must be given no network: Podman would set one up on this machine.

    :raises RuntimeError: it does not start.
    """
    directory = Path(tempfile.mkdtemp(prefix="dms-podman-"))
    socket, log = directory / "podman.sock", directory / "log"
    own = [
        "--root",
        str(directory / "root"),
        "--runroot",
        str(directory / "run"),
        "--cgroup-manager",
        "cgroupfs",
        "--runtime",
        "runc",
    ]
    command = ["podman", *own, "system", "service", "--time", "0", f"unix://{socket}"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
            cwd=directory,  # it leaves files there
        )
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not socket.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("podman does not start:\n" + log.read_text("utf-8", "replace")[-2000:])
            time.sleep(POLL_S)
        yield f"unix://{socket}"
    finally:
        subprocess.run(["podman", *own, "rm", "--all", "--force", "--time", "0"], check=False, capture_output=True)
        process.terminate()
        process.wait(STOP_TIMEOUT_S)
        for _ in range(10):  # what cleans up after a container mounts the store once more
            _end_all_of(directory)
            _unmount_below(directory)
            shutil.rmtree(directory, ignore_errors=True)
            if not directory.exists():
                break
            time.sleep(4 * POLL_S)


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


def _mount_new(directory: Path, command: Sequence[str]) -> None:
    """A file system of its own for an engine's data."""
    file, data = directory / "data.img", directory / "data"
    with file.open("wb") as image:
        image.truncate(FILE_SYSTEM_BYTES)
    data.mkdir()
    subprocess.run([*command, str(file)], check=True, capture_output=True)
    subprocess.run(["mount", "-o", "loop", str(file), str(data)], check=True, capture_output=True)


def _mapping_users(directory: Path) -> tuple[str, ...]:
    """What a command is put behind to see our own files of users' ranges in place of the machine's."""
    script = 'for f in uid gid; do mount --bind "$0/sub$f" "/etc/sub$f"; done; exec "$@"'
    for kind in ("uid", "gid"):
        (directory / f"sub{kind}").write_text(f"{MAPPED_USER}:{MAPPED_ROOT}:65536\n")
        Path(f"/etc/sub{kind}").touch()
    directory.chmod(0o711)  # the mapped root must find its way to what is below
    return ("unshare", "--mount", "sh", "-ec", script, str(directory))


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


def _stop_containerd(directory: Path, by: signal.Signals = signal.SIGTERM) -> None:
    """It ends with dockerd, unless that was killed; the next dockerd must not take its remains for a living one."""
    pid_file = directory / "exec/containerd/containerd.pid"
    with suppress(OSError, ValueError):
        pid = int(pid_file.read_text())
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while time.monotonic() < deadline:
            os.kill(pid, by)
            time.sleep(POLL_S)
    pid_file.unlink(missing_ok=True)


def _end_all_of(directory: Path) -> None:
    """Podman's containers each have a process beside them, which cleans up after its end."""
    deadline = time.monotonic() + STOP_TIMEOUT_S / 4
    while left := [p for p in psutil.process_iter(["cmdline"]) if str(directory) in " ".join(p.info["cmdline"] or ())]:
        if time.monotonic() > deadline:
            for process in left:
                with suppress(psutil.Error):
                    process.kill()
        time.sleep(POLL_S)


def _unmount_below(directory: Path) -> None:
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for mount in sorted((m for m in mounts if m.startswith(f"{directory}/")), reverse=True):
        subprocess.run(["umount", "-l", mount], check=False, capture_output=True)
