"""Volumes of GlusterFS, mounted with the system's client (``spec/execution.md`` 5, type ``glusterfs``).

The client is a program that runs as root and speaks to hosts that the job names, so the owner must allow it. TLS
material goes into files of mode 0600 and never into arguments or the environment. Where these lie takes three options of the same
name, of which ``mount.glusterfs`` keeps the last only: with TLS the client itself is started, and looked at as that does.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import trio

from dms.identity.files import make_private_directory, write_private
from dms.storage.egress import Egress, Resolve, permitted, resolve
from dms.storage.errors import InvalidStorageSpec, ProviderMissing, TransferFailed
from dms.storage.mounts import can_mount
from dms.storage.tree import remove_tree, room_watched

PORT = 24007
MOUNT_TIMEOUT_S = 60.0
MAX_SERVERS = 16
MAX_PEM_CHARS = 64 << 10
HELPER, CLIENT = "mount.glusterfs", "glusterfs"
ROOT_INODE = "1"
"""Of a volume that is truly mounted: the client returns before it has spoken to the servers."""
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?|\[?[0-9A-Fa-f:]{2,45}\]?")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,127}")


@dataclass(frozen=True, slots=True)
class GlusterParams:
    """Which volume of which servers; the TLS material is PEM text and does not print."""

    name: str
    servers: tuple[str, ...]
    private_key: str = field(default="", repr=False)
    certificate: str = field(default="", repr=False)
    authority: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        """See that all of it can be.

        :raises InvalidStorageSpec: it cannot.
        """
        if not self.servers or len(self.servers) > MAX_SERVERS:
            raise InvalidStorageSpec(f"glusterfs needs 1 to {MAX_SERVERS} servers")
        if bad := [server for server in self.servers if not _HOST.fullmatch(server)]:
            raise InvalidStorageSpec(f"{bad[0][:80]!r} is no host")
        if not _NAME.fullmatch(self.name):
            raise InvalidStorageSpec(f"{self.name[:80]!r} is no name of a glusterfs volume")
        given = [bool(part) for part in (self.private_key, self.certificate, self.authority)]
        if any(given) and not all(given):
            raise InvalidStorageSpec("glusterfs needs client_private_key, client_pem and client_ca together, or none")
        for part in (self.private_key, self.certificate, self.authority):
            if part and (not part.lstrip().startswith("-----BEGIN ") or len(part) > MAX_PEM_CHARS):
                raise InvalidStorageSpec("the TLS material of glusterfs must be PEM")

    @property
    def has_tls(self) -> bool:
        """Whether the servers are spoken to by TLS."""
        return bool(self.private_key)


class GlusterClient:
    """Mounts with the client of this machine. ``path`` is where programs are looked for."""

    def __init__(
        self,
        *,
        is_allowed: bool,
        egress: Egress,
        lookup: Resolve = resolve,
        path: str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    ) -> None:
        self._is_allowed = is_allowed
        self._egress = egress
        self._lookup = lookup
        self._path = path

    def check(self) -> None:
        """See whether anything can be mounted.

        :raises ProviderMissing: with the reason.
        """
        if not self._is_allowed:
            raise ProviderMissing(
                "glusterfs is not allowed here", hint="the owner allows it with storage.allow_glusterfs"
            )
        if self._find(HELPER) is None:
            raise ProviderMissing(f"the glusterfs client is not installed: there is no {HELPER}")
        if not can_mount():
            raise ProviderMissing("this program may not mount", hint="it needs the capability CAP_SYS_ADMIN")

    async def mount(self, params: GlusterParams, target: Path, secrets_dir: Path, *, read_only: bool) -> None:
        """Mount it at ``target``. ``secrets_dir`` holds the TLS material as long as it is mounted.

        :raises ProviderMissing: this machine cannot.
        :raises AddressRefused: a server that jobs may not reach.
        :raises TransferFailed: the client gave up, with its reason.
        """
        self.check()
        for server in params.servers:
            try:
                await permitted(self._egress, server.strip("[]"), PORT, self._lookup)
            except OSError as exc:
                raise TransferFailed(f"{server} cannot be resolved: {exc.strerror or exc}") from exc
        if params.has_tls:
            with room_watched(secrets_dir):
                await trio.to_thread.run_sync(_write_secrets, params, secrets_dir)
        said = "it did not end in time"
        with trio.move_on_after(MOUNT_TIMEOUT_S):
            said = await self._mount(params, target, secrets_dir, read_only=read_only)
        if said:
            with trio.move_on_after(MOUNT_TIMEOUT_S, shield=True):
                if params.has_tls:
                    await self._run(["umount", "-l", str(target)])
                await trio.to_thread.run_sync(remove_tree, secrets_dir)
            raise TransferFailed(f"glusterfs cannot mount {params.name}: {said}")

    async def _mount(self, params: GlusterParams, target: Path, secrets_dir: Path, *, read_only: bool) -> str:
        """What is wrong; empty: nothing."""
        result = await self._run(self.command(params, target, secrets_dir, read_only=read_only))
        if result.returncode != 0:
            return _last_line(result.stdout)
        if not params.has_tls:
            return ""  # the helper has looked
        seen = await self._run(["stat", "-c", "%i", str(target)])
        if seen.returncode == 0 and seen.stdout.strip() == ROOT_INODE.encode():
            return ""
        return "the servers do not answer, or the certificates do not fit; the log of the client says more"

    async def _run(self, command: list[str]) -> subprocess.CompletedProcess[bytes]:
        return await trio.run_process(
            command, stdin=b"", capture_stdout=True, stderr=subprocess.STDOUT, check=False, env={"PATH": self._path}
        )

    def command(self, params: GlusterParams, target: Path, secrets_dir: Path, *, read_only: bool) -> list[str]:
        """What is run."""
        if params.has_tls:
            command = [self._find(CLIENT) or CLIENT, "--process-name", "fuse", "--fuse-mountopts=nosuid,nodev"]
            command += ["--read-only"] if read_only else []
            command += [f"--volfile-server={server}" for server in params.servers]
            for option, name in (("own-cert", "pem"), ("private-key", "key"), ("ca-list", "ca")):
                command.append(f"--xlator-option=*.transport.socket.ssl-{option}={secrets_dir}/glusterfs.{name}")
            return [*command, f"--volfile-id=/{params.name}", str(target)]
        options = ["nosuid", "nodev", "ro" if read_only else "rw"]
        if len(params.servers) > 1:
            options.append(f"backup-volfile-servers={':'.join(params.servers[1:])}")
        return [
            self._find(HELPER) or HELPER,
            f"{params.servers[0]}:/{params.name}",
            str(target),
            "-o",
            ",".join(options),
        ]

    def _find(self, program: str) -> str | None:
        return shutil.which(program, path=self._path)


def _write_secrets(params: GlusterParams, directory: Path) -> None:
    make_private_directory(directory)
    for name, content in (("pem", params.certificate), ("key", params.private_key), ("ca", params.authority)):
        write_private(directory / f"glusterfs.{name}", content.encode())


def _last_line(output: bytes | None) -> str:
    lines = (output or b"").decode("utf-8", "replace").strip().splitlines()
    shown = "".join(char for char in (lines[-1] if lines else "no reason given") if char.isprintable())
    return shown[:200]
