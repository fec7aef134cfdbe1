"""The Debian package on a Debian of its own: installed, run as its user the way its unit does, upgraded, purged.

One machine for all tests, which are steps in this order: a bare Debian (``DMS_TEST_DEBIAN``, a tar file of what debootstrap
leaves) and the package (``DMS_TEST_PACKAGE``). There is no systemd in a folder, so the tests do for the service what the
unit asks systemd to do; the node runs in a network namespace without any way out.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from dms import __version__

pytestmark = pytest.mark.package

UNIT = "usr/lib/systemd/system/nunet.service"
NEWER = "99.0"
ALIVE_S = 90.0
"""How long is waited for what the node tells; it never takes so long unless it is wrong."""
CHANGING = re.compile(
    r"^(proc|sys|tmp|run|var/(lib/dpkg|log|cache|lib/systemd)"
    r"|etc/(passwd-|group-|shadow-|gshadow-|subuid-?|subgid-?|\.pwd\.lock))(/|$)"
)
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin", "LC_ALL": "C"}
INSIDE = 'ip link set lo up && mount -t proc proc "$0/proc" && u=$1 && shift && exec chroot --userspec="$u" "$0" "$@"'


class Debian:
    """A bare Debian in a folder."""

    def __init__(self, root: Path, package: Path) -> None:
        self.root, self.package = root, package
        self.found = self.files()
        self.users = self.names()

    def run(self, *command: str) -> str:
        """What a command there prints; it must succeed."""
        done = subprocess.run(
            ["chroot", str(self.root), *command],
            capture_output=True,
            text=True,
            env={"PATH": "/usr/sbin:/usr/bin", "LC_ALL": "C"},
        )
        assert done.returncode == 0, f"{command}: {done.stdout}\n{done.stderr}"
        return done.stdout

    def install(self, package: Path) -> None:
        """Install or upgrade."""
        target = self.root / "tmp" / package.name
        shutil.copyfile(package, target)
        self.run("dpkg", "--force-unsafe-io", "--install", f"/tmp/{package.name}")
        target.unlink()

    def files(self) -> set[str]:
        """Every path but those of logs, caches and dpkg's own records."""
        names = (str(path.relative_to(self.root)) for path in self.root.rglob("*"))
        return {name for name in names if not CHANGING.match(name)}

    def names(self) -> str:
        """Users and groups."""
        return "".join((self.root / "etc" / name).read_text() for name in ("passwd", "group", "shadow", "gshadow"))

    def unit(self) -> dict[str, list[str]]:
        """The settings of the unit."""
        settings: dict[str, list[str]] = {}
        for line in (self.root / UNIT).read_text().splitlines():
            if re.match(r"[A-Za-z]+=", line):
                name, _, value = line.partition("=")
                settings.setdefault(name, []).append(value)
        return settings

    def did(self) -> str:
        """Who the service is."""
        (key,) = (self.root / "var/lib/nunet/identity/key").glob("*.json")
        return key.name + key.read_text()


