"""The initial RAM disk that makes a plain folder, or an image without an init of its own, bootable.

It holds the folder itself, and in ``/.nunet`` the agent (``guest_agent.sh``), a static BusyBox of the provider, the
kernel modules that are needed to see drives and networks, and what is to be run.
"""

from __future__ import annotations

import gzip
import lzma
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from dms.executor.console import shell_words
from dms.executor.cpio import CpioWriter
from dms.executor.errors import ExecutorUnavailable, StartFailed

HOME = ".nunet"
INIT = f"/{HOME}/init"
"""Kernel argument ``rdinit``."""
AGENT = Path(__file__).with_name("guest_agent.sh")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MAX_FOLDER_BYTES = 1 << 30
MODULE_READERS = {".ko": lambda data: data, ".xz": lzma.decompress, ".gz": gzip.decompress}


@dataclass(frozen=True, slots=True)
class Drive:
    """A block device of the guest and where its content goes: ``vdb``, ``/data``."""

    device: str
    target: str


@dataclass(frozen=True, slots=True)
class Card:
    """A network card of the guest, found by its hardware address, and what it is given; what is empty is not."""

    mac: str
    address: str
    gateway: str = ""
    """The way to everybody else."""
    dns: str = ""
    mtu: int = 0
    ipv6: str = ""
    network6: str = ""
    router6: str = ""
    """The way there."""
    host: str = ""
    """Who else is on the link, at an address outside of the network."""

    @property
    def line(self) -> str:
        """As the agent reads it."""
        first = (self.mac, self.address, self.gateway, self.dns, str(self.mtu or ""))
        parts = (*first, self.ipv6, self.network6, self.router6, self.host)
        return " ".join(part or "-" for part in parts) + "\n"


@dataclass(frozen=True, slots=True)
class Guest:
    """What runs in the guest. ``root`` is the folder that becomes its root, or the drive that holds it."""

    cmd: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    working_directory: str
    root: Path | str
    tty: str
    hostname: str
    provision: tuple[tuple[str, bytes], ...] = ()
    inputs: tuple[Drive, ...] = ()
    outputs: tuple[Drive, ...] = ()
    cards: tuple[Card, ...] = ()


def write_initrd(out: BinaryIO, guest: Guest, *, busybox: Path, modules: Sequence[tuple[str, bytes]]) -> None:
    """Write it.

    :raises StartFailed: the folder cannot be packed.
    """
    archive = CpioWriter(out, limit_bytes=MAX_FOLDER_BYTES)
    try:
        if isinstance(guest.root, Path):
            archive.tree(guest.root)
    except (ValueError, OSError) as exc:
        raise StartFailed(f"the folder {guest.root} cannot be packed: {exc}") from None
    archive.directory("dev")
    if "dev/console" not in archive:
        archive.device("dev/console", 0o600, 5, 1)
    archive.directory(HOME, 0o700)
    archive.file(f"{HOME}/bin/busybox", busybox.read_bytes(), 0o755)
    archive.file(INIT, AGENT.read_bytes(), 0o755)
    for index, (name, data) in enumerate(modules):
        archive.file(f"{HOME}/modules/{index:02d}-{name}.ko", data)
    for name, text in _files(guest).items():
        archive.file(f"{HOME}/{name}", text.encode("utf-8", "surrogateescape"))
    for index, (name, body) in enumerate(guest.provision):
        archive.file(f"{HOME}/provision/{_script(index, name)}", body, 0o755)
    archive.finish()


def static_busybox() -> Path:
    """The provider's BusyBox.

    :raises ExecutorUnavailable: there is none, or it needs libraries.
    """
    hint = "apt-get install busybox-static"
    found = shutil.which("busybox")
    if found is None:
        raise ExecutorUnavailable("there is no busybox, which runs the guests of microVMs", hint=hint)
    with Path(found).open("rb") as file:
        start = file.read(4096)
    if not start.startswith(b"\x7fELF") or b"/ld-" in start:  # the name of the dynamic loader stands at the start
        raise ExecutorUnavailable(f"{found} is not a static program", hint=hint)
    return Path(found)


def find_modules(directory: Path, wanted: Sequence[str]) -> tuple[tuple[str, bytes], ...]:
    """The wanted modules with those that they need, in the order in which they can be loaded. One that is not there is
    taken to be part of the kernel.

    :raises StartFailed: one is packed in a way that is not known.
    """
    files = {re.sub(r"\.ko.*$", "", path.name).replace("-", "_"): path for path in directory.rglob("*.ko*")}
    found: dict[str, bytes] = {}

    def add(name: str, depth: int = 0) -> None:
        path = files.get(name)
        if path is None or name in found or depth > len(files):
            return
        read = MODULE_READERS.get(path.suffix)
        if read is None:
            raise StartFailed(f"the kernel module {path.name} is packed in a way that is not known here")
        data = read(path.read_bytes())
        for needed in _needs(data):
            add(needed, depth + 1)
        found[name] = data

    for name in wanted:
        add(name)
    return tuple(found.items())


def _needs(module: bytes) -> list[str]:
    match = re.search(rb"\0depends=([\w,-]*)\0", module)
    return [name.replace("-", "_") for name in match[1].decode().split(",") if name] if match else []


def _files(guest: Guest) -> dict[str, str]:
    """The small files that the agent reads, by name below its home."""
    exports = [
        f"export {name}={shell_words([value])}"
        for name, value in (("PATH", PATH), ("HOME", "/root"), *guest.environment)
    ]
    directory = shell_words([guest.working_directory or "/"])
    enter = "\n".join([*exports, f"cd {directory} || exit 126", ""])
    provision = [
        f"/{HOME}/provision/{_script(index, name)} || exit $?" for index, (name, _) in enumerate(guest.provision)
    ]
    files = {
        "tty": guest.tty,
        "hostname": guest.hostname,
        "environment": enter,
        "launch": "\n".join([f". /{HOME}/environment", *provision, f"exec {shell_words(guest.cmd)}", ""]),
        "execute": f'. /{HOME}/environment\n. "$1"\nexec "$@"\n',
        "inputs": "".join(f"{drive.device} {drive.target}\n" for drive in guest.inputs),
        "outputs": "".join(f"{drive.device} {drive.target}\n" for drive in guest.outputs),
    }
    if isinstance(guest.root, str):
        files["root"] = f"{guest.root}\n"
    if guest.cards:
        files["network"] = "".join(card.line for card in guest.cards)
    return files


def _script(index: int, name: str) -> str:
    return f"{index:03d}-{re.sub(r'[^a-zA-Z0-9_.-]', '-', name)[:64]}"