class Service:
    """The node as its unit runs it, and what it tells the service manager."""

    def __init__(self, debian: Debian, process: subprocess.Popen[bytes], notify: socket.socket) -> None:
        self.debian, self.process, self._notify = debian, process, notify

    def wait_for(self, wanted: str) -> list[str]:
        """What it tells until it tells ``wanted``."""
        heard: list[str] = []
        while wanted not in heard:
            try:
                heard += self._notify.recv(4096).decode().split("\n")
            except TimeoutError:
                log = (self.debian.root / "var/log/nunet/nunet.log").read_text() if self.process.poll() is None else ""
                pytest.fail(f"no {wanted}; ended: {self.process.poll()}; heard: {heard}; log: {log[-2000:]}")
        return heard

    def answer(self, path: str) -> str:
        """The status of what its REST server answers."""
        script = (
            f"import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:9999{path}', timeout=30).status)"
        )
        inside = ["nsenter", "--net", f"--target={self.process.pid}", "python3", "-c", script]
        return subprocess.run(inside, check=True, capture_output=True, text=True).stdout

    def stop(self) -> int:
        """End it in order; its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(ALIVE_S)


@pytest.fixture(scope="module")
def debian(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Debian]:
    root = tmp_path_factory.mktemp("debian")
    root.chmod(0o755)
    subprocess.run(["tar", "--extract", "--file", os.environ["DMS_TEST_DEBIAN"], "--directory", root], check=True)
    yield Debian(root, Path(os.environ["DMS_TEST_PACKAGE"]))
    shutil.rmtree(root)


@pytest.fixture
def newer(debian: Debian, tmp_path: Path) -> Path:
    """The same package with a higher version."""
    folder, path = tmp_path / "unpacked", tmp_path / f"nunet-dms_{NEWER}.deb"
    subprocess.run(["dpkg-deb", "--raw-extract", debian.package, folder], check=True)
    control = folder / "DEBIAN/control"
    control.write_text(re.sub(r"(?m)^Version: .*", f"Version: {NEWER}", control.read_text()))
    subprocess.run(["dpkg-deb", "-Znone", "--build", folder, path], check=True, capture_output=True)
    shutil.rmtree(folder)
    return path


@contextlib.contextmanager
def running(debian: Debian) -> Iterator[Service]:
    """The service, with what the unit asks for: its user, the credential, the socket, signs of life."""
    unit = debian.unit()
    credentials, address = debian.root / "run/credentials/nunet", debian.root / "run/notify"
    credentials.mkdir(parents=True, exist_ok=True)
    name, _, source = unit["LoadCredential"][0].partition(":")
    shutil.copyfile(debian.root / source.lstrip("/"), credentials / name)
    user = debian.run("id", "-u", unit["User"][0]).strip()
    os.chown(credentials / name, int(user), -1)
    (credentials / name).chmod(0o400)
    credentials.chmod(0o755)
    address.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(address))
        address.chmod(0o777)
        notify.settimeout(ALIVE_S)
        user_group = f"{unit['User'][0]}:{unit['Group'][0]}"
        with subprocess.Popen(
            ["unshare", "--mount", "--net", "sh", "-c", INSIDE, debian.root, user_group, *unit["ExecStart"][0].split()],
            env=ENVIRONMENT
            | {
                "NOTIFY_SOCKET": "/run/notify",
                "WATCHDOG_USEC": "2000000",
                "CREDENTIALS_DIRECTORY": "/run/credentials/nunet",
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            try:
                yield Service(debian, process, notify)
            finally:
                process.kill()
    shutil.rmtree(debian.root / "run/credentials")
    address.unlink()


def test_it_installs_and_its_program_runs(debian: Debian) -> None:
    debian.install(debian.package)
    assert debian.run("nunet", "--version") == f"nunet {__version__}\n"
    assert "Deploy an ensemble" in debian.run("nunet", "deploy", "--help")
    secret = debian.root / "etc/nunet/passphrase"
    assert secret.stat().st_mode & 0o777 == 0o600
    assert secret.stat().st_uid == 0
    assert len(secret.read_text()) == 44
    assert "nunet" in (debian.root / "usr/share/bash-completion/completions/nunet").read_text()
    assert debian.run("dpkg", "--verify", "nunet-dms") == ""


def test_the_manual_page_names_every_command(debian: Debian) -> None:
    page = debian.run("sh", "-c", "gzip -dc /usr/share/man/man1/nunet.1.gz")
    assert {"nunet deploy", "nunet cap grant", "nunet run"} <= set(re.findall(r"(?m)^\.SS (nunet [a-z ]*[a-z])", page))


def test_an_environment_meant_for_others_does_not_reach_the_program(debian: Debian) -> None:
    (debian.root / "tmp/dms.py").write_text("raise SystemExit('someone else')")
    assert debian.run("env", "PYTHONPATH=/tmp", "PYTHONHOME=/tmp", "nunet", "--version") == f"nunet {__version__}\n"
    (debian.root / "tmp/dms.py").unlink()


def test_the_service_runs_as_its_user_is_watched_and_stops_in_order(debian: Debian) -> None:
    with running(debian) as service:
        assert any(line.startswith("STATUS=peer 12D3") for line in service.wait_for("READY=1"))
        service.wait_for("WATCHDOG=1")
        status = Path(f"/proc/{service.process.pid}/status").read_text()
        assert re.search(rf"(?m)^Uid:\t{debian.run('id', '-u', 'nunet').strip()}\t", status)
        assert "200" in service.answer("/api/v1/health")
        secret = (debian.root / "etc/nunet/passphrase").read_text().encode()
        for name in ("cmdline", "environ"):
            assert secret not in Path(f"/proc/{service.process.pid}/{name}").read_bytes()
        assert secret not in (debian.root / "var/log/nunet/nunet.log").read_bytes()
        service.process.send_signal(signal.SIGTERM)
        service.wait_for("STOPPING=1")
        assert service.process.wait(ALIVE_S) == 0
    assert all(json.loads(line) for line in (debian.root / "var/log/nunet/nunet.log").read_text().splitlines())


def test_an_upgrade_keeps_who_it_is_and_what_was_set(debian: Debian, newer: Path) -> None:
    before, settings = debian.did(), debian.root / "etc/nunet/service.json"
    passphrase = (debian.root / "etc/nunet/passphrase").read_text()
    changed = json.loads(settings.read_text())
    changed["general"]["host_city"] = "Lisbon"
    settings.write_text(json.dumps(changed))
    debian.install(newer)
    assert debian.run("dpkg-query", "--show", "--showformat=${Version}", "nunet-dms") == NEWER
    assert json.loads(settings.read_text()) == changed
    assert (debian.root / "etc/nunet/passphrase").read_text() == passphrase
    with running(debian) as service:
        service.wait_for("READY=1")
        assert service.stop() == 0
    assert debian.did() == before


def test_removed_it_keeps_the_work_and_purged_nothing_is_left(debian: Debian) -> None:
    debian.run("dpkg", "--force-unsafe-io", "--remove", "nunet-dms")
    assert not (debian.root / "usr/bin/nunet").exists()
    assert (debian.root / "var/lib/nunet/identity/key").is_dir()
    debian.run("dpkg", "--force-unsafe-io", "--purge", "nunet-dms")
    assert debian.files() == debian.found
    assert debian.names() == debian.users
